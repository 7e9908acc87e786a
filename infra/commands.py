"""The commands of `nearshelf`: what they are called, what they take, and which room does the work.

Imported by infra.cli only when there is something to do; each command imports its room when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cache_policies.folder import folder_called, profiles, why_unreadable
from infra import staff
from infra.cli import version
from infra.failover.command import failover
from infra.fault_commands import fault
from infra.load import load
from infra.policy import commands as policy_commands
from infra.running_shop import State, ask_shop

app = typer.Typer(
    name="nearshelf",
    help="An edge-first CDN gateway in front of a shop with a single origin region.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def command() -> Any:
    """The whole command line, ready to be called."""
    return typer.main.get_command(app)


@app.callback()
def nearshelf(
    show_version: Annotated[bool, typer.Option("--version", "-V", help="Say which version this is.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if show_version:
        print(f"nearshelf {version()}")
        raise typer.Exit


# --- the local shop -------------------------------------------------------------------------------------------


@app.command()
def up(
    port_base: Annotated[
        int, typer.Option(metavar="N", help="The origin's port; the others follow it. 0: free ports.")
    ] = 8080,
    rtt: Annotated[
        list[str] | None,
        typer.Option(metavar="EDGE=MS", help="Round trip to the origin in ms; repeat it. [us=2, eu=80, ap=180]"),
    ] = None,
    products: Annotated[
        int, typer.Option(metavar="N", help="Size of the demo catalog that a first start makes; 0: none.")
    ] = 5000,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed makes the same catalog.")] = 1,
    origin_workers: Annotated[int, typer.Option(metavar="N", help="Processes of the origin.")] = 2,
    edge_workers: Annotated[int, typer.Option(metavar="N", help="Processes of each edge.")] = 2,
    failover: Annotated[
        Literal["auto", "hand"] | None,
        typer.Option(help="Who replaces a lost primary. [auto; hand for servers of others (DATABASE_URL)]"),
    ] = None,
    *,
    accept_loss: Annotated[
        bool,
        typer.Option("--accept-loss", help="Make the standby the primary, though it may lack changes, if it must be."),
    ] = False,
    state: State,
    ready_file: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write the addresses there, as JSON, once everything answers.")
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove the state folder and everything in it, and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what goes wrong.")] = False,
) -> None:
    """Run the whole shop on this machine: databases, origin, three edges.

    Stays in the foreground; Ctrl-C stops everything and leaves nothing behind but the state folder.

    \b
    Examples:
      nearshelf up
      nearshelf up --rtt eu=120 --rtt ap=300 --products 20000
      nearshelf up --port-base 0 --state /tmp/shop --ready-file /tmp/ready.json
      nearshelf up --clean
    """
    from infra.local import supervisor, topology

    if clean:
        removed = supervisor.clean(state)
        if not quiet:
            print(f"removed {state}" if removed else f"there is no {state}; nothing to remove")
        return
    options = topology.Options(
        port_base=port_base,
        rtt_ms=topology.parse_rtts(rtt or ()),
        origin_workers=origin_workers,
        edge_workers=edge_workers,
        products=products,
        seed=seed,
        failover=failover,
        accept_loss=accept_loss,
    )
    raise typer.Exit(supervisor.up(options, state, ready_file=ready_file, quiet=quiet))


@app.command()
def status(
    state: State,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Show the processes of the running shop, their ports, the standby's lag and the faults in force.

    \b
    Examples:
      nearshelf status
      nearshelf status --json
    """
    from infra.local import reports

    reports.show_status(ask_shop(state, {"do": "status"}), as_json=as_json)


app.command()(failover)

app.add_typer(fault, name="fault")


# --- an edge for any origin ------------------------------------------------------------------------------------


