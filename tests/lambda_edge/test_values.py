"""Classes of the Lambda packages behave as those that `dataclasses` makes of the same source."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edge.lambda_edge import values

KINDS = {"dataclasses": dataclasses, "ours": values}


def made_by(module: Any) -> tuple[Any, Any]:
    """A frozen class with everything that ours use, and one that may change."""

    @module.dataclass(frozen=True, slots=True)
    class Frozen:
        name: str
        size: int = 3
        tags: tuple[str, ...] = module.field(default_factory=tuple)
        where: str = module.field(default="", compare=False)
        _known: dict[str, int] = module.field(init=False, repr=False, compare=False)
        _text: str = module.field(default="", init=False, repr=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "_known", {self.name: self.size})

        @property
        def text(self) -> str:
            if not self._text:
                object.__setattr__(self, "_text", f"{self.name}!")
            return self._text

    @module.dataclass(slots=True)
    class Open:
        name: str
        count: int = 0

    return Frozen, Open


@pytest.mark.parametrize("kind", KINDS)
def test_what_our_classes_rely_on(kind):
    frozen, opened = made_by(KINDS[kind])
    one = frozen("a", tags=("x",))
    assert (one.name, one.size, one.tags, one.where, one._known, one.text) == ("a", 3, ("x",), "", {"a": 3}, "a!")
    assert one == frozen("a", 3, ("x",), "elsewhere")
    assert hash(one) == hash(frozen("a", 3, ("x",), "elsewhere"))
    assert one != frozen("a", 4, ("x",))
    assert one != "a"
    assert repr(one).rpartition(".")[2] == "Frozen(name='a', size=3, tags=('x',), where='')"
    with pytest.raises(AttributeError, match="cannot assign to field 'size'"):
        one.size = 4
    match one:
        case frozen("a", size):
            assert size == 3
        case _:
            pytest.fail("a class pattern with positions")
    assert [(each.name, each.init, each.compare) for each in KINDS[kind].fields(one)] == [
        ("name", True, True),
        ("size", True, True),
        ("tags", True, True),
        ("where", True, False),
        ("_known", False, False),
        ("_text", False, False),
    ]
    changed = opened("a")
    changed.count += 1
    assert changed == opened("a", 1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(changed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param((), {}, id="one is missing"),
        pytest.param(("a",), {"colour": 1}, id="one that it does not have"),
        pytest.param(("a", 1, (), "", {}), {}, id="one that is not for the caller"),
        pytest.param(("a",), {"name": "b"}, id="one twice"),
    ],
)
def test_wrong_arguments_are_refused(kind, given, named):
    frozen, _ = made_by(KINDS[kind])
    with pytest.raises(TypeError):
        frozen(*given, **named)
