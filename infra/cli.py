"""The entry point of the command `nearshelf`: answers quickly, and turns every error into words."""

from __future__ import annotations

import sys


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out one command; its exit status. With `--debug` anywhere, errors come with their traceback."""
    if arguments in (["--version"], ["-V"]):
        print(f"nearshelf {version()}")
        return 0
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]

    from infra.errors import CommandError, complain

    if (odd := _not_text(arguments)) is not None:
        # Python keeps bytes that are not text as lone surrogates; nobody that we talk to could be told them.
        complain(f"{odd!a} is not UTF-8 text; write every argument as UTF-8")
        return 2
    try:
        from infra import commands

        commands.command().main(args=arguments, prog_name="nearshelf")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except KeyboardInterrupt:
        return 130
    except CommandError as exc:
        if debug:
            raise
        complain(str(exc))
        return 1
    except Exception as exc:
        if debug:
            raise
        complain(
            f"unexpected {type(exc).__name__}: {exc}\n"
            "  this is a fault of nearshelf; the same command with --debug shows where it happened"
        )
        return 70
    return 0


def _not_text(arguments: list[str]) -> str | None:
    """The first argument that cannot be written as UTF-8."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            return argument
    return None


def version() -> str:
    from importlib.metadata import version as installed

    return installed("nearshelf")


if __name__ == "__main__":
    main()