@app.command()
def edge(
    origin: Annotated[
        list[str],
        typer.Option(metavar="URL", help="Where requests go; repeat it for several. NAME=URL: of origins.yaml."),
    ],
    policies: Annotated[
        str, typer.Option(metavar="FOLDER", help="Where the policies are, or a profile's name.")
    ] = "rfc9111",
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where viewers come in.")] = "127.0.0.1:8080",
    admin: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Explorer, purges and health; left out: none.")
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes.")] = 1,
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name that viewers know it by, beside this machine's own; repeat it."),
    ] = None,
    store_size: Annotated[str, typer.Option(metavar="SIZE", help="Memory for responses, of each worker.")] = "256MB",
    regional: Annotated[
        str | None, typer.Option(metavar="URL", help="Redis that the workers share: redis://HOST:PORT/0.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain (PEM): speak TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key (PEM).")] = None,
    access_log: Annotated[
        str, typer.Option(metavar="FILE", help="A line of JSON for each request; - for standard output.")
    ] = "",
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where purges are kept; by default in ~/.local/state/nearshelf.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="What it is called in logs and Cache-Status.")] = "site",
) -> None:
    """Run an edge in front of any origin: no database, no configuration but the policies (docs/edge.md).

    Stays in the foreground; Ctrl-C answers what was begun and stops everything. Exit status 2: it cannot start.

    \b
    Examples:
      nearshelf edge --origin http://127.0.0.1:8000 --admin 127.0.0.1:8081
      nearshelf edge --origin http://10.0.0.1 --origin http://10.0.0.2 --policies my-policies/ --workers 4
      nearshelf edge --origin http://127.0.0.1:8000 --listen 0.0.0.0:443 --host shop.example \\
        --tls-cert chain.pem --tls-key key.pem
    """
    import os

    from edge.site.parent import run
    from edge.site.settings import SiteError, SiteSettings, address_of, checked_origins, default_state, size_of
    from infra.errors import complain

    try:
        listener = address_of("--listen", listen)
        settings = SiteSettings(
            origins=checked_origins(origin),
            listen=listener,
            policies=_policies(policies),
            name=name,
            state=state or default_state(os.environ, listener),
            workers=workers,
            admin=None if admin is None else address_of("--admin", admin),
            store_bytes=size_of("--store-size", store_size),
            regional=regional or "",
            hosts=tuple(each.lower() for each in host or ()),
            tls_cert=tls_cert,
            tls_key=tls_key,
            access_log=access_log,
            admin_token=os.environ.get("NEARSHELF_ADMIN_TOKEN", ""),
        )
        status = run(settings, os.environ)
    except SiteError as exc:
        complain(str(exc))
        raise typer.Exit(2) from None
    raise typer.Exit(status)


# --- staff ---------------------------------------------------------------------------------------------------

app.command()(staff.login)
app.command()(staff.logout)
app.add_typer(staff.price_app, name="price")
app.add_typer(staff.rate_app, name="rate")
app.add_typer(staff.stock_app, name="stock")
app.add_typer(staff.product_app, name="product")
app.command()(staff.purge)


# --- catalog, policies, the other edge --------------------------------------------------------------------------

catalog = typer.Typer(help="The shop's products and categories.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(catalog, name="catalog")


@catalog.command("import")
def catalog_import(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON lines, gzipped or not.")],
    keep_valid: Annotated[
        bool, typer.Option("--keep-valid", help="Import the rows without faults; else one fault stops everything.")
    ] = False,
    rejects: Annotated[
        Path | None, typer.Option(metavar="PATH", help="With --keep-valid: where the other rows go, as they were.")
    ] = None,
    *,
    state: State,
) -> None:
    """Import products and categories (docs/catalog-import.md), and report every fault with its line and field.

    The database is that of the running shop, or the one in DATABASE_URL.

    \b
    Examples:
      nearshelf catalog import categories.jsonl products.jsonl.gz
      nearshelf catalog import products.jsonl --keep-valid --rejects rejected.jsonl
    """
    import os

    from infra.errors import CommandError
    from infra.local.state import read_env
    from origin.catalog import import_command

    if rejects is not None and not keep_valid:
        raise CommandError("--rejects has rows to write only with --keep-valid")
    dsn = os.environ.get("DATABASE_URL") or read_env(state)["DATABASE_URL"]
    raise typer.Exit(import_command.command(files, keep_valid=keep_valid, rejects=rejects, dsn=dsn))


app.add_typer(policy_commands.policy, name="policy")
app.add_typer(load, name="load")


def _policies(name: str) -> Path:
    folder = folder_called(name)
    if why := why_unreadable(folder):
        raise typer.BadParameter(f"{name} cannot be read: {why}; let this user read the folder and enter it")
    if not folder.is_dir():
        raise typer.BadParameter(f"{name} is neither a folder nor a profile ({', '.join(profiles())})")
    return folder


Policies = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        parser=_policies,
        help="Where the *.yaml files are, or the name of a profile; left out: those of this shop.",
    ),
]

