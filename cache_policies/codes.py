"""Everything that can be wrong with a policy, by a code that never changes its meaning. docs/lints.md explains each.

NS0xx a file cannot be read; NS1xx a field cannot be understood, or names nothing in its file; NS2xx the fields of one
route contradict each other; NS3xx routes, markets and origins contradict each other; NS4xx allowed, and probably a
mistake; NS5xx CloudFront cannot do it, and what it does instead. Errors keep an edge from starting; warnings and notes
do not.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Code(NamedTuple):
    """What a code means, in a few words."""

    title: str
    severity: Severity = Severity.ERROR


CODES: dict[str, Code] = {
    # A file.
    "NS001": Code("a file that cannot be opened"),
    "NS002": Code("not UTF-8 text"),
    "NS003": Code("not YAML"),
    "NS004": Code("an empty file"),
    "NS005": Code("a file that is no mapping"),
    "NS006": Code("an alias"),
    "NS007": Code("nested too deep"),
    "NS008": Code("a key written twice"),
    "NS009": Code("a key that is no plain word"),
    "NS010": Code("a YAML tag"),
    "NS011": Code("a number in a spelling that readers of YAML take differently"),
    "NS012": Code("more than one document in a file"),
    "NS013": Code("a file that is too large"),
    "NS014": Code("a file whose ending keeps it from being read"),
    # A field.
    "NS101": Code("no such field"),
    "NS102": Code("a field that is missing"),
    "NS103": Code("another kind of value"),
    "NS104": Code("none of the words it can be"),
    "NS105": Code("not a duration"),
    "NS106": Code("not a size"),
    "NS107": Code("neither true nor false"),
    "NS108": Code("not a status"),
    "NS109": Code("not a method"),
    "NS110": Code("not a query parameter"),
    "NS111": Code("not the name of a header field"),
    "NS112": Code("the same word twice in a list"),
    "NS113": Code("not a path pattern"),
    "NS114": Code("not an id"),
    "NS115": Code("a request field that the edge writes itself"),
    "NS116": Code("not a cache tag"),
    "NS117": Code("not a rate"),
    "NS118": Code("not a number in its range"),
    "NS119": Code("not a country"),
    "NS120": Code("not a currency"),
    "NS121": Code("not a language"),
    "NS122": Code("not the name of a jurisdiction"),
    "NS123": Code("not the id of a market"),
    "NS124": Code("not the name of an origin"),
    "NS125": Code("a rounding that its currency cannot have"),
    # What markets.yaml and origins.yaml say about themselves alone.
    "NS131": Code("a default market that is none"),
    "NS132": Code("a country in two markets"),
    "NS133": Code("a market without its own country"),
    "NS134": Code("a default origin that is none"),
    # The fields of one route contradict each other.
    "NS201": Code("personal data is stored"),
    "NS202": Code("a lifetime where nothing is stored"),
    "NS203": Code("a stored route without a lifetime"),
    "NS204": Code("a ceiling below the default"),
    "NS205": Code("cookies on a stored route"),
    "NS207": Code("refused and stored"),
    "NS208": Code("writes answered from the store"),
    "NS209": Code("a forwarded field that no variant depends on"),
    "NS210": Code("a stale price that nothing marks"),
    "NS211": Code("stale-marked without a stale page"),
    "NS212": Code("prices that do not say so"),
    "NS213": Code("a redirect that is stored or refused"),
    "NS214": Code("authorization required of stored answers"),
    "NS215": Code("residency of stored answers"),
    "NS216": Code("compressed by the edge and by the origin"),
    "NS217": Code("a tag names what the path does not capture"),
    "NS218": Code("more tags than a response may carry"),
    "NS219": Code("a tag that is too long"),
    "NS220": Code("a generation without its bucket in the path"),
    "NS221": Code("stored answers by Authorization"),
    "NS222": Code("two answers to an origin that is silent"),
    "NS223": Code("variants by fields that the origin never sees"),
    "NS224": Code("authorization shared where nothing is stored"),
    "NS225": Code("viewers may ask for old prices"),
    # Routes, markets and origins contradict each other.
    "NS301": Code("a route that is never reached"),
    "NS302": Code("an id taken twice"),
    "NS303": Code("requests without a route"),
    "NS304": Code("an unknown origin"),
    "NS305": Code("residency that no origin can honour"),
    "NS306": Code("reads fail over to an unknown origin"),
    "NS307": Code("an origin that fails over to itself"),
    "NS308": Code("a market's own country is blocked"),
    # Allowed, and probably a mistake.
    "NS401": Code("a cookie in the key", Severity.WARNING),
    "NS402": Code("the user agent in the key", Severity.WARNING),
    "NS403": Code("the country in the key", Severity.WARNING),
    "NS404": Code("tracking or cache-busting parameters in the key", Severity.WARNING),
    "NS405": Code("a secret or a person in the key", Severity.WARNING),
    "NS406": Code("more variants than a URL is worth", Severity.WARNING),
    "NS407": Code("a variant by a field that the origin never sees", Severity.WARNING),
    "NS408": Code("a price that may be shown for too long", Severity.WARNING),
    "NS409": Code("a price without a generation", Severity.WARNING),
    "NS410": Code("a price without a market in its key", Severity.WARNING),
    "NS411": Code("a stale price without a notice", Severity.WARNING),
    "NS412": Code("an address of one person that is public and stored", Severity.WARNING),
    "NS413": Code("one person's answers called public", Severity.WARNING),
    "NS414": Code("writes that a stored route does not need", Severity.WARNING),
    "NS415": Code("errors that are remembered for too long", Severity.WARNING),
    "NS416": Code("an answer about the asker, remembered for all", Severity.WARNING),
    "NS417": Code("kept too briefly to be validated", Severity.WARNING),
    "NS418": Code("a field without effect", Severity.WARNING),
    "NS419": Code("a tag that purges every market", Severity.WARNING),
    "NS420": Code("a sign-in without a throttle", Severity.WARNING),
    "NS421": Code("a country that does not exist", Severity.WARNING),
    "NS422": Code("markets that a residency route turns away", Severity.WARNING),
    "NS423": Code("reads fail over to another jurisdiction", Severity.WARNING),
    "NS424": Code("room for the origin's tags", Severity.WARNING),
    "NS425": Code("a wait beyond the origin's own deadline", Severity.WARNING),
    "NS426": Code("allowed without a reason", Severity.WARNING),
    "NS427": Code("allowed without need", Severity.WARNING),
    "NS428": Code("a country that the shop blocks and the route lets in", Severity.WARNING),
    "NS429": Code("stored, and never kept", Severity.WARNING),
    "NS430": Code("personal data without a place", Severity.WARNING),
    "NS431": Code("residency that a slash gets round", Severity.WARNING),
    "NS432": Code("every query parameter in the key of a stored route", Severity.WARNING),
    "NS433": Code("every request field at the origin of a stored route", Severity.WARNING),
    "NS434": Code("viewers may ask past the store without a throttle", Severity.WARNING),
    "NS490": Code("what tokenise may claim", Severity.NOTE),
    "NS491": Code("what seal may claim", Severity.NOTE),
    # CloudFront does otherwise, and what it does instead; from NS551 on it refuses.
    "NS500": Code("what holds for every route at CloudFront", Severity.NOTE),
    "NS501": Code("CloudFront matches more than the path", Severity.NOTE),
    "NS502": Code("CloudFront knows sets of methods only", Severity.NOTE),
    "NS503": Code("CloudFront's own logs see the address", Severity.NOTE),
    "NS504": Code("another lifetime at CloudFront", Severity.NOTE),
    "NS505": Code("stale-while-revalidate only as the origin says it", Severity.NOTE),
    "NS506": Code("no stale-if-error at CloudFront", Severity.NOTE),
    "NS507": Code("CloudFront keeps for as long as it likes", Severity.NOTE),
    "NS508": Code("errors are kept as the origin says", Severity.NOTE),
    "NS509": Code("CloudFront has no lease", Severity.NOTE),
    "NS510": Code("answered by the Function", Severity.NOTE),
    "NS511": Code("another difference at CloudFront", Severity.NOTE),
    "NS512": Code("tags are added before CloudFront stores", Severity.NOTE),
    "NS513": Code("Authorization at CloudFront", Severity.NOTE),
    "NS514": Code("an approximate throttle", Severity.NOTE),
    "NS515": Code("residency at CloudFront", Severity.NOTE),
    "NS516": Code("origins and failover at CloudFront", Severity.NOTE),
    "NS517": Code("compressed by CloudFront", Severity.NOTE),
    "NS518": Code("451 by the Function", Severity.NOTE),
    "NS519": Code("variants by the letter at CloudFront", Severity.NOTE),
    "NS520": Code("what costs extra at AWS", Severity.NOTE),
    "NS521": Code("fewer statuses are kept at CloudFront", Severity.NOTE),
    "NS522": Code("CloudFront ignores what requests say of caching", Severity.NOTE),
    "NS523": Code("CloudFront does not know an unreachable origin from a failing one", Severity.NOTE),
    "NS524": Code("request fields that CloudFront does not pass on", Severity.NOTE),
    "NS551": Code("too many headers for a key of CloudFront"),
    "NS552": Code("a header that CloudFront cannot key"),
    "NS553": Code("a path that is no pattern of CloudFront"),
    "NS554": Code("a Function that is too large"),
    "NS555": Code("a Lambda package that is too large"),
    "NS556": Code("a template that AWS would refuse"),
    "NS557": Code("every request field at the origin of what CloudFront stores"),
}
