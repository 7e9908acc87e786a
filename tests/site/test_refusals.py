"""What `nearshelf edge` refuses to start with, in the words of the command."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cache_policies.folder import folder_called
from edge.site.settings import SiteSettings, address_of
from infra.cli import run

ORIGIN = ("--origin", "http://127.0.0.1:9")
Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Carries out the command, which must fail, and gives what it says; it leaves no token."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("NO_COLOR", "1")

    def carry_out(*arguments: str) -> str:
        status = run(["edge", *arguments])
        out, err = capsys.readouterr()
        assert (status, out) == (2, "")
        assert "Traceback" not in err
        assert not list((tmp_path / "xdg").rglob("*.token"))
        return err

    return carry_out


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--origin", "127.0.0.1:8000"), "--origin 127.0.0.1:8000: expected an address without a path"),
        (("--origin", "http://127.0.0.1:8000/path"), "expected an address without a path"),
        (("--origin", "http://127.0.0.1:bad"), "expected an address"),
        (("--origin", "second=http://127.0.0.1:9"), "the default origin has no address"),
        ((*ORIGIN, "--origin", "second=http://127.0.0.1:9"), "origins.yaml declares no such origin"),
        ((*ORIGIN, "--listen", "8080"), "--listen 8080: expected HOST:PORT"),
        ((*ORIGIN, "--admin", "127.0.0.1:99999"), "--admin 127.0.0.1:99999: expected HOST:PORT"),
        ((*ORIGIN, "--store-size", "256"), "--store-size 256: expected a size such as 256MB"),
        ((*ORIGIN, "--store-size", "1kB"), "--store-size"),
        ((*ORIGIN, "--workers", "0"), "--workers 0: expected 1 to 64"),
        ((*ORIGIN, "--host", "shop.example/path"), "--host shop.example/path: expected a name"),
        ((*ORIGIN, "--name", "my site"), "--name: 'my site', expected letters"),
        ((*ORIGIN, "--regional", "localhost:6379"), "--regional"),
        ((*ORIGIN, "--policies", "nowhere"), "nowhere is neither a folder nor a profile"),
        ((*ORIGIN, "--tls-cert", "nowhere.pem"), "set alone"),
    ],
)
def test_what_cannot_be_is_said_in_the_words_of_the_command(refused, arguments, said):
    assert said in refused("--listen", "127.0.0.1:0", *arguments).replace("\n", " ")


def test_bad_policies_are_told_with_their_places(refused, tmp_path):
    (tmp_path / "default.yaml").write_text("routes:\n  all:\n    path: /{rest...}\n    colour: red\n")
    told = refused(*ORIGIN, "--listen", "127.0.0.1:0", "--policies", str(tmp_path))
    assert "default.yaml:4" in told
    assert "colour" in told


@pytest.mark.parametrize("option", ["--listen", "--admin"])
def test_a_port_that_is_taken_is_named(refused, tmp_path, taken, option):
    other = "--admin" if option == "--listen" else "--listen"
    told = refused(*ORIGIN, option, taken, other, "127.0.0.1:0", "--state", str(tmp_path / "state"))
    assert f"{option} {taken}" in told
    assert "Address already in use" in told


def test_a_token_that_is_too_short_is_refused(refused, monkeypatch):
    monkeypatch.setenv("NEARSHELF_ADMIN_TOKEN", "short")
    told = refused(*ORIGIN, "--listen", "127.0.0.1:0")
    assert "NEARSHELF_ADMIN_TOKEN: expected 16 characters or more" in told


@pytest.fixture
def free() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("listen", "admin"),
    [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "localhost"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")],
)
def test_viewers_and_operators_need_listeners_of_their_own(refused, free, listen, admin):
    told = refused(*ORIGIN, "--listen", f"{listen}:{free}", "--admin", f"{admin}:{free}")
    assert f"--admin {admin}:{free}: that is where viewers come in (--listen)" in told


@pytest.mark.parametrize("origin", ["http://127.0.0.1", "http://LOCALHOST", "http://localhost.", "http://0.0.0.0"])
@pytest.mark.parametrize("option", ["--listen", "--admin"])
def test_an_edge_is_not_its_own_origin(refused, free, origin, option):
    other = "--admin" if option == "--listen" else "--listen"
    host = "0.0.0.0" if origin.endswith("0.0") else "127.0.0.1"
    told = refused("--origin", f"{origin}:{free}", option, f"{host}:{free}", other, "127.0.0.1:0")
    assert f"that is this edge itself ({option} {host}:{free})" in told


def test_an_origin_on_another_port_or_machine_is_none(free):
    address = f"127.0.0.1:{free}"
    for origin in (f"http://192.0.2.1:{free}", "http://127.0.0.1:9", f"http://shop.example:{free}"):
        SiteSettings((origin,), address_of("--listen", address), folder_called("rfc9111"), "site", Path()).check({})


def test_an_access_log_that_cannot_be_written_is_refused(refused, tmp_path):
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file" / "log", tmp_path):
        told = refused(*ORIGIN, "--listen", "127.0.0.1:0", "--access-log", str(target))
        assert f"--access-log: '{target}' cannot be written: " in told.replace("\n", " ")


@pytest.mark.parametrize("host", ["", "http://foo"])
def test_a_host_that_is_none_is_told_once(refused, host):
    told = refused(*ORIGIN, "--listen", "127.0.0.1:0", "--host", host)
    assert told.count("expected") == 1
    assert "NEARSHELF_PUBLIC_URL" not in told


def test_what_cannot_be_listened_at_says_why(refused, tmp_path, monkeypatch):
    state = ("--state", str(tmp_path / "state"))
    told = refused(*ORIGIN, *state, "--listen", "192.0.2.1:8080")
    assert "192.0.2.1 is no address of this machine" in told

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("edge.site.parent.bind", forbidden)
    assert "CAP_NET_BIND_SERVICE" in refused(*ORIGIN, *state, "--listen", "127.0.0.1:80")