aws = typer.Typer(help="The same shop on CloudFront.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(aws, name="aws")


@aws.command("compile")
def aws_compile(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the files are written.")],
    policies: Policies = None,
    host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name of the shop beside the distribution's; repeat it.")
    ] = None,
) -> None:
    """Compile the policies for CloudFront: templates, Functions, Lambda@Edge packages, and what differs.

    \b
    Examples:
      nearshelf aws compile --out build/aws
      nearshelf aws compile --out build/aws --host shop.example --host www.shop.example
    """
    from cache_policies.reading import PolicyError
    from infra.aws.compile import CompileError, compile_to, is_host_name
    from infra.aws.functions import FunctionTooLarge
    from infra.aws.package_lambda import PackageTooLarge
    from infra.errors import CommandError

    for name in host or ():
        if not is_host_name(name):
            raise CommandError(
                f"--host {name!r} is no name of a shop: expected one such as shop.example, without scheme, port or "
                "wildcard; repeat --host for each name"
            )
    try:
        report = compile_to(policies, out, host or ())
    except (PolicyError, CompileError, FunctionTooLarge, PackageTooLarge) as exc:
        raise CommandError(f"nothing was compiled:\n{exc}") from exc
    except OSError as exc:
        raise CommandError(f"{exc.filename or out} cannot be written: {exc.strerror}; see --out") from exc
    print(report.text(), end="")


@aws.command("lint")
def aws_lint(
    template: Annotated[
        Path | None, typer.Argument(metavar="[TEMPLATE.json]", help="edge.json or origin-gate.json.")
    ] = None,
    policies: Policies = None,
    rules: Annotated[
        bool, typer.Option("--rules", help="List every rule with its fix and AWS's page, and exit.")
    ] = False,
) -> None:
    """Find the mistakes in a compiled template that a hand has changed: what would deploy and be wrong, be refused, or
    cost. What a schema knows is cfn-lint's.

    Exit status: 0 nothing was found, 1 something was.

    \b
    Examples:
      nearshelf aws lint build/aws/templates/edge.json
      nearshelf aws lint build/aws/templates/edge.json --policies my-policies/
      nearshelf aws lint --rules
    """
    from cache_policies.reading import PolicyError
    from infra.aws.lint import RULES, UnreadableTemplate, lint_file
    from infra.errors import CommandError

    if rules:
        for rule in sorted(RULES.values(), key=lambda rule: rule.code):
            print(f"{rule.code} {rule.title}\n  fix: {rule.fix}\n  {rule.source}")
        return
    if template is None:
        raise CommandError("no template; name the edge.json or origin-gate.json that `nearshelf aws compile` wrote")
    try:
        findings = lint_file(template, policies)
    except UnreadableTemplate as exc:
        raise CommandError(str(exc)) from exc
    except PolicyError as exc:
        raise CommandError(f"the policies that the template is held against have faults:\n{exc}") from exc
    for finding in findings:
        print(finding)
    if findings:
        print("1 finding" if len(findings) == 1 else f"{len(findings)} findings")
        raise typer.Exit(1)
    print(f"no finding in {template}: {len(RULES)} rules")
