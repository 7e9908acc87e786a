"""Where the admin token lies, and when it is not believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.site.tokens import TokenUnusable, find_token, token_file, write_token


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path)}


def test_a_token_is_for_its_owner_only_and_new_each_time(env):
    file = token_file(env, "127.0.0.1", 8081)
    token = write_token(file)
    assert len(token) >= 40
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert write_token(file) != token


@pytest.mark.parametrize(
    ("host", "url", "found"),
    [
        ("127.0.0.1", "http://127.0.0.1:8081", True),
        ("127.0.0.1", "http://localhost:8081", True),
        ("0.0.0.0", "http://127.0.0.1:8081", True),
        ("0.0.0.0", "http://10.1.2.3:8081", False),
        ("::1", "http://[::1]:8081", True),
        ("10.1.2.3", "http://10.1.2.3:8081", True),
        ("127.0.0.1", "http://127.0.0.1:8082", False),
        ("127.0.0.1", "http://10.1.2.3:8081", False),
    ],
)
def test_it_is_found_by_the_address_of_the_listener(env, host, url, found):
    token = write_token(token_file(env, host, 8081))
    assert find_token(env, url) == (token if found else None)


def test_a_file_that_others_may_read_is_not_believed(env):
    file = token_file(env, "127.0.0.1", 8081)
    write_token(file)
    file.chmod(0o644)
    with pytest.raises(TokenUnusable, match="not readable by its owner only"):
        find_token(env, "http://127.0.0.1:8081")


def test_a_folder_that_others_may_write_to_gets_no_token(env):
    file = token_file(env, "127.0.0.1", 8081)
    file.parent.mkdir(parents=True)
    file.parent.chmod(0o777)
    with pytest.raises(TokenUnusable, match="not this user's alone"):
        write_token(file)


def test_a_link_is_not_followed(env, tmp_path):
    file = token_file(env, "127.0.0.1", 8081)
    file.parent.mkdir(parents=True, mode=0o700)
    secret = tmp_path / "secret"
    secret.write_text("x" * 40)
    secret.chmod(0o600)
    file.symlink_to(secret)
    with pytest.raises(TokenUnusable):
        find_token(env, "http://127.0.0.1:8081")
    write_token(file)
    assert secret.read_text() == "x" * 40
