"""Plays cases against a cache, and judges what came of them by what the origin saw."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from tests.conformance.origin import SERIAL_FIELD, Asked, Origin, Scene
from tests.conformance.script import Ask, Came, Case, Landed, Pause, Purge, Together, check_of, text_of
from tests.conformance.viewer import Got, exchange

AT_ONCE = 48
"""Cases under way at a time: most of them wait for something to grow old."""


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    UNTESTED = "untested"
    """What leads up to the test did not come about: the cache does not get that far."""
    NOT_OFFERED = "not offered"
    """It is about something that this cache does not offer."""


@dataclass(frozen=True, slots=True)
class Verdict:
    case: Case
    outcome: Outcome
    why: str = ""
    tries: int = 1

    @property
    def calls_for_more(self) -> bool:
        return self.outcome in {Outcome.FAILED, Outcome.UNTESTED}


class _Fault(Exception):
    """`given`: what leads up to the test did not come about. `spoilt`: the answer is broken, which excuses nothing."""

    def __init__(self, why: str, *, spoilt: bool = False) -> None:
        super().__init__(why)
        self.given = False
        self.spoilt = spoilt


PurgeCommand = Callable[[Purge, str], Awaitable[None]]
"""Given the purge, and the name of the scene. Raises RuntimeError when it is refused."""
Lint = Callable[[Ask, Got], Iterable[str]]


@dataclass
class Player:
    """`address`: where the cache listens. `lint`: what looks at every response, and says what is wrong with it."""

    origin: Origin
    address: tuple[str, int]
    purge: PurgeCommand | None = None
    lint: Lint | None = None
    lint_faults: list[str] = field(default_factory=list)
    _breaking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _run: str = field(default_factory=lambda: f"{time.monotonic_ns() % 46_656:x}")

    @property
    def _authority(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    async def play_all(
        self, cases: Iterable[Case], offers: frozenset[object], *, second_try: bool = False
    ) -> list[Verdict]:
        """First what leaves the origin whole, then what breaks it; in the order of `cases`.

        `second_try`: what was not passed is played once more, because most cases are about moments, and a machine that
        does other work as well may sleep through one. The verdict says that it took two.
        """
        wanted = list(cases)
        verdicts: dict[str, Verdict] = {}
        room = asyncio.Semaphore(AT_ONCE)

        async def one(case: Case, tries: int) -> None:
            async with room:
                verdicts[case.id] = await self.play(case, tries)

        for case in wanted:
            if case.needs is not None and case.needs not in offers:
                verdicts[case.id] = Verdict(case, Outcome.NOT_OFFERED)
        for tries in (1, 2) if second_try else (1,):
            left = [case for case in wanted if case.id not in verdicts or verdicts[case.id].calls_for_more]
            for breaks in (False, True):
                await asyncio.gather(*(one(case, tries) for case in left if case.breaks is breaks))
        return [verdicts[case.id] for case in wanted]

    async def play(self, case: Case, tries: int = 1) -> Verdict:
        with self.origin.scene(f"{case.id}.{self._run}{tries}", self._authority) as scene:
            for number, step in enumerate(case.steps, 1):
                try:
                    match step:
                        case Pause():
                            await asyncio.sleep(step.seconds)
                        case Landed():
                            await _landed(scene, step)
                        case Purge():
                            assert self.purge is not None
                            await self.purge(step, scene.name)
                        case Ask():
                            await self._alone(scene, case, step)
                        case Together():
                            await self._together(scene, case, step)
                except _Fault as fault:
                    outcome = Outcome.UNTESTED if fault.given else Outcome.FAILED
                    return Verdict(case, outcome, f"step {number}: {fault}", tries)
        return Verdict(case, Outcome.PASSED, tries=tries)

    async def _alone(self, scene: Scene, case: Case, ask: Ask) -> None:
        scene.scripts.clear()
        scene.play(ask.method, ask.target, ask.answers)
        before = len(scene.asked)
        if ask.breaks:
            got = await self._while_it_breaks(scene, ask)
        else:
            got = await self._send(scene, ask)
        self._lint(case, ask, got)
        _judge(scene, ask, got, scene.asked[before:])

    async def _while_it_breaks(self, scene: Scene, ask: Ask) -> Got:
        """One breach at a time, with a good answer before and after it: what a cache does about an origin that fails
        again and again is not what is tested."""
        async with self._breaking:
            await self._heartbeat()
            if not ask.refuses:
                got = await self._send(scene, ask)
            else:
                await self.origin.close()
                try:
                    got = await self._send(scene, ask)
                finally:
                    await self.origin.open()
            await self._heartbeat()
        return got

    async def _heartbeat(self) -> None:
        """Until the origin is reached again. Raises RuntimeError when it is not within five seconds."""
        for _ in range(100):
            beat = Ask(target=f"/beat-{time.monotonic_ns()}")
            got = await exchange(self.address, self._request(Scene("nobody"), beat), "GET")
            if got.status == 200:
                return
            await asyncio.sleep(0.05)
        raise RuntimeError("the cache does not find its way back to the origin")

    async def _together(self, scene: Scene, case: Case, step: Together) -> None:
        scene.scripts.clear()
        for ask in step.asks:
            if ask.answers:
                scene.play(ask.method, ask.target, ask.answers)
        before = len(scene.asked)
        began = time.monotonic()

        purged = asyncio.Event()

        async def one(ask: Ask) -> Got:
            await asyncio.sleep(ask.before_s)
            if ask.after_purge:
                await purged.wait()
            return await self._send(scene, ask)

        async def purge() -> None:
            if step.purge is not None:
                assert self.purge is not None
                await asyncio.sleep(step.purge_after_s)
                await self.purge(step.purge, scene.name)
                purged.set()

        async def all_of_them() -> list[Got]:
            answers, _ = await asyncio.gather(asyncio.gather(*map(one, step.asks)), purge())
            return answers

        if any(ask.breaks for ask in step.asks):
            async with self._breaking:
                await self._heartbeat()
                all_got = await all_of_them()
                await self._heartbeat()
        else:
            all_got = await all_of_them()
        for ask, got in zip(step.asks, all_got, strict=True):
            if ask.hangs_up_after_s is None:
                self._lint(case, ask, got)
                _judge(scene, ask, got, [each for each in scene.asked[before:] if _is_about(scene, ask, each)])
        stayed = [got for ask, got in zip(step.asks, all_got, strict=True) if ask.hangs_up_after_s is None]
        shown = [got.one(SERIAL_FIELD) for got in stayed]
        if step.alike and len(set(shown)) != 1:
            raise _Fault(f"expected one answer for all, found {shown}")
        if step.apart and len(set(shown)) != len(shown):
            raise _Fault(f"expected an answer each, found {shown}")
        _counted(step.asked, len(scene.asked) - before)
        took = max((got.done_at for got in stayed), default=began) - began
        if step.within_s is not None and took > step.within_s:
            raise _Fault(f"expected all answers within {step.within_s} s, they took {took:.2f} s")

    async def _send(self, scene: Scene, ask: Ask) -> Got:
        request = self._request(scene, ask)
        return await exchange(self.address, request, ask.method, hangs_up_after_s=ask.hangs_up_after_s)

    def _request(self, scene: Scene, ask: Ask) -> bytes:
        """The request as bytes. It asks for the end of the connection unless it says something else about it."""
        fields = [(key, text_of(value, scene)) for key, value in ask.fields]
        named = {key.lower() for key, _ in fields}
        if "host" not in named:
            fields.insert(0, ("Host", f"{ask.host}:{self.address[1]}"))
        if "connection" not in named:
            fields.append(("Connection", "close"))
        body = ask.body
        if ask.chunked:
            fields.append(("Transfer-Encoding", "chunked"))
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        elif body or ask.method in {"POST", "PUT", "PATCH"}:
            fields.append(("Content-Length", str(len(body))))
        path = ask.target if ask.target == "*" else f"{scene.path}{ask.target}"
        lines = [f"{ask.method} {path} {ask.version}", *(f"{key}: {value}" for key, value in fields)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body

    def _lint(self, case: Case, ask: Ask, got: Got) -> None:
        if got.status and self.lint is not None:
            self.lint_faults += [f"{case.id}: {fault}" for fault in self.lint(ask, got)]


async def _landed(scene: Scene, step: Landed) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(step.within_s):
            while sum(asked.done_at < float("inf") for asked in scene.asked) < step.answers:
                scene.changed.clear()
                await scene.changed.wait()
            # What the origin has sent, the cache has still to take in.
            await asyncio.sleep(0.1)
            return
    raise _Fault(f"the origin was asked {len(scene.asked)} times in all, expected {step.answers}")


def _is_about(scene: Scene, ask: Ask, asked: Asked) -> bool:
    return asked.target.removeprefix(scene.path) == ask.target


def _judge(scene: Scene, ask: Ask, got: Got, asked: list[Asked]) -> None:
    """Raises _Fault saying what is not as the case says. `asked`: what reached the origin since it was sent."""
    try:
        _judge_origin(scene, ask, got, asked)
        _judge_answer(scene, ask, got)
        if ask.asked is not None:
            _counted(ask.asked, sum(each.at <= got.done_at for each in asked))
        _judge_forwarded(scene, ask, asked)
        if ask.within_s is not None and got.done_at - got.began_at > ask.within_s:
            raise _Fault(f"expected an answer within {ask.within_s} s, it took {got.done_at - got.began_at:.2f} s")
        if ask.streams and (not asked or got.body_at >= asked[-1].done_at):
            raise _Fault("expected the first bytes before the origin had sent the last ones")
    except _Fault as fault:
        fault.given = ask.given and not fault.spoilt
        raise


def _judge_origin(scene: Scene, ask: Ask, got: Got, asked: list[Asked]) -> None:
    if ask.came is Came.ANY:
        return
    in_time = [each for each in asked if each.at <= got.done_at]
    shown = _serial(got)
    newest = {each.serial for each in asked if each.serial}
    if not got.status and ask.came is not Came.FAILED:
        raise _Fault(f"no answer: {got.trouble or 'the connection was closed'}")
    is_new = shown in newest if shown else any(each.answered_at <= got.done_at for each in in_time)
    validated = any(each.status == 304 and each.answered_at <= got.done_at for each in in_time) and shown not in newest
    said = f"status {got.status}, shows answer {shown or 'none'}, {len(in_time)} requests at the origin"
    match ask.came:
        case Came.STORE:
            fine = not in_time and shown not in newest
        case Came.ORIGIN:
            fine = is_new and not validated
        case Came.VALIDATED:
            fine = validated
        case Came.ASKED:
            fine = validated or is_new
        case Came.BEHIND:
            fine = shown not in newest and bool(shown) and all(each.answered_at > got.done_at for each in asked)
        case Came.FALLBACK:
            fine = bool(shown) and shown not in newest and not validated
        case Came.FAILED:
            fine = (not shown and got.status >= 500) or not got.complete
        case Came.ITSELF:
            fine = not in_time and not shown
        case _:
            assert_never(ask.came)
    if not fine:
        raise _Fault(f"expected {ask.came}: {said}")


def _judge_answer(scene: Scene, ask: Ask, got: Got) -> None:
    if ask.came is Came.FAILED:
        if ask.status and got.status not in ask.status:
            raise _Fault(f"expected status {' or '.join(map(str, ask.status))}, found {got.status}")
        _check_fields(scene, ask, got)
        return
    if not got.complete:
        raise _Fault(f"the answer is cut: status {got.status}, {got.trouble}", spoilt=True)
    if got.surplus:
        raise _Fault(f"bytes after the end of the answer: {got.surplus[:40]!r}", spoilt=True)
    shown = _serial(got)
    if ask.of and shown not in ask.of:
        raise _Fault(f"expected answer {' or '.join(map(str, ask.of))} of the origin, found {shown or 'none'}")
    answer, whole = scene.given.get(shown, (None, None))
    expected = ask.status or ((answer.status,) if answer is not None else (200,))
    if got.status not in expected:
        raise _Fault(f"expected status {' or '.join(map(str, expected))}, found {got.status}")
    _check_fields(scene, ask, got)
    if ask.shows is not None:
        if got.body != ask.shows:
            raise _Fault(f"expected the body {ask.shows[:60]!r}, found {got.body[:60]!r}")
    elif answer is not None and ask.method != "HEAD" and got.status == answer.status and got.body != whole:
        what = f"{got.body[:60]!r} ({len(got.body)} bytes)"
        raise _Fault(f"the body is not that of answer {shown}: {what}", spoilt=True)
    if ask.contains.lower() not in got.body.lower():
        raise _Fault(f"expected {ask.contains!r} in the body, found {got.body[:200]!r}")
    if ask.parts is not None:
        _check_parts(ask.parts, got)
    if ask.unfolded and any(line.startswith((b" ", b"\t")) for line in got.head.split(b"\r\n")):
        raise _Fault(f"a folded line in {got.head!r}")
    if ask.interim_within_s is not None and not 0 < got.interim_at - got.began_at <= ask.interim_within_s:
        raise _Fault(f"expected the interim response within {ask.interim_within_s} s")
    if ask.interim is not None:
        if [status for status, _ in got.interim] != [status for status, _ in ask.interim]:
            raise _Fault(f"expected interim {[s for s, _ in ask.interim]}, found {[s for s, _ in got.interim]}")
        for (_, pairs), (_, checks) in zip(got.interim, ask.interim, strict=True):
            for name, expected_value in checks.items():
                values = [value for key, value in pairs if key == name.lower()]
                fault = check_of(expected_value).fault(values, scene)
                if fault is not None:
                    raise _Fault(f"{name} of the interim response: {fault}")


def _check_fields(scene: Scene, ask: Ask, got: Got) -> None:
    for name, expected in ask.has.items():
        fault = check_of(expected).fault(got.lines(name), scene)
        if fault is not None:
            raise _Fault(f"{name}: {fault}")


def _judge_forwarded(scene: Scene, ask: Ask, asked: list[Asked]) -> None:
    """What the origin saw of the request: held against the last one that reached it."""
    if not (ask.saw or ask.saw_method or ask.saw_body is not None):
        return
    if not asked:
        raise _Fault("expected the origin to be asked")
    last = asked[-1]
    for name, expected in ask.saw.items():
        fault = check_of(expected).fault(last.lines(name), scene)
        if fault is not None:
            raise _Fault(f"{name} at the origin: {fault}")
    if ask.saw_method and last.method != ask.saw_method:
        raise _Fault(f"expected {ask.saw_method} at the origin, found {last.method}")
    if ask.saw_body is not None and last.body != ask.saw_body:
        raise _Fault(f"expected the body {ask.saw_body!r} at the origin, found {last.body!r}")


def _check_parts(expected: tuple[tuple[str, bytes], ...], got: Got) -> None:
    """Reads multipart/byteranges (RFC 9110 §14.6)."""
    _, _, parameter = (got.one("content-type") or "").partition("boundary=")
    boundary = parameter.partition(";")[0].strip().strip('"').encode()
    if not boundary or b"--" + boundary + b"--" not in got.body:
        raise _Fault(f"no multipart body with the boundary of {got.one('content-type')!r}")
    found = []
    for part in (b"\r\n" + got.body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        lines = dict(line.lower().split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line)
        found.append((lines.get("content-range", ""), data))
    if tuple(found) != expected:
        raise _Fault(f"expected the parts {expected}, found {found}")


def _counted(expected: tuple[int, int] | None, found: int) -> None:
    if expected is not None and not expected[0] <= found <= expected[1]:
        low, high = expected
        raise _Fault(f"expected {low if low == high else f'{low} to {high}'} requests at the origin, found {found}")


def _serial(got: Got) -> int:
    written = got.lines(SERIAL_FIELD)
    return int(written[0]) if written and written[0].isdigit() else 0
