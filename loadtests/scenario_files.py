"""NAME.yaml -> Scenario: read with places, every fault of a file said at once.

A scenario that comes with the project is called by its name, a user's own by its path. Single fields can be set from
outside (`nearshelf load run --set KEY=VALUE`), as if they stood in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cache_policies.kinds import (
    BOOLEAN,
    DURATION,
    NAME,
    TIMEOUT,
    Field,
    Kind,
    choice,
    meant_name,
    only,
    spelled,
    whole_number,
)
from cache_policies.reading import Fault, Refused, Value, closest, did_you_mean, read_document
from loadtests.people_file import MARKETS_MIX, PEOPLE_FIELDS, PEOPLE_FILE, PEOPLE_MIX, number, read_people
from loadtests.scenario import (
    NOTHING,
    ONLY_PHASE,
    WARM_UP,
    Act,
    DeedPlan,
    PhasePlan,
    Replay,
    Scenario,
    ThresholdLine,
)
from loadtests.scenario_settings import put, read_setting
from loadtests.shapes import HIGHEST_BUSIEST, Shape, ShapeKind
from loadtests.thresholds import ThresholdError, parse_thresholds

SCENARIOS = Path(__file__).parent / "scenarios"
"""The scenarios that come with the project."""
MAX_TAGS_PER_ORDER = 1_000
"""Of one purge: what the staff API takes."""


class BadScenario(Exception):
    """A scenario cannot be used. Lists every fault, one a line: `my.yaml:4:7 rate: fast, expected ...`."""

    def __init__(self, faults: Iterable[Fault] | str) -> None:
        if isinstance(faults, str):
            self.faults: tuple[Fault, ...] = ()
            super().__init__(faults)
            return
        self.faults = tuple(sorted(set(faults)))
        super().__init__("\n".join(_line(fault) for fault in self.faults))


def _line(fault: Fault) -> str:
    return f"{fault.place} {fault.field}: {fault.what}" if fault.field else f"{fault.place}: {fault.what}"


FACTOR = number(0, 1_000, "a factor of zero or more, such as 1.5")
_PHASE_NAME = spelled(NAME, "small letters, digits and hyphens, such as storm", "NS104", hint=meant_name)
_TEXT = Kind(lambda value: " ".join(value.text("one or two sentences").split()), {"type": "string"})

SHAPE_FIELDS: Mapping[ShapeKind, tuple[Field[Any], ...]] = {
    ShapeKind.STEADY: (),
    ShapeKind.DAY: (
        Field(
            "busiest",
            number(1, HIGHEST_BUSIEST, f"a factor from 1 to {HIGHEST_BUSIEST:g}, such as 5.4"),
            "factor",
            "`5.4`",
            "requests of the busiest hour over those of a mean hour",
        ),
    ),
    ShapeKind.RAMP: (
        Field("first", FACTOR, "factor", "`0`", "the factor at the beginning"),
        Field("last", FACTOR, "factor", "`2`", "the factor at the end"),
    ),
}
_SHAPE_KIND: Field[Any] = Field(
    "kind", choice(ShapeKind), "`steady`, `day`, `ramp`", "required", "what the rate does over time"
)


def _shape(value: Value) -> Shape:
    if isinstance(value.written, str):
        return Shape(choice(ShapeKind).read(value))
    value.fields("steady, day, ramp, or a mapping with kind")
    before = len(value.faults)
    kind = _SHAPE_KIND.of(value, None)
    if kind is None:
        raise Refused
    only(value, (_SHAPE_KIND, *SHAPE_FIELDS[kind]))
    found = {each.name: each.of(value, None) for each in SHAPE_FIELDS[kind]}
    if len(value.faults) > before:
        raise Refused
    return Shape(kind, **{name: factor for name, factor in found.items() if factor is not None})


PHASE_FIELDS: tuple[Field[Any], ...] = (
    Field("name", _PHASE_NAME, "name", "required", "by which thresholds and deeds call it"),
    Field(
        "from",
        DURATION,
        "duration",
        "required",
        "when it begins, after the warm-up; it ends with the next one",
        ("at", "start"),
    ),
    Field("load", FACTOR, "factor", "`1`", "what the rate is multiplied by, on top of the shape"),
    Field("crowd", FACTOR, "factor", "`0`", "how many times the rate asks for one cold product, from all edges alike"),
    Field("busting", FACTOR, "factor", "`0`", "how many times the rate asks with parameters that nobody offered"),
    Field("markets", MARKETS_MIX, "market: share", "the scenario's", "where those buy who come in this phase"),
    Field("people", PEOPLE_MIX, "person: share", "the scenario's", "who sends requests in this phase"),
)


def _phase(value: Value) -> PhasePlan:
    value.fields("a mapping with name and from")
    before = len(value.faults)
    only(value, PHASE_FIELDS)
    found = {each.name: each.of(value, None) for each in PHASE_FIELDS}
    if found["name"] == WARM_UP:
        value.fault(f"{WARM_UP} is the name of the part before all phases", "NS104", "Give it another name.")
    if len(value.faults) > before:
        raise Refused
    return PhasePlan(
        name=found["name"],
        from_s=found["from"],
        load=1.0 if found["load"] is None else found["load"],
        crowd=found["crowd"] or 0.0,
        busting=found["busting"] or 0.0,
        markets=found["markets"] or NOTHING,
        people=found["people"] or {},
    )


def _phases(value: Value) -> tuple[PhasePlan, ...]:
    found: list[PhasePlan] = []
    before = len(value.faults)
    for entry in value.items("a list of phases"):
        with suppress(Refused):
            phase = _phase(entry)
            begins = entry.fields()["from"][1]
            if not found and phase.from_s:
                begins.fault("the first phase begins at 0s, where the warm-up ends", "NS105", "Write 0s.")
            if found and phase.from_s <= found[-1].from_s:
                begins.fault(f"not after {found[-1].name} begins, expected phases in their order", "NS105")
            if any(phase.name == other.name for other in found):
                entry.fault(f"{phase.name} a second time, expected each phase once", "NS112", "Give it another name.")
            found.append(phase)
    if len(value.faults) > before:
        raise Refused
    if not found:
        raise value.refuse("at least one phase", "NS103")
    return tuple(found)


PER_MINUTE = number(0.01, 1_000_000, "a number above zero, such as 60")
_COMMANDS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    # What is done -> what mends it, what has to be said with it, what can be.
    "stop": ("start", ("name",), ()),
    "freeze": ("thaw", ("name",), ()),
    "cut": ("heal", ("edge",), ("channel",)),
    "stall": ("heal", ("edge",), ("channel",)),
    "pause-replay": ("resume-replay", (), ()),
}
"""Of docs/faults.md, those that last until they are mended."""
_CHANNELS = ("questions", "fills", "all")


def _word(value: Value) -> str:
    return value.text("a name", "NS104")


def _command_word(value: Value) -> str:
    return _one_of(value, tuple(_COMMANDS))


def _channel(value: Value) -> str:
    return _one_of(value, _CHANNELS)


def _one_of(value: Value, known: Sequence[str]) -> str:
    expected = f"one of {', '.join(known)}"
    text = value.text(expected, "NS104")
    if text not in known:
        meant = closest(text, known)
        hint = f"; did you mean {meant}?" if meant else ""
        raise value.refuse(f"{expected}{hint}", "NS104", f"Write {meant or known[0]}.")
    return text


_STRING = {"type": "string"}
ACT_FIELDS: Mapping[Act, tuple[Field[Any], ...]] = {
    Act.PRICES: (
        Field("per_minute", PER_MINUTE, "number", "required", "changes a minute", ("rate",)),
        Field(
            "prices",
            whole_number(1, 10_000, "a whole number from 1 to 10000", "NS118"),
            "number",
            "required",
            "how many different prices change in turn: of popular products, so that many see them",
        ),
    ),
    Act.PURGES: (
        Field("per_minute", PER_MINUTE, "number", "required", "tags a minute", ("rate", "tags_per_minute")),
        Field(
            "tags_per_order",
            whole_number(1, MAX_TAGS_PER_ORDER, f"a whole number from 1 to {MAX_TAGS_PER_ORDER}", "NS118"),
            "number",
            "`10`",
            "how many of them one order names",
        ),
        Field("soft", BOOLEAN, "`true`, `false`", "`false`", "still servable while it is refreshed"),
    ),
    Act.FLUSH: (Field("soft", BOOLEAN, "`true`, `false`", "`false`", "still servable while it is refreshed"),),
    Act.FAULT: (
        Field(
            "command",
            Kind(_command_word, {"enum": list(_COMMANDS)}),
            "a word of docs/faults.md",
            "required",
            "`stop`, `freeze`, `cut`, `stall` or `pause-replay`; mended when the phase ends",
        ),
        Field(
            "name",
            Kind(_word, _STRING),
            "name of a process",
            "none",
            "for `stop` and `freeze`: `origin`, an edge, or one process",
        ),
        Field("edge", Kind(_word, _STRING), "name of an edge", "none", "for `cut` and `stall`: an edge, or `all`"),
        Field(
            "channel",
            Kind(_channel, {"enum": list(_CHANNELS)}),
            "`questions`, `fills`, `all`",
            "`all`",
            "for `cut` and `stall`: which connections",
        ),
    ),
}
_ACT: Field[Any] = Field("do", choice(Act), "`prices`, `purges`, `flush`, `fault`", "required", "what is done")
_DEED_PHASE: Field[Any] = Field(
    "phase", _PHASE_NAME, "name of a phase", "required", "during which phase; `warm-up` is one", ("in",)
)


def _deed(value: Value) -> DeedPlan:
    value.fields("a mapping with do and phase")
    before = len(value.faults)
    act, phase = _ACT.of(value, None), _DEED_PHASE.of(value, None)
    if act is None:
        raise Refused
    only(value, (_ACT, _DEED_PHASE, *ACT_FIELDS[act]))
    found = {each.name: each.of(value, None) for each in ACT_FIELDS[act]}
    command, mend = _fault_commands(value, found) if act is Act.FAULT else ((), ())
    if len(value.faults) > before or phase is None:
        raise Refused
    return DeedPlan(
        act,
        phase,
        per_minute=found.get("per_minute") or 0.0,
        prices=found.get("prices") or 0,
        tags_per_order=found.get("tags_per_order") or 10,
        soft=bool(found.get("soft")),
        command=command,
        mend=mend,
    )


def _fault_commands(value: Value, found: Mapping[str, Any]) -> tuple[tuple[tuple[str, str], ...], ...]:
    """What begins the fault, and what ends it, as the control socket takes it."""
    word = found["command"]
    if word is None:
        return (), ()
    mend, needed, possible = _COMMANDS[word]
    for name in needed:
        if name not in value.fields():
            value.fault(f"{name} is missing: {word} wants to know what", "NS102", f"Add {name}.")
    for name in ("name", "edge", "channel"):
        if name in value.fields() and name not in (*needed, *possible):
            value.fields()[name][1].fault(f"{word} takes no {name}", "NS101", f"Remove {name}.")
    given = tuple((name, found[name]) for name in (*needed, *possible) if found[name] is not None)
    return (("do", word), *given), (("do", mend), *given)


def _deeds(value: Value) -> tuple[DeedPlan, ...]:
    found: list[DeedPlan] = []
    before = len(value.faults)
    for entry in value.items("a list of deeds"):
        with suppress(Refused):
            found.append(_deed(entry))
    if len(value.faults) > before:
        raise Refused
    return tuple(found)


_PATH = Kind(lambda value: Path(value.text("the path of a file")), _STRING)
REPLAY_FIELDS: tuple[Field[Any], ...] = (
    Field("orders", _PATH, "path", "none", "recorded orders, JSON lines, gzipped or not", ("orders_file",)),
    Field("price_changes", _PATH, "path", "none", "recorded price changes, the same", ("prices", "changes")),
    Field(
        "speed",
        number(0.001, 1e8, "a number above zero, such as 600"),
        "number",
        "each file as long as the run",
        "recorded seconds in one second of the run, from the beginning of each file",
    ),
)


def _replay(value: Value) -> Replay:
    value.fields("a mapping with orders or price_changes")
    before = len(value.faults)
    only(value, REPLAY_FIELDS)
    found = {each.name: each.of(value, None) for each in REPLAY_FIELDS}
    if len(value.faults) > before:
        raise Refused
    return Replay(**found)


def _thresholds(value: Value) -> tuple[ThresholdLine, ...]:
    found: list[ThresholdLine] = []
    for entry in value.items("a list of thresholds, such as p99{status=hit} < 15ms"):
        with suppress(Refused):
            found.append(ThresholdLine(entry.text("a threshold, such as p99{status=hit} < 15ms"), entry.place))
    return tuple(found)


SCENARIO_FIELDS: tuple[Field[Any], ...] = (
    Field("description", _TEXT, "text", "required", "what happens, and what is to be seen"),
    Field("duration", TIMEOUT, "duration", "required", "how long the part lasts that counts"),
    Field("warmup", DURATION, "duration", "`0s`", "before that: the first phase's load, in no figure", ("warm_up",)),
    Field(
        "rate",
        number(0.1, 100_000, "requests a second, from 0.1 to 100000"),
        "requests a second",
        "required",
        "of browsers, searchers and bots together, before shape and load",
        ("rps", "requests_per_second"),
    ),
    Field("shape", Kind(_shape, {}), "`steady`, `day`, `ramp`", "`steady`", "what the rate does over time"),
    Field("phases", Kind(_phases, {"type": "array"}), "list", f"one, `{ONLY_PHASE}`", "parts that are told apart"),
    Field("deeds", Kind(_deeds, {"type": "array"}), "list", "none", "what is done to the shop meanwhile"),
    Field("replay", Kind(_replay, {"type": "object"}), "mapping", "none", "recorded demand, played again"),
    Field("thresholds", Kind(_thresholds, {"type": "array"}), "list", "none", "what has to be true at the end"),
    *PEOPLE_FIELDS,
)


def scenario_names() -> tuple[str, ...]:
    """Of the scenarios that come with the project."""
    return tuple(sorted(path.stem for path in SCENARIOS.glob("*.yaml")))


def load_scenario(name_or_path: str, settings: Mapping[str, str] | None = None) -> Scenario:
    """The scenario of that name, or in that file, with single fields set as `settings` says.

    A key is a path of names, `people.bot` or `phases.flash.crowd` (items of a list by their `name` or their number
    from 0), its value what would stand behind the colon. `duration` is special: phases keep their shares of it.
    Raises BadScenario with every fault.
    """
    path = _path_of(name_or_path)
    faults: list[Fault] = []
    defaults, document = read_document(PEOPLE_FILE, faults), read_document(path, faults)
    if document is None or defaults is None:
        raise BadScenario(faults)
    people = read_people(defaults)
    lasting: float | None = None
    for key, text in (settings or {}).items():
        value = read_setting(key, text, faults)
        if value is None:
            continue
        if key == "duration":
            with suppress(Refused):
                lasting = TIMEOUT.read(value)
            continue
        names = key.split(".")
        if names[0] in defaults.fields():
            # One share of a mix is set beside the others, wherever these stand.
            document.fields().setdefault(names[0], defaults.fields()[names[0]])
        put(document, names, value)
    only(document, SCENARIO_FIELDS)
    found = {each.name: each.of(document, None) for each in SCENARIO_FIELDS}
    # The fields of people are read once more, to be merged: what is wrong with them is noted once all the same.
    merged = read_people(document, people) if people is not None else None
    _check_times(document, found)
    _check_thresholds(document, found)
    if faults or merged is None:
        raise BadScenario(faults)
    scenario = Scenario(
        name=path.stem,
        description=found["description"],
        duration_s=found["duration"],
        warmup_s=found["warmup"] or 0.0,
        rate=found["rate"],
        shape=found["shape"] or Shape(),
        people=merged,
        phases=found["phases"] or (PhasePlan(ONLY_PHASE, 0.0),),
        deeds=found["deeds"] or (),
        replay=found["replay"],
        thresholds=found["thresholds"] or (),
    )
    if lasting is None:
        return scenario
    scaled = scenario.lasting(lasting)
    # A warm-up that was asked for stays as it was asked for.
    return replace(scaled, warmup_s=scenario.warmup_s) if "warmup" in (settings or {}) else scaled


def _path_of(name_or_path: str) -> Path:
    names = scenario_names()
    if name_or_path in names:
        return SCENARIOS / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"} or "/" in name_or_path:
        return path
    meant = closest(name_or_path, names)
    hint = f"; did you mean {meant}?" if meant else "."
    raise BadScenario(
        f"{name_or_path}: no scenario of that name{hint} There are {', '.join(names)}; a file of your own is named by "
        "its path: ./my.yaml"
    )


def _check_times(document: Value, found: Mapping[str, Any]) -> None:
    """What fields say about each other: phases within the duration, deeds in phases that exist."""
    phases: tuple[PhasePlan, ...] | None = found["phases"]
    written = document.fields()
    if phases is not None and found["duration"] is not None and phases[-1].from_s >= found["duration"]:
        begins = written["phases"][1].items()[-1].fields()["from"][1]
        begins.fault(f"{phases[-1].name} begins when the scenario is over, expected before its duration", "NS105")
    if found["deeds"] is None or ("phases" in written and phases is None):
        return
    names = _phase_names(phases)
    for entry, deed in zip(written["deeds"][1].items(), found["deeds"], strict=True):
        if deed.phase not in names:
            with suppress(Refused):
                _one_of(entry.fields()["phase"][1], names)


def _phase_names(phases: tuple[PhasePlan, ...] | None) -> list[str]:
    return [WARM_UP, *(phase.name for phase in phases or (PhasePlan(ONLY_PHASE, 0.0),))]


def _check_thresholds(document: Value, found: Mapping[str, Any]) -> None:
    """That each can be judged: its words, and the phases that it names."""
    try:
        thresholds = parse_thresholds(found["thresholds"] or ())
    except ThresholdError as exc:
        document.faults += [Fault(problem.place, "thresholds", problem.what, "NS104") for problem in exc.problems]
        return
    if "phases" in document.fields() and found["phases"] is None:
        return
    names = _phase_names(found["phases"])
    for threshold in thresholds:
        for figure in (threshold.figure, threshold.against):
            phase = figure.choice.get("phase") if figure is not None else None
            if phase is not None and phase not in names:
                what = f"there is no phase {phase}, expected one of {', '.join(names)}{did_you_mean(phase, names)}"
                document.faults.append(Fault(threshold.place, "thresholds", what, "NS104"))
