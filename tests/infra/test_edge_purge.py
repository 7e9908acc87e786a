"""`nearshelf purge --admin`: what it sends, what it tells, and where it finds the token."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from edge.site.tokens import token_file, write_token
from infra.cli import run

WORKERS = [
    {"worker": "worker-1", "outcome": "applied", "ms": 2.0},
    {"worker": "worker-2", "outcome": "applied", "ms": 3.0},
]
DONE = {
    "position": "7.12", "id": "x", "kind": "hard", "tags": ["a", "path:/b"], "live": True, "seconds": 0.0031,
    "workers": WORKERS, "objects": 3,
}  # fmt: skip


class Listener(BaseHTTPRequestHandler):
    """An admin listener that says what the test wants."""

    asked: ClassVar[list[tuple[str, str, dict[str, Any]]]] = []
    status: ClassVar[int] = 200
    answer: ClassVar[bytes] = b""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((self.path, self.headers["authorization"], body))
        self.send_response(self.status)
        self.send_header("content-length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("NEARSHELF_STATE", str(tmp_path / "no shop"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEARSHELF_ADMIN_TOKEN", raising=False)
    Listener.asked.clear()
    answers(DONE)
    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def answers(value: Any, status: int = 200) -> None:
    Listener.status, Listener.answer = status, value if isinstance(value, bytes) else json.dumps(value).encode()


def test_the_token_of_ones_own_edge_is_found(port, monkeypatch, capsys, tmp_path):
    token = write_token(token_file({"XDG_STATE_HOME": str(tmp_path / "xdg")}, "127.0.0.1", port))
    monkeypatch.setenv("NEARSHELF_ADMIN_TOKEN", "of some other edge")
    status = run(["purge", "--admin", f"http://127.0.0.1:{port}", "--tag", "a", "--path", "/b", "--reason", "why"])
    assert status == 0
    assert Listener.asked == [
        ("/purge", f"Bearer {token}", {"soft": False, "reason": "why", "tags": ["a"], "paths": ["/b"]})
    ]
    assert capsys.readouterr().out == (
        "purged hard: a, path:/b; at 7.12\n3 stored responses found that it applies to\nlive in 3 ms: 2 of 2 workers\n"
    )


def test_else_it_is_that_of_the_environment(port, monkeypatch, capsys):
    monkeypatch.setenv("NEARSHELF_ADMIN_TOKEN", "given")
    assert run(["purge", "--admin", f"localhost:{port}", "--all", "--soft", "--json"]) == 0
    assert Listener.asked == [("/purge", "Bearer given", {"soft": True, "reason": "", "all": True})]
    assert json.loads(capsys.readouterr().out) == DONE


def test_that_of_a_shop_is_found_for_the_listeners_of_its_workers(port, monkeypatch, tmp_path):
    state = tmp_path / "shop"
    state.mkdir()
    (state / "env.json").write_text(json.dumps({"ORIGIN_URL": "http://127.0.0.1:1", "NEARSHELF_ADMIN_TOKEN": "shops"}))
    (state / "ready.json").write_text(json.dumps({"admin": {"eu": [f"http://127.0.0.1:{port}"]}}))
    monkeypatch.setenv("NEARSHELF_STATE", str(state))
    assert run(["purge", "--admin", f"http://localhost:{port}", "--tag", "a"]) == 0
    assert Listener.asked[0][1] == "Bearer shops"


@pytest.mark.parametrize(
    ("done", "status", "said"),
    [
        (
            {"live": False, "workers": [WORKERS[0], {"worker": "worker-2", "outcome": "waiting", "ms": 10_000.0}]},
            4,
            "not live: 1 of 2 workers, waiting for worker-2",
        ),
        (
            {"workers": [WORKERS[0], {"worker": "worker-2", "outcome": "lease ran out", "ms": 2_020.0}]},
            0,
            "live in 3 ms: 2 of 2 workers, of which the lease of worker-2 was waited out",
        ),
        (
            {
                "live": False,
                "state": "shown",
                "workers": [{"edge": "eu", "worker": "abcdefgh", "outcome": "acknowledged"}],
            },
            3,
            "shown everywhere, not yet replicated, in 3 ms: 1 of 1 worker",
        ),
        ({"objects": None, "tags": ["a", "b", "c", "d"]}, 0, "purged hard: a, b, c and 1 more; at 7.12\nlive in"),
    ],
)
def test_it_tells_what_came_of_it(port, monkeypatch, capsys, done, status, said):
    monkeypatch.setenv("NEARSHELF_ADMIN_TOKEN", "given")
    answers(DONE | done)
    assert run(["purge", "--admin", f"http://127.0.0.1:{port}", "--tag", "a"]) == status
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "http", "status", "said"),
    [
        ({"error": "no"}, 401, 2, "does not know the token"),
        ({"error": "it names nothing"}, 400, 2, "it names nothing"),
        ({"error": "the disk is full"}, 503, 1, "the disk is full"),
        (b"<html>", 200, 1, "not as an admin listener does"),
        ({}, 200, 1, "not as an admin listener does"),
    ],
)
def test_what_is_refused_is_told_in_the_listeners_words(port, monkeypatch, capsys, value, http, status, said):
    monkeypatch.setenv("NEARSHELF_ADMIN_TOKEN", "given")
    answers(value, http)
    assert run(["purge", "--admin", f"http://127.0.0.1:{port}", "--tag", "a"]) == status
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--admin", "http://127.0.0.1:1"), "say what to purge: --tag, --path or --all"),
        (("--admin", "ftp://x", "--all"), "expected the address of an admin listener"),
        (("--admin", "http://127.0.0.1:1", "--product", "LAMP"), "go to an origin"),
        (("--admin", "http://127.0.0.1:1", "--all"), "no token for the admin listener"),
        (("--path", "/a"), "--path and --all need --admin"),
    ],
)
def test_what_makes_no_sense_is_refused(port, capsys, arguments, said):
    assert run(["purge", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_listener_that_is_not_there_is_told_so(port, monkeypatch, capsys):
    monkeypatch.setenv("NEARSHELF_ADMIN_TOKEN", "given")
    assert run(["purge", "--admin", "http://127.0.0.1:9", "--all"]) == 1
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--tag=a,b", "--tag=a b", "--tag=a\nb", "--tag=a*", "--path=/a/*"])
def test_what_can_never_find_anything_is_not_even_sent(port, monkeypatch, capsys, option):
    monkeypatch.setenv("NEARSHELF_ADMIN_TOKEN", "given")
    assert run(["purge", "--admin", f"localhost:{port}", option]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.search("not one tag|controls|no wildcards", told.err)
    assert not Listener.asked


def test_it_says_that_nothing_was_found_and_what_of_an_address_counts(port, monkeypatch, capsys):
    monkeypatch.setenv("NEARSHELF_ADMIN_TOKEN", "given")
    answers({**DONE, "objects": 0})
    assert run(["purge", "--admin", f"localhost:{port}", "--path", "http://a.example/b?c"]) == 0
    told = capsys.readouterr().out
    assert "0 stored responses found that it applies to: nothing stored carries it; what is being fetched" in told
    assert "the path alone counts: purged at every host, whatever the query" in told
    assert run(["purge", "--admin", f"localhost:{port}", "--path", "/b?c"]) == 0
    assert "whatever the query" in capsys.readouterr().out


def test_a_plain_listener_is_not_asked_over_tls(port, monkeypatch, capsys):
    monkeypatch.setenv("NEARSHELF_ADMIN_TOKEN", "given")
    assert run(["purge", "--admin", f"https://127.0.0.1:{port}", "--all"]) == 2
    assert "speaks no TLS" in capsys.readouterr().err
