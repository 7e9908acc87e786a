"""Load is sent to this machine, or to hosts that somebody wrote down."""

from __future__ import annotations

import json

import pytest

from loadtests.target import ALLOW_LIST, BadTarget, is_loopback, load_target


def _ready(folder, edge="http://127.0.0.1:8081", origin="http://127.0.0.1:8080"):
    found = {"edges": {"us": edge + "/"}, "origin": origin, "state": str(folder), "control": "/run/x/control"}
    (folder / "ready.json").write_text(json.dumps(found))
    return folder / "ready.json"


def test_a_shop_on_this_machine(tmp_path):
    target = load_target(_ready(tmp_path), tmp_path)
    assert target.edges == {"us": "http://127.0.0.1:8081"}
    assert str(target.control) == "/run/x/control"


@pytest.mark.parametrize("part", ["edge", "origin"])
def test_any_other_machine_is_refused_with_the_way_to_allow_it(tmp_path, part):
    ready = _ready(tmp_path, **{part: "http://shop.example"})
    with pytest.raises(BadTarget, match=ALLOW_LIST):
        load_target(ready, tmp_path)
    (tmp_path / ALLOW_LIST).write_text("# ours\n SHOP.example # staging\n")
    assert load_target(ready, tmp_path).edges


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("", False),
        ("2130706433", False),
    ],
)
def test_loopback_is_told_by_the_name_itself(host, expected):
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "text", [None, "", "[]", '{"edges": {}, "origin": "http://127.0.0.1"}', '{"edges": {"us": 1}}']
)
def test_a_ready_file_that_is_none_says_what_to_do(tmp_path, text):
    path = tmp_path / "ready.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadTarget, match=r"ready\.json"):
        load_target(path, tmp_path)


def _ready_with(folder, **more):
    path = _ready(folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    return path


def test_admin_listeners_the_origins_log_and_the_token_of_a_shop_on_this_machine(tmp_path):
    (tmp_path / "env.json").write_text('{"NEARSHELF_ADMIN_TOKEN": "secret"}')
    ready = _ready_with(
        tmp_path, admin={"us": ["http://127.0.0.1:8091/", "http://127.0.0.1:8092"]}, origin_log="/logs/origin.log"
    )
    target = load_target(ready, tmp_path)
    assert target.admin == {"us": ("http://127.0.0.1:8091", "http://127.0.0.1:8092")}
    assert str(target.origin_log) == "/logs/origin.log"
    assert target.admin_token == "secret"


@pytest.mark.parametrize("env", [None, "not JSON", "[]", "{}", '{"NEARSHELF_ADMIN_TOKEN": ""}'])
def test_a_shop_without_them_is_loaded_all_the_same(tmp_path, env):
    if env is not None:
        (tmp_path / "env.json").write_text(env)
    target = load_target(_ready(tmp_path), tmp_path)
    assert (dict(target.admin), target.origin_log, target.admin_token) == ({}, None, None)


def test_admin_listeners_elsewhere_are_refused_too(tmp_path):
    with pytest.raises(BadTarget, match=ALLOW_LIST):
        load_target(_ready_with(tmp_path, admin={"us": ["http://10.0.0.9:8091"]}), tmp_path)


def test_admin_listeners_in_another_form_say_what_was_expected(tmp_path):
    with pytest.raises(BadTarget, match="expected `admin`"):
        load_target(_ready_with(tmp_path, admin={"us": "http://127.0.0.1:8091"}), tmp_path)
