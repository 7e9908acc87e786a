"""`nearshelf policy fmt`: one form, comments kept, the meaning never changed."""

import os
import random
import re
import shutil
from pathlib import Path

import pytest

from cache_policies.reading import PACKAGED_POLICIES
from edge.policy_files import load_policies
from infra import cli
from infra.policy import fmt
from infra.policy.fmt import Formatted, NotFormattable, format_files, format_text

POLICY = Path("a.yaml")
PACKAGED = sorted(PACKAGED_POLICIES.glob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in PACKAGED:
        shutil.copy(path, tmp_path)
    return tmp_path


def test_fields_come_in_their_order_and_comments_stay_with_them():
    before = """\
# yaml-language-server: $schema=policy.schema.json
---
# What this file is about.


routes:
    # About the first.
    first:
        # Why five minutes.
        fresh:   300s     # five minutes
        path:  /{market}/c/{category...}
        negative: { 404: 10s , 410: 5s}
        tags:
        - page:category   # one
        # Two comes.
        - "cat:{market}:{category}"
        # After the list.

        query: [a,b]
        vary: [accept,
           accept-encoding, # both
           origin ]
        # keep: 5s
      # Less deep.

    # About the second.


    second:  # behind
        store: false
        path: /x
        # At the end of the second.
    # At the end of the routes.
# At the end of the file.

defaults:
  keep: 5m
# The end.
"""
    after = """\
# yaml-language-server: $schema=policy.schema.json
---
# What this file is about.

# At the end of the file.

defaults:
  keep: 5m

routes:
  # About the first.
  first:
    path: /{market}/c/{category...}
    # Why five minutes.
    fresh: 300s  # five minutes
    negative: {404: 10s, 410: 5s}
    tags:
      - page:category  # one
      # Two comes.
      - "cat:{market}:{category}"
    # After the list.
    query: [a, b]
    vary: [accept,
      accept-encoding, # both
      origin ]
    # keep: 5s
    # Less deep.

  # About the second.

  second:  # behind
    path: /x
    store: false
    # At the end of the second.
  # At the end of the routes.

# The end.
"""
    assert format_text(before, POLICY) == after
    assert format_text(after, POLICY) == after


@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.name)
def test_the_packaged_policies_are_in_their_form(path):
    assert format_text(path.read_text(), path) == path.read_text()


def shaken(text: str, chance: random.Random) -> str:
    """`text` with the fields of each route in another order, other indentation and other spaces."""
    width = chance.choice([2, 3, 4])
    blocks: list[list[str]] = []
    lines: list[str] = []

    def close() -> None:
        chance.shuffle(blocks)
        lines.extend(line for block in blocks for line in block)
        blocks.clear()

    above: list[str] = []
    for line in text.split("\n"):
        depth = (len(line) - len(line.lstrip())) // 2
        bare = " " * depth * width + line.strip()
        if depth == 2 and line.strip().startswith("#"):
            above.append(bare)
        elif depth == 2 and re.match(r" +[a-z_]+:", line):
            spaced = re.sub(r": (?=\S)", ":" + " " * chance.randint(1, 3), bare, count=1)
            blocks.append([*above, spaced + " " * chance.randint(0, 2)])
            above = []
        elif (depth > 2 and blocks) or (depth == 2 and blocks and line.strip()):
            blocks[-1].append(bare)
        else:
            close()
            lines += [*above, bare, *([""] * chance.randint(0, 2) if not bare else [])]
            above = []
    close()
    return "\n".join(lines)


