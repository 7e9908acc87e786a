"""Single fields of a scenario that are set from outside: `people.bot=50`, `phases.flash.crowd=10`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cache_policies.reading import Fault, Place, Value, parse_document


def read_setting(key: str, text: str, faults: list[Fault]) -> Value | None:
    """The value of a setting as if a file said it, at the place of the setting; None, with the fault noted."""
    said = f"--set {key}={text}"
    if re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", key) is None:
        what = "no path of fields, expected names with dots between them, such as people.bot"
        faults.append(Fault(Place(said, 1, 1), "", what, "NS009"))
        return None
    own: list[Fault] = []
    document = parse_document(f"value: {text}", said, own)
    if document is None or own:
        faults.extend(Fault(Place(said, 1, len(key) + 2), key, fault.what, fault.code, fault.fix) for fault in own)
        return None
    return _moved(document.fields()["value"][1], said, key, faults)


def _moved(value: Value, said: str, path: str, faults: list[Fault]) -> Value:
    """The value, and what is in it, with the setting's place and its own path in the document."""
    written: Any = value.written
    if isinstance(written, list):
        written = [_moved(item, said, f"{path}[{place}]", faults) for place, item in enumerate(written)]
    elif isinstance(written, dict):
        written = {
            name: (Place(said, 1, 1), _moved(item, said, f"{path}.{name}", faults))
            for name, (_, item) in written.items()
        }
    return Value(Place(said, 1, 1), path, written, faults, quoted=value.quoted)


def put(document: Value, names: Sequence[str], value: Value) -> None:
    """Put `value` where `names` lead, making mappings on the way; where they lead nowhere, that is a fault."""
    here = document
    for depth, name in enumerate(names):
        last = depth == len(names) - 1
        if isinstance(here.written, list):
            found = _item(here.written, name)
            if found is None or last:
                known = ", ".join(_name_of(item) or str(place) for place, item in enumerate(here.written))
                value.fault(f"{here.path} has no {name} to set something of, expected one of {known}", "NS101")
                return
            here = here.written[found]
        elif isinstance(here.written, dict):
            if last:
                here.written[name] = (value.place, value)
                return
            path = ".".join(names[: depth + 1])
            empty = Value(value.place, path, {}, document.faults)
            here = here.written.setdefault(name, (value.place, empty))[1]
        else:
            value.fault(f"{here.path} is {here.shown}, which has no {name}", "NS103")
            return


def _item(items: Sequence[Value], name: str) -> int | None:
    return next((place for place, item in enumerate(items) if name in (_name_of(item), str(place))), None)


def _name_of(item: Value) -> str | None:
    if isinstance(item.written, dict) and "name" in item.written:
        written = item.written["name"][1].written
        return written if isinstance(written, str) else None
    return None
