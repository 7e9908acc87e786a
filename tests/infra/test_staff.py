"""The command line of staff: what it prints, what it keeps, and the exit code that says how it went."""

import json
import stat

import httpx
import pytest
import typer
from typer.testing import CliRunner

from infra import staff

ORIGIN = "http://127.0.0.1:9"


class ScriptedApi:
    """Answers in the place of an origin, and notes what it was asked."""

    def __init__(self):
        self.answers = {}
        self.asked = []

    def on(self, method, path, *documents, status=200):
        """Each question gets the next document; the last one is repeated."""
        self.answers[method, path] = [(status, document) for document in documents]

    def request(self, method, url, *, json=None, headers=None, timeout=None, trust_env=None):
        request = httpx.Request(method, url)
        path = request.url.path.removeprefix("/api/staff/v1")
        self.asked.append((method, path, json, headers.get("authorization")))
        answers = self.answers[method, path]
        status, document = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(document, Exception):
            raise document
        if isinstance(document, str):
            return httpx.Response(status, text=document, request=request)
        return httpx.Response(status, json=document, request=request)


@pytest.fixture
def api(monkeypatch):
    api = ScriptedApi()
    monkeypatch.setattr(httpx, "request", api.request)
    api.on(
        "POST",
        "/login",
        {"token": "t0ken", "email": "anna@example.com", "role": "editor", "expires_at": "2026-12-21T00:00:00Z"},
    )
    return api


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command as in a folder without a shop; gives exit code and what was printed."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NEARSHELF_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("NEARSHELF_ORIGIN_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(staff.login)
    app.command()(staff.logout)
    app.command()(staff.purge)
    for name, group in (
        ("price", staff.price_app),
        ("rate", staff.rate_app),
        ("stock", staff.stock_app),
        ("product", staff.product_app),
    ):
        app.add_typer(group, name=name)

    def run(*arguments, typed=None):
        return CliRunner().invoke(app, arguments, input=typed)

    return run


@pytest.fixture
def signed_in(run, api, monkeypatch):
    monkeypatch.setenv("NEARSHELF_ORIGIN_URL", ORIGIN)
    done = run("login", "--email", "anna@example.com", typed="secret secret\n")
    assert done.exit_code == 0, done.output
    api.asked.clear()
    return run


CHANGED = {
    "position": "1.7",
    "purge_id": "a-b",
    "price": {"sku": "LAMP-1", "market": "eu-eur", "amount": "12.00", "currency": "EUR", "source": "explicit"},
}


def report(state="live", waiting=(), ran_out=(), flushed=True, standbys=("standby1",), wrong=(), final=True):
    return {
        "position": "1.7",
        "state": state,
        "elapsed_ms": 231.4,
        "final": final,
        "workers": [
            {
                "edge": edge,
                "worker": f"{edge}-worker-0123",
                "outcome": "waiting" if edge in waiting else "lease ran out" if edge in ran_out else "acknowledged",
                "ms": 91.0,
            }
            for edge in ("ap", "eu", "us")
        ],
        "standbys": [{"name": name, "flushed": flushed} for name in standbys],
        "read_back": [
            {
                "edge": edge,
                "amount": "11.00" if edge in wrong else "12.00",
                "currency": "EUR",
                "as_expected": edge not in wrong,
                "ms": 3.2,
                "cache_status": f"nearshelf-{edge}; fwd=stale; stored",
                "error": None,
                "status": 200,
            }
            for edge in ("ap", "eu", "us")
            if state != "waiting"
        ],
    }


# --- signing in ---


def test_a_session_is_kept_where_nobody_else_can_read_it(run, api, tmp_path):
    done = run("login", "--url", ORIGIN, "--email", "anna@example.com", typed="secret secret\n")
    assert done.exit_code == 0
    assert f"signed in at {ORIGIN} as anna@example.com (editor) until 2026-12-21" in done.output
    assert "secret" not in done.output
    kept = tmp_path / "config" / "nearshelf" / "sessions.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert json.loads(kept.read_text())[ORIGIN]["token"] == "t0ken"
    assert api.asked[0][2] == {"email": "anna@example.com", "password": "secret secret"}
    assert [each.name for each in kept.parent.iterdir()] == ["sessions.json"]


