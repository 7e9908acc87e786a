"""The tier of a site: what its workers share in Redis, off the path of a hit.

It is asked by flights alone, and it may hang, die or forget at any moment, which costs misses: no method raises, each
wait is bounded, and after a few failures in a row nobody waits for it at all until the worker has reached it again.

Safe by what the rules already say: a record carries its position and tags, and every worker holds it against its own
floors and its own lease, as it does with its own (docs/freshness.md). Machines of one site may disagree about the
time: a record's age is counted by their wall clocks and by the server's own clock, and the older of the two counts. By
the server's clock it begins when the record was sent, as its writer knew that clock, for it may be long on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import orjson
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from edge.core.key import CacheKey
from edge.core.stored import StoredResponse
from edge.store.base import MAX_VARIANTS
from edge.store.codec import VERSION, Unreadable, decode, encode, key_record

logger = logging.getLogger("nearshelf.regional")

WAIT_S = 0.5
"""How long anything may wait for one word of the server, connecting included. After the purge of a hot tag the server's
machine is as busy as everybody's, and going without it then would double what the origin is asked for."""
HELD_UP_S = 0.02
"""A wait that ended so much later than it should have tells that this process was held up."""
MOST_WAITS = 10
"""For one word, each of `WAIT_S`, while this process is held up again and again."""
REACH_S = 2.0
"""The same in the background, where nobody waits."""
FAILURES = 3
"""In a row: then nobody waits for it any more."""
RETRY_S = 0.5
"""Before it is tried again, in the background; doubles up to the next."""
LONGEST_RETRY_S = 5.0
QUIET_S = 1.0
"""After so long without a word the connection that hears of landings is asked whether it still is one."""
MAX_RECORD_BYTES = 2_500_000
"""Larger responses each worker fetches for itself: they would fill the server, and hold up its other callers."""
LONGEST_LIFE_S = 366 * 86_400.0
"""A record is forgotten then at the latest."""
MAX_WAITING_BYTES = 16_000_000
MAX_WAITING = 4_000
"""What waits to be written, at the most: beyond it records are not kept."""
AT_ONCE, AT_ONCE_BYTES = 64, 500_000
"""Writes sent together, the last one not counted: what a slow line carries within `WAIT_S`."""
MAX_OWED = 20_000
"""Keys to be dropped that are remembered while the server is away; beyond it the oldest are forgotten."""
CONNECTIONS = 16
SAY_EVERY_S = 60.0
"""The same complaint is not logged more often."""

_DROP = "UNLINK"
_FAULTS = (RedisError, OSError, TimeoutError)

# A record never gives way to one of lower position (docs/freshness.md, rule 1). Positions are written with leading
# zeros, so that their order is that of their text. A key with too many variants starts over.
_KEEP = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.sub(held, 1, 28) > ARGV[2] then return 0 end
if not held and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then redis.call('DEL', KEYS[1]) end
local now = redis.call('TIME')
local moment = string.format('%010d.%06d', now[1], now[2])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. moment .. ' ' .. ARGV[3])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1
"""

# Only who holds the claim ends it: by now it may have run out, and be somebody else's.
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', KEYS[2], ARGV[2])
return 1
"""

T = TypeVar("T")


