"""What no shipped policy asks for: several origins, throttles, closed countries, credentials; and the clock itself."""

import asyncio
from pathlib import Path

import pytest

from edge.policy_files import load_policies
from infra.policy.scenario_files import read_scenarios
from infra.policy.scenarios import play
from infra.policy.virtual_time import START_S, VirtualLoop

POLICIES = load_policies(Path(__file__).parents[1] / "support" / "policies_full")

STORIES = {
    "a read fails over, and a write does not": """
      - origin: {shop: down}
        request: /eu-eur/guides/wood
        expect: {status: 200, stored: true, forwarded: {origin: shop-second}}
      - request: POST /elsewhere
        expect: {status: 503, origin_fetches: 0}
      - at: 1m
        origin: down
        request: /eu-eur/guides/steel
        expect: {status: 503, origin_fetches_so_far: 1}
      - at: 2m
        origin: {shop-second: up}
        request: /eu-eur/guides/steel
        expect: {status: 200, forwarded: {origin: shop-second}}
""",
    "personal data stays in its jurisdiction": """
      - request: {url: /eu-eur/account/me, headers: {authorization: Bearer t}}
        expect: {outcome: pass, forwarded: {origin: eu-vault, headers: {authorization: Bearer t}}}
      - request: /eu-eur/account/me
        expect: {status: 401, reason: authorization-missing, origin_fetches: 0, present: [www-authenticate]}
      - request: {url: /api/v1/eu-eur/orders, headers: {authorization: Bearer t}}
        expect: {status: 503, reason: no-vault, origin_fetches: 0}
""",
    "a throttle counts by address, and time lets more through": """
      - answers:
          /api/v1/eu-eur/prices/lamp: {body: "1", tags: ["p:eu-eur:lamp"]}
        request: {url: /api/v1/eu-eur/prices/lamp, times: 5}
        expect: {status: 200, origin_fetches: 1}
      - request: /api/v1/eu-eur/prices/lamp
        expect: {status: 429, reason: throttled, headers: {retry-after: "1"}}
      - request: {url: /api/v1/eu-eur/prices/lamp, client: 192.0.2.2}
        expect: {status: 200, outcome: hit}
      - at: 200ms
        request: /api/v1/eu-eur/prices/lamp
        expect: {status: 200, outcome: hit}
""",
    "a closed country": """
      - request: {url: /eu-eur/, country: KP}
        expect: {status: 451, reason: country-blocked, outcome: edge}
      - request: {url: /eu-eur/, country: SY}
        expect: {status: 200}
      - request: {url: /eu-eur/products/x, country: SY}
        expect: {status: 451}
      - request: /eu-eur/
        expect: {status: 200, outcome: hit}
""",
    "credentials go past the store, both ways": """
      - request: {url: /eu-eur/guides/wood, headers: {authorization: Bearer t}}
        expect: {outcome: pass, reason: authorization, stored: false, why_not_stored: authorization}
      - id: metric
        request: {url: /eu-eur/guides/wood, headers: {x-unit-system: metric}}
        expect: {outcome: miss, stored: true, tags: ["guide:eu-eur:wood"]}
      - request: {url: /eu-eur/guides/wood, headers: {x-unit-system: imperial}}
        expect: {outcome: miss, cache_status: {fwd: vary-miss}, same_key_as: metric}
      - request: {url: /eu-eur/guides/wood, headers: {x-unit-system: metric}}
        expect: {outcome: hit}
""",
    "answers in turn, and a purge that is not heard of": """
      - answers:
          /eu-eur/: [{body: first}, {body: second}, {body: third}]
        request: /eu-eur/
        expect: {body: first, position: 1.1}
      - lease: lapses
        purge: {tags: ["page:home"]}
        request: /eu-eur/
        expect: {body: second, position: 1.2, purged_by: []}
      - at: 1s
        lease: renewed
        request: /eu-eur/
        expect: {outcome: hit, body: second, purged_by: []}
      - purge: {tags: ["page:home"]}
        request: /eu-eur/
        expect: {outcome: miss, body: third, purged_by: ["page:home"]}
      - purge: {tags: ["page:home"]}
        request: /eu-eur/
        expect: {outcome: validated, body: third}
""",
    "a crowd that arrives while an answer is under way": """
      - answers:
          /eu-eur/: {body: x, slow: 2s}
        request: /eu-eur/
        expect: {collapsed: 0, origin_fetches: 1}
      - at: 1s
        request: {url: /eu-eur/, times: 10}
        expect: {collapsed: 10, origin_fetches: 0, body: x}
      - at: 1500ms
        request: {url: /eu-eur/, times: 2}
        expect: {collapsed: 2, origin_fetches_so_far: 1}
""",
    "an origin that hangs up in the middle": """
      - answers:
          /eu-eur/: {body: x, slow: 2s}
        request: /eu-eur/
        expect: {status: 503, origin_fetches: 1}
      - at: 1s
        origin: down
""",
}
ANSWERS = """\
answers:
  /eu-eur/guides/wood: {body: wood, headers: {vary: x-unit-system}}
  "*": {body: x}
scenarios:
  story:
    steps:"""


@pytest.mark.parametrize("story", STORIES)
def test_it_is_as_expected(tmp_path, story):
    path = tmp_path / "story.yaml"
    path.write_text(ANSWERS + STORIES[story])
    file = read_scenarios(path, POLICIES)
    assert [str(fault) for fault in file.faults] == []
    played = play(file.scenarios[0], POLICIES)
    assert [f"{failure.field}: expected {failure.expected}, got {failure.got}" for failure in played.failures] == []
    assert played.checks > 0


def test_the_same_run_twice_is_the_same_run(tmp_path):
    path = tmp_path / "story.yaml"
    path.write_text(ANSWERS + STORIES["a crowd that arrives while an answer is under way"])
    scenario = read_scenarios(path, POLICIES).scenarios[0]
    first, second = play(scenario, POLICIES), play(scenario, POLICIES)
    assert (first.routes, first.virtual_s, first.checks) == (second.routes, second.virtual_s, second.checks)
    assert first.virtual_s == 2


@pytest.mark.parametrize("seconds", [0.001, 1.0, 86_400.0, 10 * 365 * 86_400.0])
def test_time_passes_exactly_however_late_it_is(seconds):
    async def waiting() -> float:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(seconds)
        for _ in range(3):
            await asyncio.sleep(0.3)
        return loop.time() - START_S

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(waiting()) == pytest.approx(seconds + 0.9, abs=1e-5)


def test_nobody_listens_but_the_origins():
    async def connecting() -> None:
        await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", 80)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner, pytest.raises(ConnectionRefusedError, match="127"):
        runner.run(connecting())


def test_everybody_waiting_for_nothing_is_said_and_not_waited_for():
    async def waiting() -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="nothing is left"), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(waiting())