def test_a_password_may_come_from_a_file(run, api, tmp_path):
    (tmp_path / "password").write_text("from a file\nnot this\n")
    assert run("login", "--url", ORIGIN, "--email", "a@b", "--password-file", "password").exit_code == 0
    assert api.asked[0][2]["password"] == "from a file"
    missing = run("login", "--url", ORIGIN, "--email", "a@b", "--password-file", "nowhere")
    assert (missing.exit_code, "cannot be read" in missing.stderr) == (2, True)


def test_at_the_shop_that_runs_here_a_login_without_options_is_the_first_admin_s(run, api, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "pw").write_text("made by up\n")
    shop = {"ORIGIN_URL": ORIGIN, "ADMIN_EMAIL": "admin@example.com", "ADMIN_PASSWORD_FILE": str(tmp_path / "pw")}
    (tmp_path / "state" / "env.json").write_text(json.dumps(shop))
    assert run("login").exit_code == 0
    assert api.asked[0][2] == {"email": "admin@example.com", "password": "made by up"}


def test_the_shop_of_a_folder_above_is_found(run, api, tmp_path, monkeypatch):
    (tmp_path / ".nearshelf").mkdir()
    (tmp_path / ".nearshelf" / "env.json").write_text(json.dumps({"ORIGIN_URL": ORIGIN}))
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "deeper")
    assert f"not signed in at {ORIGIN}" in run("price", "show", "LAMP-1").stderr


def test_signing_out_forgets_the_token_here_and_ends_the_session_there(signed_in, api, tmp_path):
    api.on("POST", "/logout", {"signed_out": "anna@example.com"})
    assert signed_in("logout").exit_code == 0
    assert api.asked == [("POST", "/logout", None, "Bearer t0ken")]
    assert json.loads((tmp_path / "config" / "nearshelf" / "sessions.json").read_text()) == {}
    assert "not signed in" in signed_in("logout").stdout


# --- what is refused ---


def test_without_a_shop_it_says_which_ways_there_are_to_name_one(run):
    done = run("price", "show", "LAMP-1")
    assert done.exit_code == 2
    assert "nearshelf up" in done.stderr
    assert "--url" in done.stderr


@pytest.mark.parametrize("url", ["http://[::bad", "http://a:99999", "http://a:b", "http://", "ftp://a", "shop"])
def test_an_address_that_is_none_is_refused(run, url):
    done = run("login", "--url", url, "--email", "a@example.com")
    assert done.exit_code == 2
    assert f"{url!r} is not the address of an origin" in done.stderr


def test_whoever_is_not_signed_in_is_told_how_to(run, api):
    done = run("price", "show", "LAMP-1", "--url", ORIGIN)
    assert done.exit_code == 2
    assert f"nearshelf login --url {ORIGIN}" in done.stderr
    assert api.asked == []


@pytest.mark.parametrize(
    ("status", "answer", "code", "said"),
    [
        (422, {"detail": "'12,00' is not an amount"}, 2, "'12,00' is not an amount"),
        (404, {"detail": "unknown SKU 'LAMP', did you mean LAMP-1?"}, 2, "did you mean LAMP-1?"),
        (404, {"detail": "unknown market 'x', known are eu-eur"}, 2, "known are eu-eur"),
        (409, {"detail": "was changed by ben"}, 2, "was changed by ben"),
        (403, {"detail": "a price change needs the role editor"}, 2, "needs the role editor"),
        (401, {"detail": "no"}, 2, "run: nearshelf login"),
        (503, {"detail": "the database cannot be reached"}, 1, "cannot be reached"),
        (200, "<html>", 1, "is this the origin of a nearshelf shop?"),
        (200, httpx.ConnectError("refused"), 1, "is it running"),
    ],
)
def test_what_the_origin_refuses_is_told_in_its_words(signed_in, api, status, answer, code, said):
    api.on("PUT", "/products/LAMP-1/prices/eu-eur", answer, status=status)
    done = signed_in("price", "set", "LAMP-1", "12.00", "--market", "eu-eur")
    assert done.exit_code == code
    assert said in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize("arguments", [(), ("--tag", "a", "--product", "b"), ("--product", "a", "--category", "b")])
