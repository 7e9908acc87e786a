"""Origins by name: who may be asked for what. Their addresses belong to the deployment, not to the policies."""

from __future__ import annotations

from dataclasses import dataclass, field

DEFAULT_ORIGIN = "shop"


@dataclass(frozen=True, slots=True)
class Origin:
    """One origin, as `origins.yaml` names it. Times are seconds."""

    name: str
    jurisdictions: tuple[str, ...] = ()
    """Whose personal data may be sent here, by `Market.jurisdiction`; what `residency: route` looks at."""
    reads_fail_over_to: str = ""
    """Name of the origin that GET and HEAD are sent to when this one is unreachable or answers 500, 502, 503 or 504.
    Empty: none. Writes never fail over."""
    connect_timeout_s: float = 2.0
    response_timeout_s: float = 5.0
    """Until the head of the response."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Every origin, and the one for routes that name none."""

    all: tuple[Origin, ...] = (Origin(DEFAULT_ORIGIN),)
    default: str = DEFAULT_ORIGIN
    _by_name: dict[str, Origin] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {origin.name: origin for origin in self.all})
        if self.default not in self._by_name:
            raise ValueError(f"the default origin {self.default!r} is not among the origins")

    def by_name(self, name: str) -> Origin | None:
        """The origin called `name`; the default one for the empty name."""
        return self._by_name.get(name or self.default)

    def for_jurisdiction(self, jurisdiction: str) -> Origin | None:
        """The first origin that may hold personal data of `jurisdiction`; None: nobody may, so it must not be sent."""
        return next((origin for origin in self.all if jurisdiction in origin.jurisdictions), None)