@pytest.mark.parametrize("seed", range(12))
def test_however_policies_were_laid_out_their_form_and_meaning_are_the_same(folder, seed):
    chance = random.Random(seed)
    digest = load_policies(folder).digest
    for path in sorted(folder.glob("*.yaml")):
        path.write_text(shaken(path.read_text(), chance))
    assert load_policies(folder).digest == digest
    for formatted in format_files([folder]):
        assert format_text(formatted.after, formatted.path) == formatted.after
        fmt.write(formatted)
    assert load_policies(folder).digest == digest
    for path in PACKAGED:
        if path.name != "markets.yaml":
            assert (folder / path.name).read_text() == path.read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("routes: {}", "routes: {}\n"),
        ("routes:\n\n\n  a:\n    path: /a\n\n\n\n", "routes:\n  a:\n    path: /a\n"),
        ("routes:\n  a:\n\n    fresh: 5s\n\n    path: /a\n", "routes:\n  a:\n    path: /a\n    fresh: 5s\n"),
        ("routes:\n  a:\n    fresh:\n    path: /a\n", "routes:\n  a:\n    path: /a\n    fresh:\n"),
        ("routes:\n  a:\n    fresh: # none\n    path: /a\n", "routes:\n  a:\n    path: /a\n    fresh:  # none\n"),
        ("routes:\n  a: {fresh: 5s,path: /a}\n", "routes:\n  a: {fresh: 5s, path: /a}\n"),
        (
            "routes:\n  a:\n    odd: 1\n    path: /a\n    more: 2\n",
            "routes:\n  a:\n    path: /a\n    odd: 1\n    more: 2\n",
        ),
        ('routes:\n  a:\n    "path": "/a # b"\n', 'routes:\n  a:\n    "path": "/a # b"\n'),
        (
            "routes:\n  a:\n    throttle:\n      burst: 5\n      rate: 1/s\n    path: /a\n",
            "routes:\n  a:\n    path: /a\n    throttle:\n      rate: 1/s\n      burst: 5\n",
        ),
        (
            "routes:\n  a:\n    note: |\n        one\n          two\n\n    path: /a\n",
            "routes:\n  a:\n    path: /a\n    note: |\n        one\n          two\n",
        ),
        (
            'routes:\n  a:\n    note: "one\n       two"  # said\n    path: /a\n',
            'routes:\n  a:\n    path: /a\n    note: "one\n      two"  # said\n',
        ),
        (
            "\ufeffroutes:\r\n  a:\r\n    path: /a\r\n".lstrip("\ufeff").replace("\r", ""),
            "routes:\n  a:\n    path: /a\n",
        ),
        ("", ""),
        ("# nothing\n", "# nothing\n"),
        ("routes:\n  a:\n    path:   !!str 5\n", "routes:\n  a:\n    path: !!str 5\n"),
    ],
)
def test_small_forms(before, after):
    assert format_text(before, POLICY) == after
    assert format_text(after, POLICY) == after


def test_markets_and_origins_have_their_own_order():
    markets = "markets:\n  a-b:\n    currency: USD\n    name: A\ndefault: a-b\n"
    assert format_text(markets, Path("markets.yaml")) == (
        "default: a-b\n\nmarkets:\n  a-b:\n    name: A\n    currency: USD\n"
    )
    origins = "origins:\n  b:\n    response_timeout: 5s\n    jurisdictions: [eu]\n  a: {}\ndefault: a\n"
    assert format_text(origins, Path("origins.yaml")) == (
        "default: a\n\norigins:\n  b:\n    jurisdictions: [eu]\n    response_timeout: 5s\n\n  a: {}\n"
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("routes: [\n", "a.yaml:2:1 is not YAML"),
        ("- a\n", "a.yaml has no mapping on top"),
        ("{routes: {}}\n", "a.yaml has no mapping on top"),
        ("%YAML 1.2\n---\nroutes: {}\n", "a.yaml:1: %YAML 1.2 before the first field"),
        ("routes: &all {}\n", "a.yaml:1: an anchor"),
        ("routes: {}\n...\n", "a.yaml:2: ... behind the last field"),
        ("routes:\n  - a: 1\n    b: 2\n", "a.yaml:2: a list of mappings"),
        ("routes:\n  -\n  - a\n", "a.yaml:2: an empty item"),
    ],
)
def test_what_it_does_not_know_is_left_as_it_is(text, what):
    with pytest.raises(NotFormattable, match=re.escape(what)):
        format_text(text, POLICY)


