"""The recorder over scripted requests: nobody sleeps, every time is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from loadtests.measures import take
from loadtests.recorder.machine import Reading
from loadtests.recorder.pulses import PULSE_S
from loadtests.recorder.recorder import Recorder
from loadtests.recorder.run import Cell, Label, Phase, PriceChange, Run, Status, read_run, write_run

REST = Phase("rest", 0.0, 10.0)
HIT = Label("rest", Status.HIT, "product", "eu", "eu-eur")
ERROR = HIT._replace(status=Status.ERROR)
MISS = HIT._replace(status=Status.MISS)


@dataclass
class Bench:
    """A recorder, and a machine whose clock is turned by hand."""

    phases: tuple[Phase, ...] = (REST,)
    duration_s: float = 10.0
    cpu_share: Callable[[float], float] = lambda at: 0.3
    now: float = 0.0
    process_s: float = 0.0
    steal_share: float = 0.0
    ticks: float = 0.0
    recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        self.recorder = Recorder(
            scenario="steady-day",
            description="",
            seed=7,
            generator="locust",
            request_digest="ab",
            phases=self.phases,
            duration_s=self.duration_s,
            readings=self.reading,
        )

    def reading(self) -> Reading:
        ticks = round(self.now * 200)
        steal = round(ticks * self.steal_share)
        return Reading(self.now, self.process_s, ticks, (ticks - steal) // 2, steal)

    def pulses(self, until_s: float, *, hangs: tuple[float, float] = (0.0, 0.0)) -> None:
        """The loop comes round every PULSE_S until then, but for the time that it hangs."""
        for number in range(int(until_s / PULSE_S) + 1):
            at = number * PULSE_S
            self.process_s += self.cpu_share(at) * max(0.0, at - self.now)
            self.now = max(self.now, at)
            if not hangs[0] < at < hangs[1]:
                self.recorder.pulse(at)

    def run(
        self,
        arrivals: list[float],
        sending: Callable[[float], float | None] = lambda at: at,
        took_s: float = 0.0004,
        *,
        ended_s: float | None = None,
        was_free: bool = True,
        hangs: tuple[float, float] = (0.0, 0.0),
        cut_short: str | None = None,
    ) -> Run:
        for at in arrivals:
            self.recorder.intend(at)
        self.recorder.begin()
        ended_s = self.duration_s if ended_s is None else ended_s
        self.pulses(ended_s, hangs=hangs)
        for at in arrivals:
            if cut_short is not None and at > ended_s:
                continue
            sent = sending(at)
            if sent is None:
                self.recorder.sample(ERROR, "/p", at, None, ended_s, None, 0)
            else:
                self.recorder.sample(HIT, "/p", at, sent, sent + took_s, 200, 1000, was_free=was_free)
        return self.recorder.finish(ended_s, cut_short=cut_short)


def every(step_s: float, to_s: float = 10.0) -> list[float]:
    return [number * step_s for number in range(round(to_s / step_s))]


def cell(run: Run, label: Label) -> Cell:
    return next(each for each in run.cells if each.label == label)


def test_a_hit_of_0_4_ms_is_reported_as_0_4_ms():
    run = Bench().run(every(0.01))
    found = cell(run, HIT)
    assert found.corrected.percentile_us(0.99) == pytest.approx(400, abs=2)
    assert found.uncorrected.percentile_us(0.99) == pytest.approx(400, abs=2)
    assert run.check.valid, run.check.faults
    assert (run.check.intended, run.check.sent, run.check.done) == (1000, 1000, 1000)


def test_a_stall_of_2_s_shows_in_corrected_p99_and_not_in_uncorrected():
    """One connection, and a server that stands still from second 4 to 6: what was meant to be sent meanwhile waits."""
    found = cell(Bench().run(every(0.01), lambda at: 6.0 if 4.0 <= at < 6.0 else at, was_free=False), HIT)
    assert found.corrected.percentile_us(0.99) == pytest.approx(1_900_000, rel=0.02)
    assert found.uncorrected.percentile_us(0.99) == pytest.approx(400, abs=2)


def test_a_server_that_stood_still_while_everybody_waited_does_not_invalidate_the_run():
    run = Bench().run(every(0.01), lambda at: 6.0 if 4.0 <= at < 6.0 else at, was_free=False)
    assert run.check.faults == []
    assert run.check.late_share == 0


def test_a_generator_that_is_late_although_somebody_was_free_is_invalid():
    run = Bench().run(every(0.01), lambda at: at + 0.011 if at >= 9.8 else at)
    assert run.check.late_share == pytest.approx(0.02)
    assert len(run.check.faults) == 1
    assert run.check.faults[0].startswith("2.0% of the requests were sent more than 10 ms late although somebody was ")


def test_one_late_request_in_a_hundred_is_borne():
    assert Bench().run(every(0.01), lambda at: at + 0.011 if at >= 9.9 else at).check.valid


def test_those_who_got_no_answer_are_in_the_percentiles_and_in_their_second():
    bench = Bench()
    for at in every(0.01):
        bench.recorder.intend(at)
    bench.recorder.begin()
    bench.pulses(10.0)
    for at in every(0.01):
        if 5.0 <= at < 5.5:
            bench.recorder.sample(ERROR, "/p", at, at + 0.001, at + 3.0, None, 0)
        else:
            bench.recorder.sample(HIT, "/p", at, at, at + 0.0004, 200, 1000)
    run = bench.recorder.finish(10.0)
    failed = cell(run, ERROR)
    assert failed.requests == 50
    assert failed.codes == {"no answer": 50}
    assert failed.corrected.percentile_us(0.5) == pytest.approx(3_000_000, rel=0.01)
    assert run.seconds[5].requests == {"error": {"eu": 50}, "hit": {"eu": 50}}
    assert (run.check.sent, run.check.done) == (1000, 950)
    assert run.check.valid


def test_what_was_never_sent_counts_with_the_time_that_it_waited_and_invalidates_the_run():
    run = Bench().run(every(0.01), lambda at: None if at >= 9.95 else at)
    lost = cell(run, ERROR)
    assert lost.codes == {"never sent": 5}
    assert lost.corrected.count == 5
    assert lost.corrected.highest_us == pytest.approx(50_000, abs=1)
    assert lost.uncorrected.count == 0
    assert run.check.faults == [
        "5 requests were never sent: whoever could have sent them waited for answers to the end"
    ]


def test_what_nobody_said_anything_of_is_found():
    bench = Bench()
    for at in every(0.01):
        bench.recorder.intend(at)
    bench.recorder.begin()
    bench.pulses(10.0)
    for at in every(0.01)[:-3]:
        bench.recorder.sample(HIT, "/p", at, at, at + 0.0004, 200, 1000)
    run = bench.recorder.finish(10.0)
    assert run.check.faults == ["3 requests were meant to be sent, and nobody said what became of them"]


def test_what_the_plan_does_not_have_is_found():
    bench = Bench()
    bench.recorder.begin()
    bench.recorder.intend(1.0)
    bench.pulses(10.0)
    for at in (1.0, 2.0):
        bench.recorder.sample(HIT, "/p", at, at, at + 0.0004, 200, 1000)
    assert bench.recorder.finish(10.0).check.faults == ["1 request was sent that the plan does not have"]


def test_a_run_that_fell_behind_is_invalid_even_if_everything_was_sent_in_the_end():
    run = Bench().run(every(0.01), lambda at: at * 2, ended_s=20.0, was_free=False)
    assert run.check.sent == run.check.intended == 1000
    assert len(run.check.faults) == 1
    assert run.check.faults[0].startswith("50.1% of the requests were sent before the end (501 of 1,000, at least 98%)")


def test_what_a_warm_up_left_over_is_not_achieved_by_the_phase_after_it():
    phases = (Phase("warm-up", 0.0, 2.0, counts=False), Phase("rest", 2.0, 10.0))
    late = Bench(phases).run(every(0.01), lambda at: 3.0 if at < 2.0 else at, was_free=False)
    assert sum(second.sent for second in late.seconds[2:]) == 1000
    assert take(late, "achieved") == take(late, "achieved", phase="warm-up") == 1.0


def test_achieved_is_what_the_run_is_judged_by():
    run = Bench().run(every(0.01), lambda at: at * 2, ended_s=20.0, was_free=False)
    assert run.check.faults[0].startswith(f"{take(run, 'achieved'):.1%} of the requests were sent before the end")


def test_the_rate_is_intended_against_achieved_second_by_second():
    run = Bench().run(every(0.01), lambda at: 6.0 if 4.0 <= at < 6.0 else at, was_free=False)
    assert [second.intended for second in run.seconds] == [100] * 10
    assert [second.sent for second in run.seconds] == [100, 100, 100, 100, 0, 0, 300, 100, 100, 100]
    assert run.seconds[4].latency["hit"].percentile_us(0.5) == pytest.approx(1_500_000, rel=0.02)


def test_a_loop_that_hung_for_a_second_counts_as_the_fifty_pulses_that_it_missed():
    run = Bench().run(every(0.01), hangs=(3.0, 4.0))
    assert run.check.lag_p99_ms == pytest.approx(900, rel=0.03)
    assert len(run.check.faults) == 1
    assert run.check.faults[0].startswith("its loop came round ")
    assert dict(run.series["generator_lag_ms"])[3.0] == pytest.approx(980, rel=0.03)


def test_a_loop_that_never_came_round_is_no_proof_of_a_quick_one():
    bench = Bench()
    bench.recorder.intend(1.0)
    bench.recorder.begin()
    bench.recorder.sample(HIT, "/p", 1.0, 1.0, 1.0004, 200, 1000)
    bench.now = 10.0
    assert bench.recorder.finish(10.0).check.lag_p99_ms == pytest.approx(9_900, rel=0.01)


def test_a_generator_that_is_overloaded_for_some_seconds_of_a_quiet_run_is_invalid():
    run = Bench(
        duration_s=30.0, phases=(Phase("rest", 0, 30),), cpu_share=lambda at: 0.97 if 10 < at <= 16 else 0.1
    ).run(every(0.1, 30.0))
    assert run.check.cpu_share == pytest.approx(0.27, abs=0.02)
    assert len(run.check.faults) == 1
    assert run.check.faults[0].startswith("it took 0.97 of a core from second 1")


def test_warm_up_is_recorded_and_not_judged():
    phases = (Phase("warm-up", 0, 2, counts=False), Phase("rest", 2, 10))
    bench = Bench(phases=phases, cpu_share=lambda at: 1.0 if at < 2 else 0.2)
    warm = HIT._replace(phase="warm-up")
    for at in every(0.01):
        bench.recorder.intend(at)
    bench.recorder.begin()
    bench.pulses(10.0, hangs=(0.0, 0.9))
    for at in every(0.01):
        bench.recorder.sample(
            warm if at < 2 else HIT, "/p", at, at + (0.5 if at < 1 else 0), at + (0.6 if at < 1 else 0.0004), 200, 10
        )
    run = bench.recorder.finish(10.0)
    assert run.check.faults == []
    assert run.check.intended == 800
    assert [each.label.phase for each in run.counted()] == ["rest"]
    assert cell(run, warm).requests == 200
    assert run.asked_urls == {"eu": 1}


def test_a_run_that_was_interrupted_says_so_and_misses_nothing_later():
    run = Bench().run(every(0.01), ended_s=4.0, cut_short="interrupted")
    assert run.check.faults == ["it ended after 4.0 of 10.0 s: interrupted"]
    assert run.check.intended == run.check.sent == 401
    assert run.duration_s == 4.0


def test_steal_is_told_and_a_lot_of_it_remarked_on():
    bench = Bench(steal_share=0.12)
    run = bench.run(every(0.01))
    assert run.check.valid
    assert run.check.steal_share == pytest.approx(0.12, abs=0.005)
    assert "gave 12.0% of its time to others" in run.check.remarks[0]


def test_addresses_that_missed_most_are_known():
    bench = Bench(phases=(Phase("warm-up", 0, 1, counts=False), Phase("rest", 1, 10)))
    bench.recorder.begin()
    told = [(MISS._replace(phase="warm-up"), "/a")] * 9 + [(MISS, "/b")] * 3 + [(HIT, "/b"), (MISS, "/c"), (HIT, "/d")]
    for number, (label, target) in enumerate(told):
        at = 0.5 if label.phase == "warm-up" else 1.5 + number / 100
        bench.recorder.intend(at)
        bench.recorder.sample(label, target, at, at, at + 0.05, 200, 10)
    bench.pulses(10.0)
    run = bench.recorder.finish(10.0)
    assert [(each.target, each.requests, each.misses) for each in run.addresses] == [("/b", 4, 3), ("/c", 1, 1)]
    assert run.asked_urls == {"eu": 4}


def test_a_recorded_run_is_read_as_it_was_written(tmp_path):
    bench = Bench()
    bench.recorder.event(3.0, "purge", "everything")
    bench.recorder.event(1.0, "price", "A")
    bench.recorder.changed(PriceChange(1.0, "eu-eur", "A", 12.5, None, {"eu": 80.0}))
    run = bench.run(every(0.01))
    assert [event.at_s for event in run.events] == [1.0, 3.0]
    write_run(run, tmp_path)
    assert read_run(tmp_path) == run


def test_a_run_has_a_phase():
    with pytest.raises(ValueError, match="at least one phase"):
        Bench(phases=())