def test_a_purge_names_one_thing(signed_in, api, arguments):
    done = signed_in("purge", *arguments)
    assert (done.exit_code, "one of --tag, --product and --category" in done.stderr) == (2, True)


# --- watching ---


def test_a_change_is_watched_until_it_is_live(signed_in, api):
    api.on("PUT", "/products/LAMP-1/prices/eu-eur", CHANGED)
    api.on("GET", "/changes/1.7", report("waiting", waiting=("ap", "eu"), final=False), report())
    done = signed_in("price", "set", "LAMP-1", "12.00", "-m", "eu-eur", "--reason", "sale", "--expected-version", "0")
    assert done.exit_code == 0, done.output
    assert api.asked[0][2] == {"reason": "sale", "expected_version": 0, "amount": "12.00"}
    lines = done.stdout.splitlines()
    assert lines[0] == "LAMP-1 in eu-eur: 12.00 EUR (explicit); saved at 1.7"
    assert lines[1].split() == ["edge", "worker", "outcome", "ms"]
    assert lines[2].split() == ["ap", "ap-wor", "applied", "91"]
    assert ["standby1", "yes"] in [line.split() for line in lines]
    assert any(line.startswith("eu") and "12.00 EUR" in line and "nearshelf-eu; fwd=stale" in line for line in lines)
    assert lines[-1] == "live in 231 ms: 3 of 3 workers"


@pytest.mark.parametrize(
    ("last", "timeout", "code", "verdict"),
    [
        pytest.param(
            report(ran_out=("eu",)),
            "10",
            0,
            "live in 231 ms: 3 of 3 workers, of which the lease of eu eu-wor was waited out",
            id="a lease was waited out",
        ),
        pytest.param(
            report(wrong=("ap",)),
            "10",
            0,
            "live in 231 ms: 3 of 3 workers; not read back as expected from ap",
            id="an edge shows something else",
        ),
        pytest.param(
            report("shown", standbys=()),
            "10",
            3,
            "shown everywhere, not yet replicated: 3 of 3 workers, no standby is connected",
            id="no standby",
        ),
        pytest.param(
            report("shown", flushed=False, final=False),
            "0",
            3,
            "shown everywhere, not yet replicated: 3 of 3 workers, waiting for standby1",
            id="a slow standby",
        ),
        pytest.param(
            report("waiting", waiting=("ap", "eu"), final=False),
            "0",
            4,
            "not live after 0 s: 1 of 3 workers, waiting for ap ap-wor, eu eu-wor",
            id="time is up",
        ),
        pytest.param(report("lost") | {"verdict": "lost: it was"}, "10", 4, "lost: it was; make it again", id="lost"),
    ],
)
def test_the_last_line_and_the_exit_code_say_how_it_went(signed_in, api, last, timeout, code, verdict):
    api.on("POST", "/purges", {"position": "1.7", "purge_id": "x", "kind": "hard", "tags": ["n:eu-eur"]})
    api.on("GET", "/changes/1.7", last)
    done = signed_in("purge", "--tag", "n:eu-eur", "--timeout", timeout)
    assert done.exit_code == code
    assert done.stdout.splitlines()[-1] == verdict
    assert api.asked[0][2] == {"kind": "hard", "reason": "", "tags": ["n:eu-eur"]}


def test_an_edge_that_does_not_answer_is_told_apart_from_one_that_shows_something_else(signed_in, api):
    last = report(wrong=("ap",))
    last["read_back"][1] |= {"amount": None, "as_expected": False, "status": 503}
    last["read_back"][2] |= {"amount": None, "as_expected": False, "status": 0, "error": "connection refused"}
    api.on("POST", "/purges", {"position": "1.7", "purge_id": "x", "kind": "hard", "tags": ["n:eu-eur"]})
    api.on("GET", "/changes/1.7", last)
    shown = signed_in("purge", "--tag", "n:eu-eur").stdout
    assert "11.00 EUR (unexpected)" in shown
    assert "answered 503" in shown
    assert "connection refused" in shown


