"""What the origin says it was asked for, by edge."""

from __future__ import annotations

import json

import pytest

from loadtests.origin_log import OriginLog

EDGES = {"127.0.0.1:8081": "us", "127.0.0.1:8082": "eu"}
TARGET = "/eu-eur/products/caf%C3%A9-set"


def line(host="127.0.0.1:8082", path="/eu-eur/products/café-set", query="", *, edge_key=True) -> str:
    return json.dumps({"host": host, "path": path, "query": query, "edge_key": edge_key, "status": 200}) + "\n"


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "origin.access.log"
    path.write_text(line() * 5)
    found = OriginLog(path)
    found.begin()
    return path, found


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(line(), {"us": 0, "eu": 1}, id="paths are written decoded"),
        pytest.param(line() + line("127.0.0.1:8081") * 2, {"us": 2, "eu": 1}, id="by the viewers' authority"),
        pytest.param(line(path="/eu-eur/products/lamp"), {"us": 0, "eu": 0}, id="another page"),
        pytest.param(line(query="page=2"), {"us": 0, "eu": 0}, id="another query"),
        pytest.param(line(edge_key=False), {"us": 0, "eu": 0}, id="a viewer of the origin"),
        pytest.param(line("shop.example"), {"us": 0, "eu": 0}, id="an edge that is not ours"),
        pytest.param("", {"us": 0, "eu": 0}, id="nothing since"),
        pytest.param("half a li", None, id="what cannot be read is no count of zero"),
    ],
)
def test_lines_since_the_run_began_are_counted(log, lines, expected):
    path, found = log
    with path.open("a") as file:
        file.write(lines)
    assert found.fetches([TARGET], EDGES) == expected


def test_a_log_that_is_not_there_counts_nothing(tmp_path):
    assert OriginLog(None).fetches([TARGET], EDGES) is None
    assert OriginLog(tmp_path / "none.log").fetches([TARGET], EDGES) is None
