"""Compiled for CloudFront: the same bytes every time, accepted by cfn-lint, nothing dropped in silence."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cache_policies.markets import load_markets
from edge.core.policy import ALL_QUERY, CachePolicy, Generation, PolicySet
from edge.policy_files import PolicyError, load_policies
from infra.aws.compile import FUNCTION, PACKAGE, REPORT, TEMPLATE, compile_policies, compile_to
from infra.aws.functions import FunctionTooLarge
from infra.aws.templates.edge import CACHING_DISABLED, MAX_TTL_S, PRICE_MAX_TTL_S, ordered_behaviours, takes_in

REST = CachePolicy("rest", "/{rest...}", store=False, query=ALL_QUERY)


@pytest.fixture(scope="module")
def compiled():
    return compile_policies(load_policies())


@pytest.fixture(scope="module")
def template(compiled):
    return json.loads(compiled.files[TEMPLATE])


def config_of(template):
    return template["Resources"]["Distribution"]["Properties"]["DistributionConfig"]


def behaviours_of(template):
    config = config_of(template)
    return {**{item["PathPattern"]: item for item in config["CacheBehaviors"]}, "*": config["DefaultCacheBehavior"]}


def cache_policy_of(template, pattern):
    reference = behaviours_of(template)[pattern]["CachePolicyId"]
    return template["Resources"][reference["Ref"]]["Properties"]["CachePolicyConfig"]


def test_the_same_policies_give_the_same_bytes_in_another_process(tmp_path, compiled):
    compile_to(None, tmp_path / "here")
    command = (
        "import sys, pathlib; from infra.aws.compile import compile_to; compile_to(None, pathlib.Path(sys.argv[1]))"
    )
    environment = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", command, str(tmp_path / "there")], check=True, env=environment)
    for name, content in compiled.files.items():
        assert (tmp_path / "here" / name).read_bytes() == content
        assert (tmp_path / "there" / name).read_bytes() == content
    assert set(compiled.files) == {TEMPLATE, FUNCTION, PACKAGE, REPORT}


def test_cfn_lint_finds_nothing(tmp_path, compiled):
    path = tmp_path / "edge.json"
    path.write_bytes(compiled.files[TEMPLATE])
    command = "import sys; from cfnlint.runner.cli import main; sys.exit(main())"
    found = subprocess.run(
        [sys.executable, "-c", command, "-r", "us-east-1", "-t", str(path)], capture_output=True, text=True
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_everything_in_the_template_is_used(template):
    text = json.dumps({name: part for name, part in template.items() if name != "Resources"}) + json.dumps(
        list(template["Resources"].values())
    )
    for logical_id in (*template["Resources"], *template["Parameters"]):
        assert logical_id == "Distribution" or f'"{logical_id}"' in text or f"${{{logical_id}}}" in text, logical_id


def test_a_price_is_kept_for_a_minute_under_a_key_with_its_generation(template):
    for pattern in (
        "/??-???/",
        "/??-???/c/*",
        "/??-???/products/*",
        "/api/v1/??-???/prices/*",
        "/api/v1/??-???/stock/*",
    ):
        policy = cache_policy_of(template, pattern)
        assert (policy["MinTTL"], policy["DefaultTTL"], policy["MaxTTL"]) == (0, 0, PRICE_MAX_TTL_S)
        key = policy["ParametersInCacheKeyAndForwardedToOrigin"]
        assert key["HeadersConfig"]["Headers"] == ["x-forwarded-host", "nearshelf-generation"]
        assert key["CookiesConfig"] == {"CookieBehavior": "none"}
        response_id = behaviours_of(template)[pattern]["ResponseHeadersPolicyId"]["Ref"]
        response = template["Resources"][response_id]["Properties"]["ResponseHeadersPolicyConfig"]
        told = "no-cache" if pattern.startswith("/api/") else "no-cache, no-store"
        assert response["CustomHeadersConfig"]["Items"] == [
            {"Header": "Cache-Control", "Value": told, "Override": True}
        ]
        removed = {item["Header"] for item in response["RemoveHeadersConfig"]["Items"]}
        assert removed == {"Cache-Tag", "Catalog-Version", "CDN-Cache-Control", "Nearshelf-Expires-At"}


def test_the_cart_is_never_stored_and_gets_its_cookies(template):
    behaviour = behaviours_of(template)["/??-???/cart"]
    assert behaviour["CachePolicyId"] == CACHING_DISABLED
    request_policy = template["Resources"][behaviour["OriginRequestPolicyId"]["Ref"]]["Properties"]
    assert request_policy["OriginRequestPolicyConfig"]["CookiesConfig"] == {"CookieBehavior": "all"}
    assert "POST" in behaviour["AllowedMethods"]
    assert behaviours_of(template)["/??-???/products/*"]["AllowedMethods"] == ["GET", "HEAD"]


def test_hashed_files_are_kept_as_long_as_cloudfront_documents(template):
    assert cache_policy_of(template, "/static/*/*")["MaxTTL"] == MAX_TTL_S


def test_the_edge_key_is_a_reference_and_not_a_secret_in_the_template(template):
    (origin,) = config_of(template)["Origins"]
    assert origin["OriginCustomHeaders"] == [
        {
            "HeaderName": "nearshelf-edge-key",
            "HeaderValue": {"Fn::Sub": "{{resolve:secretsmanager:${EdgeKeySecret}}}"},
        }
    ]


def test_routes_that_say_the_same_share_their_policies(template):
    made = [resource["Properties"] for resource in template["Resources"].values() if "Policy" in resource["Type"]]
    contents = []
    for properties in made:
        for kind, config in properties.items():
            if kind.endswith("PolicyConfig"):
                contents.append(json.dumps({**config, "Name": None}, sort_keys=True) + kind)
    assert len(contents) == len(set(contents)) > 0


def test_the_narrower_pattern_stands_first_whatever_the_order_of_the_policies():
    policies = PolicySet(
        [
            CachePolicy("tree", "/{market}/c/{category...}", generation=Generation.CATEGORY),
            CachePolicy("one", "/{market}/c/{category}/list", generation=Generation.CATEGORY),
            CachePolicy("literal", "/{market}/c/sale", generation=Generation.MARKET),
            REST,
        ],
        load_markets(),
    )
    patterns = [behaviour.pattern for behaviour in ordered_behaviours(policies)]
    assert patterns.index("/??-???/c/*") > patterns.index("/??-???/c/*/list")
    assert patterns.index("/??-???/c/*") > patterns.index("/??-???/c/sale")


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/*", True),
        ("/a/*", "/a/", True),
        ("/a/*", "/a", False),
        ("/a/b", "/a/*", False),
        ("/??-???/", "/us-usd/", True),
        ("/us-usd/", "/??-???/", False),
        ("/*/c/*", "/??-???/c/*", True),
        ("/??-???/c/*", "/*/c/*", False),
        ("*", "/a?c*", True),
        ("/a*c", "/ab*bc", True),
        ("/a*c", "/ab*b", False),
        ("/a/*", "/b/a/*", False),
    ],
)
def test_a_pattern_takes_in_another(wide, narrow, expected):
    assert takes_in(wide, narrow) is expected


def test_the_report_names_every_route_with_its_place_and_what_cloudfront_does_instead(compiled):
    text = compiled.report.text()
    for policy in load_policies().policies:
        assert f"  {policy.id} ({policy.where})\n" in text
    instead = {(item.policy_id, item.field): item.instead for item in compiled.report.differences}
    assert instead["price", "stale_if_error"].startswith("0 s")
    assert "60 s" in instead["product-page", "fresh"]
    assert "404" in instead["edge-feed", "refuse"]
    assert "403" in instead["price", "forward_methods"]
    assert ("price", "on_lease_lapse") in instead
    assert ("", "soft purge") in instead
    assert compiled.files[REPORT].decode() == text
    assert "24 of 75" in text


def test_every_field_that_a_policy_may_set_is_compiled_or_reported():
    """A new field of a policy lands here first: say how it is compiled, or report that it is not."""
    compiled_fields = {
        "id", "path", "where", "methods", "forward_methods", "refuse_status", "store", "query", "request_fields",
        "vary", "cookies", "shows_price", "generation", "redirect", "fresh_s", "max_fresh_s",
    }  # fmt: skip
    reported = {
        "data_class", "stale_while_revalidate_s", "stale_if_error_s", "keep_s", "negative_s", "on_lease_lapse",
        "collapse_wait_s", "max_body_bytes",
    }  # fmt: skip
    assert {field.name for field in dataclasses.fields(CachePolicy)} == compiled_fields | reported


def test_hosts_of_the_shop_need_a_certificate_and_are_let_through():
    compiled = compile_policies(load_policies(), ["Shop.example", "shop.example"])
    template = json.loads(compiled.files[TEMPLATE])
    assert config_of(template)["Aliases"] == ["shop.example"]
    assert "CertificateArn" in template["Parameters"]
    assert "const HOSTS = ['shop.example'];" in compiled.files[FUNCTION].decode()


def test_faults_of_the_policies_are_the_compilers_too_and_nothing_is_written(tmp_path):
    (tmp_path / "default.yaml").write_text("routes:\n  all:\n    path: /{rest...}\n    fresh: soon\n")
    with pytest.raises(PolicyError, match=r"default\.yaml:4:"):
        compile_to(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_function_over_ten_kilobytes_is_refused_before_aws_does():
    many = [CachePolicy(f"route-number-{number}", f"/some/place/{number}", query=("q",)) for number in range(120)]
    with pytest.raises(FunctionTooLarge, match=r"viewer-request\.js: \d+ bytes, at most 10240; 121 routes"):
        compile_policies(PolicySet([*many, REST], load_markets()))


FORBIDDEN = [
    ("class", r"\bclass\b"),
    ("spread or rest of values", r"\.\.\.(?!\})"),
    ("destructuring", r"\b(?:const|let|var)\s*[\[{]"),
    ("for...of", r"\bfor\s*\([^;)]*\bof\b"),
    ("optional chaining", r"\?\.(?!\d)"),
    ("nullish coalescing", r"\?\?(?!-)"),
    ("a default parameter", r"function[^(]*\([^)]*="),
    ("an arrow function", r"=>"),
    ("Map or Set", r"\bnew (?:Map|Set|WeakMap)\b"),
    ("eval", r"\beval\b|\bnew Function\b"),
    ("a timer", r"\bset(?:Timeout|Interval)\b"),
    ("fetch", r"\bfetch\b"),
]


@pytest.mark.parametrize(("what", "pattern"), FORBIDDEN, ids=[what for what, _ in FORBIDDEN])
def test_the_function_keeps_to_what_the_runtime_knows(what, pattern, compiled):
    source = re.sub(r"//[^\n]*|'(?:[^'\\\n]|\\.)*'", "", compiled.files[FUNCTION].decode())
    assert re.search(pattern, source) is None