def test_without_waiting_it_says_where_to_look(signed_in, api):
    api.on("POST", "/purges", {"position": "1.7", "purge_id": "x", "kind": "soft", "tags": ["a", "b", "c", "d"]})
    done = signed_in("purge", "--category", "lighting", "--market", "eu-eur", "--soft", "--no-wait")
    assert done.exit_code == 0
    assert api.asked[0][2] == {"kind": "soft", "reason": "", "category": "lighting", "market": "eu-eur"}
    assert done.stdout.strip() == (
        f"purged soft: a, b, c and 1 more; saved at 1.7, {ORIGIN}/console/changes/1.7 shows how far it is"
    )


def test_going_back_to_the_converted_price(signed_in, api):
    api.on("DELETE", "/products/LAMP-1/prices/eu-eur", CHANGED)
    assert signed_in("price", "set", "LAMP-1", "converted", "-m", "eu-eur", "--no-wait").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "path", "body", "answer", "said"),
    [
        (
            ("rate", "set", "USD", "EUR", "0.90"),
            "/rates/USD/EUR",
            {"rate": "0.90"},
            {"rate": {"base": "USD", "quote": "EUR", "rate": "0.9", "markets": ["eu-eur", "ie-eur"]}},
            "1 USD is 0.9 EUR, for eu-eur, ie-eur; saved at 1.7",
        ),
        (
            ("stock", "set", "LAMP-1", "3"),
            "/products/LAMP-1/stock",
            {"on_hand": 3},
            {"stock": {"sku": "LAMP-1", "on_hand": 3, "band": "low", "before": "in_stock"}},
            "LAMP-1: 3 on hand, low; saved at 1.7",
        ),
        (
            ("product", "takedown", "LAMP-1"),
            "/products/LAMP-1/listing",
            {"listed": False},
            {"listing": {"sku": "LAMP-1", "listed": False}},
            "LAMP-1 is taken down; saved at 1.7",
        ),
        (
            ("product", "list", "LAMP-1"),
            "/products/LAMP-1/listing",
            {"listed": True},
            {"listing": {"sku": "LAMP-1", "listed": True}},
            "LAMP-1 is in the shop; saved at 1.7",
        ),
    ],
)
def test_rates_stock_and_listings_are_watched_like_prices(signed_in, api, arguments, path, body, answer, said):
    api.on("PUT", path, {"position": "1.7", "purge_id": "a-b", **answer})
    api.on("GET", "/changes/1.7", report())
    done = signed_in(*arguments, "--reason", "why")
    assert done.exit_code == 0, done.output
    assert api.asked[0][2] == {**body, "reason": "why"}
    assert done.stdout.splitlines()[0] == said
    assert done.stdout.splitlines()[-1] == "live in 231 ms: 3 of 3 workers"


def test_stock_that_shows_nothing_else_has_nothing_to_wait_for(signed_in, api):
    stock = {"sku": "LAMP-1", "on_hand": 400, "band": "in_stock", "before": "in_stock"}
    api.on("PUT", "/products/LAMP-1/stock", {"position": None, "purge_id": None, "stock": stock})
    done = signed_in("stock", "set", "LAMP-1", "400")
    assert (done.exit_code, done.stdout.strip()) == (0, "LAMP-1: 400 on hand, in stock as before; saved")
    assert len(api.asked) == 1


def test_json_holds_the_change_the_report_and_the_verdict(signed_in, api):
    api.on("PUT", "/products/LAMP-1/prices/eu-eur", CHANGED)
    api.on("GET", "/changes/1.7", report("shown", standbys=()))
    done = signed_in("price", "set", "LAMP-1", "12.00", "-m", "eu-eur", "--json")
    assert done.exit_code == 3
    document = json.loads(done.stdout)
    assert document["changed"] == CHANGED
    assert document["report"]["workers"][0]["outcome"] == "acknowledged"
    assert (document["exit_code"], document["verdict"].partition(":")[0]) == (3, "shown everywhere, not yet replicated")


