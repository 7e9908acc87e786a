"""Cache policies as plain values, however they were written down, and which one a request falls under."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class DataClass(StrEnum):
    PUBLIC = "public"
    PERSONAL = "personal"
    """Never stored, whatever a header says."""


class OnLeaseLapse(StrEnum):
    """What a route answers when the lease has run out and the origin cannot vouch for the head (rule 5)."""

    FAIL = "fail"
    """503 with Retry-After: prices, stock and every other JSON with a price."""
    STALE_MARKED = "stale-marked"
    """The stored page with its notice filled, within stale-if-error."""


class Generation(StrEnum):
    """Which bucket's position goes into CloudFront's key (docs/freshness.md)."""

    NONE = "none"
    PRODUCT = "product"
    CATEGORY = "category"
    MARKET = "market"


class Redirect(StrEnum):
    NONE = "none"
    MARKET = "market"
    """Answered by the edge itself: 302 to the visitor's market, never stored."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """One route: what it matches, how long its responses live, and what its key is made of.

    Lifetimes are seconds. The origin proposes (CDN-Cache-Control); `fresh_s` and the stale windows are the
    default where it is silent, the `max_*` values the ceiling where it is generous.
    """

    id: str
    path: str
    """Pattern: literal segments, `{name}` for one segment, `{name...}` for the rest; `{market}` is a known market."""
    where: str = ""
    """file:line:column it was written at, for messages and `explain`."""
    data_class: DataClass = DataClass.PUBLIC
    methods: tuple[str, ...] = ("GET", "HEAD")
    """Methods answered from the store; any other is forwarded, or refused if not in `forward_methods`."""
    forward_methods: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    store: bool = True
    fresh_s: float = 0.0
    max_fresh_s: float = 0.0
    stale_while_revalidate_s: float = 0.0
    stale_if_error_s: float = 0.0
    keep_s: float = 0.0
    """After the stale windows: kept only to be validated."""
    negative_s: tuple[tuple[int, float], ...] = ()
    """Freshness of error answers by status: (404, 10.0)."""
    query: tuple[str, ...] = ()
    """Parameters that count, in the order of the key; all others are dropped, not forwarded."""
    request_fields: tuple[str, ...] = ()
    """Request fields forwarded beyond the built-in allow-list."""
    vary: tuple[str, ...] = ()
    """Fields a response may vary on; one that varies on another is not stored."""
    cookies: bool = False
    """Whether Cookie and Set-Cookie pass; never on a stored route."""
    shows_price: bool = False
    """Leaves the edge as `Cache-Control: no-cache` with its ETag (rule 10)."""
    on_lease_lapse: OnLeaseLapse = OnLeaseLapse.FAIL
    generation: Generation = Generation.NONE
    redirect: Redirect = Redirect.NONE
    collapse_wait_s: float = 5.0
    max_body_bytes: int = 2_000_000


@dataclass(frozen=True, slots=True)
class Match:
    """The policy a request falls under, and what its pattern captured."""

    policy: CachePolicy
    captured: dict[str, str] = field(default_factory=dict)

    @property
    def market(self) -> str | None:
        return self.captured.get("market")