def test_a_file_that_would_say_something_else_is_refused(folder, monkeypatch):
    (folder / "catalog.yaml").write_text((folder / "catalog.yaml").read_text() + "\n\n\n")
    monkeypatch.setattr(fmt, "format_text", lambda text, _: text.replace("fresh: 300s", "fresh: 301s"))
    with pytest.raises(NotFormattable, match=r"catalog\.yaml, prices\.yaml in .* would not say the same"):
        format_files([folder])


def test_the_command_writes_and_says_what_it_changed(folder, capsys):
    catalog = folder / "catalog.yaml"
    before = catalog.read_text()
    catalog.write_text(before.replace("    ", "      ") + "\n")
    catalog.chmod(0o640)
    assert cli.run(["policy", "fmt", "--check", str(folder)]) == 1
    assert f"would change {catalog}\n" in capsys.readouterr().out
    assert catalog.read_text() != before
    assert cli.run(["policy", "fmt", str(folder)]) == 0
    assert f"changed {catalog}\n5 of 6 files were in their canonical form\n" in capsys.readouterr().out
    assert catalog.read_text() == before
    assert catalog.stat().st_mode & 0o777 == 0o640
    assert cli.run(["policy", "fmt", "--check", str(folder)]) == 0
    assert "6 of 6 files are in their canonical form\n" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == [path.name for path in PACKAGED]


def test_policies_with_faults_are_formatted_too(folder):
    (folder / "catalog.yaml").write_text("routes:\n  a:\n    fresh: soon\n    path: /a\n")
    (formatted,) = format_files([folder / "catalog.yaml"])
    assert formatted.after == "routes:\n  a:\n    path: /a\n    fresh: soon\n"


@pytest.mark.parametrize("path", ["nowhere.yaml", "nowhere", "notes.txt"])
def test_what_is_no_policy_file_is_named(folder, capsys, path):
    (folder / "notes.txt").write_text("")
    assert cli.run(["policy", "fmt", str(folder / path)]) == 2
    assert path in capsys.readouterr().err


def test_a_file_is_whole_when_it_cannot_be_replaced(folder, monkeypatch):
    catalog = folder / "catalog.yaml"
    before = catalog.read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infra.policy.fmt.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fmt.write(Formatted(catalog, before, "other"))
    assert catalog.read_text() == before
    assert sorted(path.name for path in folder.iterdir()) == [path.name for path in PACKAGED]


def test_what_somebody_saved_meanwhile_is_not_overwritten(folder):
    catalog = folder / "catalog.yaml"
    catalog.write_text(catalog.read_text() + "\n\n\n")
    (formatted,) = (each for each in format_files([folder]) if each.changed)
    catalog.write_text("routes: {}\n")
    with pytest.raises(NotFormattable, match="saved by somebody else meanwhile"):
        fmt.write(formatted)
    assert catalog.read_text() == "routes: {}\n"
    assert sorted(path.name for path in folder.iterdir()) == [path.name for path in PACKAGED]


def test_the_lock_of_an_editor_is_passed_over(folder):
    (folder / ".#catalog.yaml").symlink_to("somebody@somewhere.4711")
    catalog = folder / "catalog.yaml"
    catalog.write_text(catalog.read_text() + "\n\n\n")
    assert cli.run(["policy", "fmt", str(folder)]) == 0
    assert cli.run(["policy", "fmt", "--check", str(folder)]) == 0


def test_a_pipe_is_named_and_not_waited_for(folder, capsys):
    os.mkfifo(folder / "pipe.yaml")
    assert cli.run(["policy", "fmt", "--check", str(folder)]) == 2
    assert "pipe.yaml is no file of text" in capsys.readouterr().err