def test_a_product_is_shown_with_where_its_prices_come_from(signed_in, api):
    price = {"market": "eu-eur", "currency": "EUR", "amount": "8.60", "source": "converted", "version": 0}
    base = {"amount": "10.00", "currency": "USD"}
    api.on(
        "GET",
        "/products/LAMP-1",
        {
            "sku": "LAMP-1",
            "name": "Brass Lamp",
            "band": "in_stock",
            "prices": [
                {**price, "base": base, "rate": "0.86"},
                {**price, "market": "gb-gbp", "source": "explicit", "base": base, "rate": None, "version": 2},
                {**price, "market": "jp-jpy", "amount": None, "source": None, "base": None, "rate": None},
            ],
        },
    )
    done = signed_in("price", "show", "LAMP-1")
    assert done.stdout.splitlines() == [
        "Brass Lamp (LAMP-1), in stock",
        "market  price     from              version",
        "eu-eur  8.60 EUR  10.00 USD × 0.86  0",
        "gb-gbp  8.60 EUR  own price         2",
        "jp-jpy  not sold  no base price     0",
    ]
    assert json.loads(signed_in("price", "show", "LAMP-1", "--json").stdout)["name"] == "Brass Lamp"


# --- many prices at once ---

SALE = "sku,market,amount\nLAMP-1,eu-eur,8.00\nMUG-1,jp-jpy,1500\n"


def test_prices_in_a_file_are_one_change(signed_in, api, tmp_path):
    api.on("PUT", "/prices", {"position": "1.7", "purge_id": "a-b", "prices": []})
    api.on("GET", "/changes/1.7", report())
    (tmp_path / "sale.csv").write_text(SALE)
    done = signed_in("price", "batch", "sale.csv", "--reason", "sale")
    assert done.exit_code == 0, done.output
    rows = [
        {"sku": "LAMP-1", "market": "eu-eur", "amount": "8.00"},
        {"sku": "MUG-1", "market": "jp-jpy", "amount": "1500"},
    ]
    assert api.asked[0][:3] == ("PUT", "/prices", {"prices": rows, "reason": "sale"})
    assert done.stdout.splitlines()[0] == "2 prices in eu-eur, jp-jpy; saved at 1.7"
    assert done.stdout.splitlines()[-1] == "live in 231 ms: 3 of 3 workers"
    api.asked.clear()
    piped = signed_in("price", "batch", "-", "--no-wait", typed='{"sku": "MUG-1", "market": "jp-jpy", "amount": 1500}')
    assert (piped.exit_code, api.asked[0][2]["prices"]) == (0, rows[1:])
    assert piped.stdout.startswith("1 price in jp-jpy; saved at 1.7")


def test_faults_of_a_file_are_told_by_line_and_nothing_is_sent(signed_in, api, tmp_path):
    (tmp_path / "sale.csv").write_text("sku,market,amount\nLAMP-1,eu-eur\n,eu-eur,1\n")
    done = signed_in("price", "batch", "sale.csv")
    assert (done.exit_code, api.asked) == (2, [])
    assert done.stderr.splitlines() == [
        "error: 2 faults, nothing was changed",
        "sale.csv:2:14: amount: missing",
        "sale.csv:3:1: sku: missing",
    ]
    nowhere = signed_in("price", "batch", "nowhere.csv")
    assert (nowhere.exit_code, nowhere.stderr) == (2, "error: nowhere.csv cannot be read: No such file or directory\n")


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        pytest.param(
            422,
            {
                "detail": "nothing was changed",
                "errors": [{"pointer": "prices.1.amount", "detail": "JPY has no digits"}],
            },
            "sale.csv:3:14: amount: JPY has no digits",
            id="a fault",
        ),
        pytest.param(
            409,
            {"detail": "version 2 by now", "theirs": {"sku": "LAMP-1", "market": "eu-eur"}},
            "sale.csv:2:1: expected_version: version 2 by now",
            id="somebody was quicker",
        ),
        pytest.param(403, {"detail": "viewers may not"}, "error: viewers may not", id="not about the file"),
    ],
)
def test_what_the_origin_refuses_is_told_by_line(signed_in, api, tmp_path, status, answer, said):
    api.on("PUT", "/prices", answer, status=status)
    (tmp_path / "sale.csv").write_text(SALE)
    done = signed_in("price", "batch", "sale.csv")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, said)