class RegionalTier:
    """One worker's end (`base.Tier`). `site`: whose workers share it, the edge's name.

    `url`: redis://, rediss:// or unix://. `clock` and `wall` are edge.clock's two readings.
    """

    def __init__(self, url: str, site: str, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        # How long anybody waits is seen to here (`_bounded`): the client's own timers would count what this process was
        # held up for as the server's.
        self._redis = _client(url, ConnectionPool, REACH_S, max_connections=2 * CONNECTIONS, socket_timeout=None)
        self._connections = asyncio.Semaphore(CONNECTIONS)
        # Landings are listened for without an end.
        self._ears = _client(url, ConnectionPool, REACH_S, max_connections=1, socket_timeout=None)
        self._prefix = f"nearshelf:{VERSION}:{site}:"
        self._landings = f"{self._prefix}landings"
        self._clock = clock
        self._wall = wall
        self._server_ahead_s = 0.0
        """What the server's clock showed more than the edge's when its answer had come: never too much."""
        self._up = False
        self._failures = 0
        self._said: dict[str, float] = {}
        self._waiting: dict[str, dict[asyncio.Future[bool], None]] = {}
        """In the order in which they began to."""
        self._to_write: asyncio.Queue[tuple[int, tuple[Any, ...]]] = asyncio.Queue(MAX_WAITING)
        self._bytes_to_write = 0
        self._owed: dict[str, None] = {}
        """Records that a write made unusable, and of which the server has not confirmed that they are gone."""
        self._tasks: list[asyncio.Task[None]] = []
        self.found = 0
        self.kept = 0
        self.not_kept = 0
        """Responses that were too large, or came while the server was away or slow."""
        self.unreadable = 0
        self.outages = 0

    @property
    def up(self) -> bool:
        """Whether the server is asked at all; until it is reached, and after it failed, everybody goes without."""
        return self._up

    def start(self) -> None:
        """Begin to reach for the server, in the background. Needs a running loop."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._listen()), loop.create_task(self._write())]

    def leave(self) -> None:
        """From here on it is neither asked nor told anything; what waits to be written is forgotten."""
        for task in self._tasks:
            task.cancel()
        self._go_down()

    async def close(self) -> None:
        """Leave, and hang up."""
        self.leave()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in (self._redis, self._ears):
            with contextlib.suppress(*_FAULTS):
                await client.aclose()

    def status(self) -> dict[str, Any]:
        """What `/status` shows of it."""
        return {
            "up": self._up,
            "found": self.found,
            "kept": self.kept,
            "not_kept": self.not_kept,
            "unreadable": self.unreadable,
            "outages": self.outages,
        }

    # -- what flights call ---------------------------------------------------------------------------------------------

    async def find(self, key: CacheKey, policy_version: str) -> tuple[StoredResponse, ...]:
        """The variants under `key` that were stored under this version of its policy, the newest first."""
        if not self._up:
            return ()

        async def ask() -> list[Any]:
            pipe = self._redis.pipeline(transaction=False)
            pipe.hvals(self._name_of(key))
            pipe.time()
            return await pipe.execute()

        answer = await self._bounded(ask)
        if answer is None:
            return ()
        values, told = answer
        server_now = self._heard_time(told)
        found = []
        for value in values:
            try:
                stored = self._read(value, server_now)
                if stored.key != key:
                    raise Unreadable("a record of another key")
            except Unreadable as exc:
                self.unreadable += 1
                self._say("a record in the regional tier cannot be used, and counts as absent: %s", exc)
                continue
            if stored.policy_version == policy_version and self._clock() < stored.keep_until:
                found.append(stored)
        self.found += bool(found)
        return tuple(sorted(found, key=lambda stored: stored.stored_at, reverse=True))

    def keep(self, stored: StoredResponse) -> None:
        """Keep `stored` until its `keep_until`; in the background."""
        now, wall = self._clock(), self._wall()
        lives_ms = math.ceil(min(stored.keep_until - now, LONGEST_LIFE_S) * 1000)
        if lives_ms <= 0:
            return
        if not self._up or len(stored.body) + self._bytes_to_write > MAX_WAITING_BYTES:
            self.not_kept += 1
            return
        record = encode(stored, ahead_s=wall - now)
        if len(record) > MAX_RECORD_BYTES:
            self.not_kept += 1
            return
        epoch, cv = stored.position
        variant = hashlib.sha256(orjson.dumps(stored.vary)).digest()
        value = b"%.6f %.6f " % (now + self._server_ahead_s, wall) + record
        told = (variant, f"{epoch:09d}.{cv:018d}", value, lives_ms, MAX_VARIANTS)
        self._later(("EVAL", _KEEP, 1, self._name_of(stored.key), *told), len(record))

    def drop(self, key: CacheKey) -> None:
        """Forget every variant under `key`; in the background, after what was kept before it. While the server is away
        it is remembered, and done before the server is asked for anything again."""
        name = self._name_of(key)
        self._owed.pop(name, None)
        self._owed[name] = None
        if len(self._owed) > MAX_OWED:
            del self._owed[next(iter(self._owed))]
        self._later((_DROP, name))

    async def claim(self, variant: bytes, for_s: float) -> RegionalClaim:
        """Take part in the flight called `variant`; whoever claims it first flies, for `for_s` seconds at the most."""
        name = hashlib.sha256(variant).hexdigest()
        landing: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not self._up:
            return RegionalClaim(self, name, landing, "", 0.0)
        token = secrets.token_urlsafe(16)
        # Waits from before the question: between its answer and a landing nothing can be missed.
        self._waiting.setdefault(name, {})[landing] = None
        claim = f"{self._prefix}claim:{name}"

        async def ask() -> list[Any]:
            pipe = self._redis.pipeline(transaction=False)
            pipe.set(claim, token, nx=True, px=max(1, math.ceil(for_s * 1000)))
            pipe.pttl(claim)
            return await pipe.execute()

        try:
            answer = await self._bounded(ask)
        except asyncio.CancelledError:
            self._forget(name, landing)
            raise
        if answer is not None and not answer[0]:
            return RegionalClaim(self, name, landing, None, self._clock() + max(0, answer[1]) / 1000)
        self._forget(name, landing)
        # A claim whose answer did not come may stand all the same: it is released like any other.
        return RegionalClaim(self, name, landing, token, 0.0)

    # -- the claim's part ----------------------------------------------------------------------------------------------

    def now(self) -> float:
        """A moment of the edge's clock."""
        return self._clock()

    def end(self, name: str, landing: asyncio.Future[bool], token: str | None) -> None:
        """A claim is not needed any more: nobody waits for `landing`, and what `token` holds is free."""
        self._forget(name, landing)
        if token:
            self._later(("EVAL", _RELEASE, 2, f"{self._prefix}claim:{name}", self._landings, token, name))

    def _forget(self, name: str, landing: asyncio.Future[bool]) -> None:
        waiting = self._waiting.get(name)
        if waiting is not None:
            waiting.pop(landing, None)
            if not waiting:
                del self._waiting[name]

    # -- one word with the server --------------------------------------------------------------------------------------

    async def _bounded(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """The server's answer; None when there was none in time. Whoever finds every connection in use waits for one,
        and its time counts from then: were the server gone, everybody would hear of it by those before."""
        async with self._connections:
            return await self._answer(ask) if self._up else None

    async def _answer(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        try:
            answer = await _in_time(asyncio.ensure_future(ask()))
        except ResponseError as exc:
            # It answers, and will not do it: out of memory, no permission.
            self._say("the regional tier refuses a command: %s", exc)
            return None
        except _FAULTS as exc:
            self._failures += 1
            if self._failures >= FAILURES:
                self._go_down(exc)
            return None
        self._failures = 0
        return answer

    def _heard_time(self, told: tuple[int, int]) -> float:
        """What the server's clock shows, by its answer to TIME, which has just come."""
        seconds, microseconds = told
        server_now = seconds + microseconds / 1e6
        self._server_ahead_s = server_now - self._clock()
        return server_now

    def _read(self, value: bytes, server_now: float) -> StoredResponse:
        """The response in a value of the server's hash. Raises Unreadable."""
        try:
            _, kept_at, sent_at, written_at, record = value.split(b" ", 4)
            by_server = max(server_now - float(kept_at), server_now - float(sent_at))
            by_wall = self._wall() - float(written_at)
        except ValueError as exc:
            raise Unreadable("no times before it") from exc
        if not (math.isfinite(by_server) and math.isfinite(by_wall)):
            raise Unreadable("times that are no numbers")
        # Where this machine's wall clock is behind the writer's, the server's own clock says what it is behind by.
        behind_s = max(0.0, by_server - by_wall)
        return decode(record, ahead_s=self._wall() - self._clock() + behind_s)

    def _name_of(self, key: CacheKey) -> str:
        return f"{self._prefix}key:{hashlib.sha256(key_record(key)).hexdigest()}"

    # -- in the background ---------------------------------------------------------------------------------------------

    def _later(self, command: tuple[Any, ...], size: int = 0) -> None:
        if not self._up:
            return
        try:
            self._to_write.put_nowait((size, command))
        except asyncio.QueueFull:
            self.not_kept += size > 0
            return
        self._bytes_to_write += size

    async def _write(self) -> None:
        """Send what is to be written, in its order: a claim is released only after its answer is there."""
        while True:
            batch = [await self._to_write.get()]
            octets = batch[0][0]
            while len(batch) < AT_ONCE and octets < AT_ONCE_BYTES and not self._to_write.empty():
                batch.append(self._to_write.get_nowait())
                octets += batch[-1][0]
            self._bytes_to_write -= octets
            records = sum([size > 0 for size, _ in batch])
            done = await self._bounded(partial(self._send, [command for _, command in batch]))
            if done is None:
                self.not_kept += records
                self._owed.update({command[1]: None for _, command in batch if command[0] == _DROP})
                continue
            for (size, command), outcome in zip(batch, done, strict=True):
                if command[0] == _DROP and not isinstance(outcome, ResponseError):
                    self._owed.pop(command[1], None)
                if isinstance(outcome, ResponseError):
                    self._say("the regional tier refuses a command: %s", outcome)
                    self.not_kept += size > 0
                elif size > 0:
                    self.kept += 1

    async def _send(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return await pipe.execute(raise_on_error=False)

    async def _listen(self) -> None:
        """Reach the server, hear of landings, and reach for it again when it is lost."""
        pause_s = RETRY_S
        while True:
            ears = self._ears.pubsub()
            try:
                async with asyncio.timeout(REACH_S):
                    await ears.subscribe(self._landings)
                    await self._pay()
                self._go_up()
                pause_s = RETRY_S
                await self._hear(ears)
            except _FAULTS as exc:
                self._go_down(exc)
            finally:
                with contextlib.suppress(*_FAULTS):
                    await ears.aclose()  # type: ignore[no-untyped-call]  # of a typed package
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_RETRY_S)

    async def _pay(self) -> None:
        """Drop what could not be dropped while the server was away, and hear what its clock shows."""
        told = await self._redis.execute_command("TIME")  # type: ignore[no-untyped-call]  # of a typed package
        self._heard_time(told)
        while self._owed:
            names = list(islice(self._owed, 1_000))
            await self._redis.unlink(*names)
            for name in names:
                self._owed.pop(name, None)

    async def _hear(self, ears: PubSub) -> None:
        """Until the server is lost. Raises what redis raises."""
        asked = False
        while self._up:
            message = await ears.get_message(timeout=QUIET_S)
            if message is not None:
                asked = False
                if message["type"] == "message":
                    self._landed(message["data"].decode("ascii", "replace"))
            elif asked:
                raise TimeoutError(f"not a word for {2 * QUIET_S:.0f} s")
            else:
                asked = True
                await ears.ping()

    def _say(self, what: str, *about: object) -> None:
        now = self._clock()
        if now - self._said.get(what, -math.inf) >= SAY_EVERY_S:
            self._said[what] = now
            logger.warning(what, *about)

    def _landed(self, name: str) -> None:
        for landing in self._waiting.pop(name, ()):
            if not landing.done():
                landing.set_result(True)

    def _go_up(self) -> None:
        self._failures = 0
        self._up = True
        if self.outages:
            logger.warning("the regional tier is reached again")

    def _go_down(self, why: BaseException | None = None) -> None:
        """Nobody waits for the server from here on; whoever does by now is told that nothing will come."""
        if self._up:
            self._up = False
            self.outages += 1
            if why is not None:
                logger.warning(
                    "the regional tier does not answer (%s): going without it until it does",
                    str(why) or f"not a word for {WAIT_S} s",
                )
        for waiting in self._waiting.values():
            for landing in waiting:
                if not landing.done():
                    landing.set_result(False)
        self._waiting.clear()


class RegionalClaim:
    """`base.Claim`. `token` is None where another worker flies, until `until` at the latest by the edge's clock."""

    def __init__(
        self, tier: RegionalTier, name: str, landing: asyncio.Future[bool], token: str | None, until: float
    ) -> None:
        self._tier = tier
        self._name = name
        self._landing = landing
        self._token = token
        self._until = until

    @property
    def mine(self) -> bool:
        """Whether this worker is to ask the origin. Also where the tier cannot say: then every worker asks."""
        return self._token is not None

    async def landed(self, wait_s: float) -> bool:
        """Wait until the worker that flies has put its answer into the tier, or has given up. False: `wait_s` passed,
        its claim ran out, the tier died, or there is nobody to wait for because the claim is `mine`."""
        if self.mine:
            return False
        try:
            async with asyncio.timeout(min(wait_s, self._until - self._tier.now())):
                return await self._landing
        except TimeoutError:
            return False
        finally:
            self.release()

    def release(self) -> None:
        """The flight of a claim that is `mine` has ended; whoever waits is woken. Never waits."""
        self._tier.end(self._name, self._landing, self._token)


async def _in_time(answer: asyncio.Future[T]) -> T:
    """The answer, if it comes within `WAIT_S`. Raises TimeoutError.

    Where this process itself was held up for long, as in a crowd of requests, the answer may be here and not be read
    yet: then it gets as long again.
    """
    loop = asyncio.get_running_loop()
    answer.add_done_callback(_heard)
    try:
        for _ in range(MOST_WAITS):
            until = loop.time() + WAIT_S
            await asyncio.wait([answer], timeout=WAIT_S)
            if answer.done():
                return answer.result()
            if loop.time() - until < HELD_UP_S:
                break
        raise TimeoutError
    finally:
        answer.cancel()


def _heard(answer: asyncio.Future[T]) -> None:
    """What comes of it when nobody waits any more is nobody's business."""
    if not answer.cancelled():
        answer.exception()


def _client(url: str, pool: type[ConnectionPool], connect_s: float, **settings: Any) -> Redis:
    """No second tries of redis's own: a flight asks once, and goes without. Raises ValueError for what is no URL."""
    once = Retry(NoBackoff(), 0)
    connections = pool.from_url(url, protocol=2, socket_connect_timeout=connect_s, retry=once, **settings)
    return Redis.from_pool(connections)
