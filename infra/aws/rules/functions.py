"""CloudFront Functions: what runtime 2.0 refuses or does not know, and what ends in 502 for every viewer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge.core.policy import Redirect
from edge.lambda_edge.origin_request import VIEWER_COUNTRY_FIELD
from infra.aws.functions import MAX_FUNCTION_BYTES
from infra.aws.rules.stack import CLOUDFRONT, Found, Map, Stack, part, parts, references, rule, text

_RUNTIME_PAGE = CLOUDFRONT + "functions-javascript-runtime-20"
# Comments and the insides of texts are no code. A template text keeps what stands in `${}` out of sight as well.
_NO_CODE = re.compile(
    r"//[^\n]*|/\*.*?\*/|'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|`(?:[^`\\]|\\.)*`|(?<=[=(,:!&|?{};\n])\s*/(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*",
    re.DOTALL,
)

UNKNOWN_SYNTAX = {
    "class": re.compile(r"\bclass\s+[A-Za-z_$]|\bclass\s*\{"),
    "spread": re.compile(r"[(\[{,]\s*\.\.\.(?!\s*[A-Za-z_$][\w$]*\s*\)\s*(?:\{|=>))"),
    "destructuring": re.compile(r"\b(?:const|let|var)\s*[\[{]"),
    "for...of": re.compile(r"\bfor\s*(?:await\s*)?\([^;)]*\bof\b"),
    "optional chaining": re.compile(r"\?\.(?!\d)"),
    "nullish coalescing": re.compile(r"\?\?"),
    "a default parameter": re.compile(r"\bfunction\b[^(]*\([^)]*=[^)]*\)\s*\{|\([^()]*\b[\w$]+\s*=[^=()][^()]*\)\s*=>"),
    "Map or Set": re.compile(r"\bnew\s+(?:Weak)?(?:Map|Set)\b"),
    "a generator": re.compile(r"\bfunction\s*\*|\byield\b"),
}
ABSENT = {
    "eval": re.compile(r"\beval\s*\("),
    "Function": re.compile(r"\bnew\s+Function\b"),
    "a timer": re.compile(r"\bset(?:Timeout|Interval|Immediate)\b"),
    "the network": re.compile(r"\bfetch\s*\(|\bXMLHttpRequest\b"),
    "the environment": re.compile(r"\bprocess\.env\b"),
    "another module": re.compile(r"\brequire\s*\(\s*(?!['\"](?:crypto|querystring|cloudfront|buffer)['\"])"),
}
_IMPORT = re.compile(r"^\s*import\b[^;\n]*?from\s*['\"]([^'\"]+)['\"]", re.MULTILINE)
READ_ONLY = frozenset({"cdn-loop", "content-length", "host", "transfer-encoding", "via", "x-forwarded-proto"})
"""Fields that a Function may not write, here as they would be written by name."""
_WRITES = re.compile(r"headers\s*(?:\.\s*([A-Za-z_$][\w$]*)|\[\s*['\"]([^'\"]+)['\"]\s*\])\s*=(?!=)")


def code_of(source: str) -> str:
    """A Function without its comments and texts."""
    return _NO_CODE.sub(" ", source)


def _functions(stack: Stack) -> Iterator[tuple[str, Map, str]]:
    """Logical id, properties, source."""
    for logical_id, properties in stack.of_type("CloudFront::Function"):
        yield logical_id, properties, text(properties.get("FunctionCode"))


@rule(
    "EDGE141",
    "a Function that is too large",
    fix="use fewer routes or markets, or let routes agree",
    source=CLOUDFRONT + "cloudfront-function-restrictions",
)
def _size(stack: Stack) -> Iterator[Found]:
    for logical_id, _, source in _functions(stack):
        size = len(source.encode())
        if size > MAX_FUNCTION_BYTES:
            yield Found(logical_id, f"{size} bytes, a Function has {MAX_FUNCTION_BYTES}: refused")


@rule("EDGE142", "the first runtime", fix="use cloudfront-js-2.0", source=_RUNTIME_PAGE)
def _runtime(stack: Stack) -> Iterator[Found]:
    for logical_id, properties, _ in _functions(stack):
        runtime = part(properties, "FunctionConfig").get("Runtime")
        if runtime != "cloudfront-js-2.0":
            yield Found(logical_id, f"{runtime} has no KeyValueStore, no async and no const")


@rule(
    "EDGE143",
    "a KeyValueStore that is not there",
    fix="associate the store Generations, and no other: a Function has one",
    source=CLOUDFRONT + "kvs-with-functions-associate",
)
def _store(stack: Stack) -> Iterator[Found]:
    for logical_id, properties, source in _functions(stack):
        stores = parts(part(properties, "FunctionConfig").get("KeyValueStoreAssociations"))
        if "cf.kvs(" in source and not stores:
            yield Found(
                logical_id,
                "reads a KeyValueStore and is associated with none: no generation, so nothing is ever reused",
                tuple(route for route in stack.policies.policies if route.generation != "none"),
                "generation",
            )
        if len(stores) > 1:
            yield Found(logical_id, f"{len(stores)} stores: refused")


@rule(
    "EDGE165",
    "syntax that the runtime does not know",
    fix="write it in ES 5.1 and what the page adds to it",
    source=_RUNTIME_PAGE,
)
def _syntax(stack: Stack) -> Iterator[Found]:
    for logical_id, _, source in _functions(stack):
        code = code_of(source)
        for what, pattern in UNKNOWN_SYNTAX.items():
            found = pattern.search(code)
            if found:
                yield Found(logical_id, f"{what}, at {found[0].strip()[:40]!r}: refused, or an error for every viewer")


@rule(
    "EDGE166",
    "what no Function has",
    fix="do without: a Function has no network, no clock to wait for, no environment and no code made of text",
    source=_RUNTIME_PAGE,
)
def _absent(stack: Stack) -> Iterator[Found]:
    for logical_id, _, source in _functions(stack):
        # Modules are named by texts, so only comments are left out for them.
        for what, pattern in ABSENT.items():
            found = pattern.search(re.sub(r"//[^\n]*", "", source) if what == "another module" else code_of(source))
            if found:
                yield Found(logical_id, f"{what}, at {found[0].strip()[:40]!r}")
        for module in _IMPORT.findall(source):
            if module != "cloudfront":
                yield Found(logical_id, f"import from {module!r}")


@rule(
    "EDGE169",
    "a country that the Function does not see",
    fix=f"list {VIEWER_COUNTRY_FIELD} in the origin request policy",
    source=CLOUDFRONT + "adding-cloudfront-headers",
)
def _country(stack: Stack) -> Iterator[Found]:
    readers = {logical_id for logical_id, _, source in _functions(stack) if VIEWER_COUNTRY_FIELD in source}
    for behaviour in stack.behaviours:
        asks = tuple(
            route for route in behaviour.routes if route.blocked_countries or route.redirect is Redirect.MARKET
        )
        seen = {*behaviour.forwarded_headers, *behaviour.cached_headers}
        if asks and VIEWER_COUNTRY_FIELD not in seen and readers & references(behaviour.written):
            yield Found(
                behaviour.where,
                f"no policy asks for {VIEWER_COUNTRY_FIELD}: "
                "nobody is blocked, and everybody is led to the default market",
                asks,
                "blocked_countries",
            )


@rule(
    "EDGE170",
    "a field that a Function may not write",
    fix="leave it to CloudFront",
    source=CLOUDFRONT + "edge-function-restrictions-all",
)
def _fields(stack: Stack) -> Iterator[Found]:
    for logical_id, _, source in _functions(stack):
        for match in _WRITES.finditer(re.sub(r"//[^\n]*", "", source)):
            name = (match[1] or match[2]).lower()
            if name in READ_ONLY or name.startswith(("cloudfront-viewer-", "x-edge-", "x-amz-cf-", "x-amzn-")):
                yield Found(logical_id, f"writes {name}: every request ends with 502")


@rule(
    "EDGE171",
    "a Function that is not published",
    fix="set AutoPublish to true",
    source=CLOUDFRONT + "publish-function",
)
def _published(stack: Stack) -> Iterator[Found]:
    for logical_id, properties, _ in _functions(stack):
        if properties.get("AutoPublish") is not True:
            yield Found(logical_id, "stays in the stage DEVELOPMENT: viewers get the Function of before, or none")


@rule(
    "EDGE173",
    "a Function without a handler",
    fix="name the function handler: no other name is called",
    source=CLOUDFRONT + "writing-function-code",
)
def _handler(stack: Stack) -> Iterator[Found]:
    for logical_id, _, source in _functions(stack):
        if not re.search(r"\bfunction\s+handler\s*\(", code_of(source)):
            yield Found(logical_id, "no function handler: refused, or 503 for every viewer")


@rule(
    "EDGE174",
    "a status that is a text",
    fix="write statusCode as a number: only Lambda@Edge has it as a text",
    source=CLOUDFRONT + "functions-event-structure",
)
def _status(stack: Stack) -> Iterator[Found]:
    for logical_id, _, source in _functions(stack):
        found = re.search(r"\bstatusCode\s*[:=]\s*['\"`]", re.sub(r"//[^\n]*", "", source))
        if found:
            yield Found(logical_id, f"{found[0]}...: the answer is refused, and the viewer gets 502")
