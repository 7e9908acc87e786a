"""What `dataclasses` makes of our classes, without what that module imports.

Only in the Lambda packages: there `infra/aws/package_lambda.py` lets every module import `dataclass`, `field` and
`fields` from here. The standard library's module brings inspect, ast, dis and tokenize, and compiles the methods of
every class anew: together a third of a cold start. Here all classes share their methods, which walk the fields and so
take a microsecond longer for an object. Only what our classes use: no inheritance, no ordering, no `replace`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_MISSING = object()


class Field:
    """How one attribute is made and compared."""

    def __init__(
        self,
        default: Any = _MISSING,
        *,
        default_factory: Callable[[], Any] | None = None,
        init: bool = True,
        repr: bool = True,  # noqa: A002  # the name that dataclasses.field has
        compare: bool = True,
    ) -> None:
        self.name = ""
        self.default, self.default_factory = default, default_factory
        self.init, self.repr, self.compare = init, repr, compare

    def value(self) -> Any:
        """The default. Raises TypeError when there is none."""
        if self.default_factory is not None:
            return self.default_factory()
        if self.default is _MISSING:
            raise TypeError(f"missing argument: {self.name!r}")
        return self.default


field = Field


def fields(value: Any) -> tuple[Field, ...]:
    """The fields of a class or an object, in order."""
    found: tuple[Field, ...] = value.__value_fields__
    return found


def dataclass(*, frozen: bool = False, slots: bool = False) -> Callable[[Any], Any]:
    """The decorator. `slots` is accepted and changes nothing: no object here lives longer than an event."""
    return lambda cls: _made(cls, frozen=frozen)


def _made(cls: Any, *, frozen: bool) -> Any:
    found = []
    for name in cls.__annotations__:
        written = cls.__dict__.get(name, _MISSING)
        each = written if isinstance(written, Field) else Field(written)
        each.name = name
        if isinstance(written, Field):
            delattr(cls, name)
        found.append(each)
    cls.__value_fields__ = tuple(found)
    cls.__match_args__ = tuple([each.name for each in found if each.init])  # type: ignore[misc]  # of any class
    cls.__init__, cls.__eq__, cls.__repr__ = _init, _eq, _repr
    cls.__hash__ = _hash if frozen else None
    if frozen:
        cls.__setattr__ = _refuse
    return cls


def _init(self: Any, *values: Any, **named: Any) -> None:
    made = self.__dict__
    given = iter(values)
    for each in self.__value_fields__:
        if not each.init:
            if each.default is not _MISSING or each.default_factory is not None:
                made[each.name] = each.value()
            continue
        value = next(given, _MISSING)
        if value is _MISSING:
            value = named.pop(each.name) if each.name in named else each.value()
        made[each.name] = value
    if named or next(given, _MISSING) is not _MISSING:
        raise TypeError(f"{type(self).__name__} got arguments that it does not have: {sorted(named)}")
    if hasattr(self, "__post_init__"):
        self.__post_init__()


def _compared(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, each.name) for each in self.__value_fields__ if each.compare])


def _eq(self: Any, other: object) -> bool:
    return _compared(self) == _compared(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _repr(self: Any) -> str:
    shown = [f"{each.name}={getattr(self, each.name)!r}" for each in self.__value_fields__ if each.repr]
    return f"{type(self).__name__}({', '.join(shown)})"


def _refuse(self: Any, name: str, value: Any) -> None:
    raise AttributeError(f"cannot assign to field {name!r}")
