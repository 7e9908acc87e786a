"""Compiled for CloudFront: the same bytes every time, accepted by cfn-lint, nothing dropped in silence."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cache_policies.markets import Markets, load_markets
from cache_policies.reading import PROFILES
from edge.core.policy import ALL, ALL_QUERY, Auth, CachePolicy, PolicySet, Throttle
from edge.policy_files import PolicyError, load_policies
from infra.aws.compile import GATE, REPORT, TEMPLATE, CompileError, compile_policies, compile_to, is_host_name
from infra.aws.functions import FunctionTooLarge
from infra.aws.templates.content import CACHING_DISABLED, MAX_TTL_S, PRICE_MAX_TTL_S, content_of, max_ttl_s
from infra.aws.templates.web_acl import capacity_of, path_regex, rate_of
from infra.cli import run
from tests.infra_aws.matching import statement_matches

FULL = Path(__file__).parents[1] / "support" / "policies_full"
REST = CachePolicy("rest", "/{rest...}", store=False, query=ALL_QUERY)
FILES = {
    TEMPLATE,
    GATE,
    "functions/viewer-request.js",
    "functions/viewer-response.js",
    "lambda/origin-request.zip",
    "lambda/origin-response.zip",
    REPORT,
}


@pytest.fixture(scope="module")
def compiled():
    return compile_policies(load_policies())


@pytest.fixture(scope="module")
def template(compiled):
    return json.loads(compiled.files[TEMPLATE])


@pytest.fixture(scope="module")
def compiled_full():
    return compile_policies(load_policies(FULL), ["shop.example"])


@pytest.fixture(scope="module")
def full(compiled_full):
    """The template of policies that use every field."""
    return json.loads(compiled_full.files[TEMPLATE])


def compiled_from(*policies: CachePolicy):
    return compile_policies(PolicySet([*policies, REST], load_markets()))


def config_of(template):
    return template["Resources"]["Distribution"]["Properties"]["DistributionConfig"]


def behaviours_of(template):
    config = config_of(template)
    return {**{item["PathPattern"]: item for item in config["CacheBehaviors"]}, "*": config["DefaultCacheBehavior"]}


def referred(template, pattern, reference, key):
    """The configuration of a policy that the behaviour of a pattern refers to."""
    return template["Resources"][behaviours_of(template)[pattern][reference]["Ref"]]["Properties"][key]


def cache_policy_of(template, pattern):
    return referred(template, pattern, "CachePolicyId", "CachePolicyConfig")


def keyed_headers(template, pattern):
    return cache_policy_of(template, pattern)["ParametersInCacheKeyAndForwardedToOrigin"]["HeadersConfig"]["Headers"]


def request_policy_of(template, pattern):
    return referred(template, pattern, "OriginRequestPolicyId", "OriginRequestPolicyConfig")


def response_policy_of(template, pattern):
    return referred(template, pattern, "ResponseHeadersPolicyId", "ResponseHeadersPolicyConfig")


def acl_of(template):
    return template["Resources"]["WebAcl"]["Properties"]


def acl_rules(template):
    return {rule["Name"]: rule for rule in acl_of(template)["Rules"]}


# --- the same bytes, and AWS takes them ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "zone", "folder"),
    [("0", "UTC", "."), ("7", "Asia/Tokyo", "/"), ("4242", "America/St_Johns", "elsewhere")],
    ids=["seed 0", "another zone, from the root", "another folder"],
)
def test_the_same_policies_give_the_same_bytes_in_another_process(tmp_path, compiled_full, seed, zone, folder):
    script = (
        "import sys, pathlib; from infra.aws.compile import compile_to; "
        "compile_to(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), ['SHOP.example', 'shop.example'])"
    )
    cwd = tmp_path / folder
    cwd.mkdir(exist_ok=True)
    environment = {"PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(
        [sys.executable, "-c", script, str(FULL), str(tmp_path / "out")], check=True, env=environment, cwd=cwd
    )
    assert {name: (tmp_path / "out" / name).read_bytes() for name in FILES} == compiled_full.files


def test_the_files_are_where_they_are_said_to_be(tmp_path, compiled):
    compile_to(None, tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == FILES
    assert set(compiled.files) == FILES


@pytest.mark.parametrize("policies", [None, FULL], ids=["the shipped ones", "every field"])
@pytest.mark.parametrize(("name", "region"), [(TEMPLATE, "us-east-1"), (GATE, "eu-west-1")])
def test_cfn_lint_finds_nothing(tmp_path, policies, name, region):
    compile_to(policies, tmp_path, ["shop.example"])
    command = "import sys; from cfnlint.runner.cli import main; sys.exit(main())"
    found = subprocess.run(
        [sys.executable, "-c", command, "-r", region, "-t", str(tmp_path / name)], capture_output=True, text=True
    )
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("source", ["template", "full"])
def test_everything_in_the_template_is_used(source, request):
    template = request.getfixturevalue(source)
    text = json.dumps(template["Resources"]) + json.dumps(template["Outputs"])
    for logical_id in (*template["Resources"], *template["Parameters"]):
        assert logical_id == "Distribution" or f'"{logical_id}"' in text or f"${{{logical_id}}}" in text, logical_id


# --- keys and lifetimes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    ["/??-???/", "/??-???/c/*", "/??-???/products/*", "/api/v1/??-???/prices/*", "/api/v1/??-???/stock/*"],
)
def test_a_price_is_kept_for_a_minute_under_a_key_with_its_generation(template, pattern):
    policy = cache_policy_of(template, pattern)
    assert (policy["MinTTL"], policy["DefaultTTL"], policy["MaxTTL"]) == (0, 0, PRICE_MAX_TTL_S)
    key = policy["ParametersInCacheKeyAndForwardedToOrigin"]
    assert key["HeadersConfig"]["Headers"] == ["x-forwarded-host", "nearshelf-generation"]
    assert key["CookiesConfig"] == {"CookieBehavior": "none"}
    response = response_policy_of(template, pattern)
    strictest = {"Header": "Cache-Control", "Value": "no-cache, no-store", "Override": True}
    assert response["CustomHeadersConfig"]["Items"] == [strictest]
    removed = {item["Header"] for item in response["RemoveHeadersConfig"]["Items"]}
    assert removed == {"cache-tag", "catalog-version", "nearshelf-expires-at", "surrogate-key"} | {
        "cdn-cache-control", "set-cookie",
    }  # fmt: skip


@pytest.mark.parametrize("source", ["template", "full"])
def test_nothing_is_kept_against_the_origins_word(source, request):
    template = request.getfixturevalue(source)
    policies = [
        resource["Properties"]["CachePolicyConfig"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::CloudFront::CachePolicy"
    ]
    assert policies
    assert all((policy["MinTTL"], policy["DefaultTTL"]) == (0, 0) for policy in policies)
    assert {item["ErrorCachingMinTTL"] for item in config_of(template)["CustomErrorResponses"]} == {0}
    statuses = {item["ErrorCode"] for item in config_of(template)["CustomErrorResponses"]}
    assert statuses == {404, 414, 500, 501, 502, 503, 504}


def test_the_longest_of_lifetime_stale_windows_and_errors_bounds_what_is_kept(full):
    guide = cache_policy_of(full, "/??-???/guides/*")
    assert guide["MaxTTL"] == 600 + 86_400
    short = compiled_from(CachePolicy("s", "/s", fresh_s=5, negative_s=((404, 30),)))
    assert cache_policy_of(json.loads(short.files[TEMPLATE]), "/s")["MaxTTL"] == 30
    priced = compiled_from(CachePolicy("s", "/s", fresh_s=5, shows_price=True))
    assert cache_policy_of(json.loads(priced.files[TEMPLATE]), "/s")["MaxTTL"] == 5


def test_hashed_files_are_kept_as_long_as_cloudfront_documents(template):
    assert cache_policy_of(template, "/static/*/*")["MaxTTL"] == MAX_TTL_S


def test_what_varies_is_in_the_key_and_not_forwarded_beside_it(full):
    assert "x-unit-system" in keyed_headers(full, "/??-???/guides/*")
    assert "x-unit-system" not in request_policy_of(full, "/??-???/guides/*")["HeadersConfig"]["Headers"]


def test_authorization_is_in_the_key_only_where_a_stored_route_takes_it(full):
    with_it = {
        pattern
        for pattern, behaviour in behaviours_of(full).items()
        if behaviour["CachePolicyId"] != CACHING_DISABLED and "authorization" in keyed_headers(full, pattern)
    }
    assert with_it == {"/??-???/guides/*", "/??-???/open/*"}


def test_compression_by_cloudfront_and_by_the_origin(full):
    def flags(pattern):
        key = cache_policy_of(full, pattern)["ParametersInCacheKeyAndForwardedToOrigin"]
        return (
            behaviours_of(full)[pattern]["Compress"],
            key["EnableAcceptEncodingGzip"],
            key["EnableAcceptEncodingBrotli"],
        )

    assert flags("/??-???/products/*") == (True, True, True)
    assert flags("/??-???/feeds/*") == (False, True, True)
    assert flags("/??-???/guides/*") == (False, False, False)


def test_the_cart_is_never_stored_and_gets_its_cookies(template):
    behaviour = behaviours_of(template)["/??-???/cart"]
    assert behaviour["CachePolicyId"] == CACHING_DISABLED
    assert request_policy_of(template, "/??-???/cart")["CookiesConfig"] == {"CookieBehavior": "all"}
    assert "POST" in behaviour["AllowedMethods"]
    removed = {item["Header"] for item in response_policy_of(template, "/??-???/cart")["RemoveHeadersConfig"]["Items"]}
    assert "set-cookie" not in removed
    # For other caches on the way, where no price is shown (RFC 9213 §3.1).
    assert "cdn-cache-control" not in removed


def test_every_method_reaches_the_function_whose_405_says_what_there_is(template):
    assert all(len(behaviour["AllowedMethods"]) == 7 for behaviour in behaviours_of(template).values())


def test_the_function_sees_the_country_where_one_is_blocked(template, full):
    for pattern in behaviours_of(full):
        assert "cloudfront-viewer-country" in request_policy_of(full, pattern)["HeadersConfig"]["Headers"]
    stored = request_policy_of(template, "/??-???/products/*")["HeadersConfig"]
    assert "cloudfront-viewer-country" not in stored["Headers"]


def test_all_four_events_have_their_function(template):
    for behaviour in behaviours_of(template).values():
        functions = {
            item["EventType"]: item["FunctionARN"]["Fn::GetAtt"][0] for item in behaviour["FunctionAssociations"]
        }
        assert functions == {"viewer-request": "ViewerRequest", "viewer-response": "ViewerResponse"}
        handlers = {
            item["EventType"]: item["LambdaFunctionARN"]["Ref"] for item in behaviour["LambdaFunctionAssociations"]
        }
        assert {
            event: template["Resources"][version]["Properties"]["FunctionName"] for event, version in handlers.items()
        } == {
            "origin-request": {"Ref": "OriginRequest"},
            "origin-response": {"Ref": "OriginResponse"},
        }
    stores = [
        name
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::CloudFront::Function"
        and "KeyValueStoreAssociations" in resource["Properties"]["FunctionConfig"]
    ]
    assert stores == ["ViewerRequest"]


@pytest.mark.parametrize("source", ["template", "full"])
def test_routes_that_say_the_same_share_their_policies(source, request):
    template = request.getfixturevalue(source)
    made = [resource["Properties"] for resource in template["Resources"].values() if "Policy" in resource["Type"]]
    contents = []
    for properties in made:
        for kind, config in properties.items():
            if kind.endswith("PolicyConfig"):
                contents.append(json.dumps({**config, "Name": None}, sort_keys=True) + kind)
    assert len(contents) == len(set(contents)) > 0


# --- origins ---------------------------------------------------------------------------------------------------


def test_the_edge_key_is_a_reference_and_not_a_secret_in_the_template(template):
    (origin,) = config_of(template)["Origins"]
    assert origin["OriginCustomHeaders"] == [
        {
            "HeaderName": "nearshelf-edge-key",
            "HeaderValue": {"Fn::Sub": "{{resolve:secretsmanager:${EdgeKeySecret}}}"},
        }
    ]


def test_every_origin_is_declared_with_its_own_parameter_and_known_to_the_handler(full):
    origins = {origin["Id"]: origin for origin in config_of(full)["Origins"]}
    assert {name: origin["DomainName"]["Ref"] for name, origin in origins.items()} == {
        "shop": "OriginDomainName",
        "shop-second": "OriginShopSecondDomainName",
        "eu-vault": "OriginEuVaultDomainName",
    }
    for origin in origins.values():
        headers = {item["HeaderName"]: item["HeaderValue"] for item in origin["OriginCustomHeaders"]}
        assert headers["nearshelf-origins"] == {
            "Fn::Sub": (
                "shop=${OriginDomainName}; shop-second=${OriginShopSecondDomainName}; "
                "eu-vault=${OriginEuVaultDomainName}"
            )
        }
        assert "nearshelf-edge-key" in headers
    assert (origins["shop"]["ConnectionAttempts"], origins["shop"]["ConnectionTimeout"]) == (1, 2)
    assert origins["eu-vault"]["ConnectionTimeout"] == 10
    assert origins["eu-vault"]["CustomOriginConfig"]["OriginReadTimeout"] == 120


def test_reads_fail_over_by_a_group_where_no_write_is_allowed(full):
    (group,) = config_of(full)["OriginGroups"]["Items"]
    assert [member["OriginId"] for member in group["Members"]["Items"]] == ["shop", "shop-second"]
    assert group["FailoverCriteria"]["StatusCodes"]["Items"] == [500, 502, 503, 504]
    behaviours = behaviours_of(full)
    for pattern, behaviour in behaviours.items():
        if behaviour["TargetOriginId"] == group["Id"]:
            assert set(behaviour["AllowedMethods"]) <= {"GET", "HEAD", "OPTIONS"}, pattern
    assert behaviours["/??-???/products/*"]["TargetOriginId"] == group["Id"]
    assert behaviours["/??-???/guides/*"]["AllowedMethods"] == ["GET", "HEAD", "OPTIONS"]
    assert behaviours["/??-???/sign-in"]["TargetOriginId"] == "shop"
    assert behaviours["/??-???/account/*"]["TargetOriginId"] == "eu-vault"


def test_no_country_is_refused_before_the_function(template, full):
    for each in (template, full):
        assert config_of(each)["Restrictions"] == {"GeoRestriction": {"RestrictionType": "none"}}


def test_the_gate_forwards_with_the_key_only_and_admits_cloudfront_only(compiled):
    resources = json.loads(compiled.files[GATE])["Resources"]
    (ingress,) = resources["OnlyCloudFront"]["Properties"]["SecurityGroupIngress"]
    assert ingress["SourcePrefixListId"] == {"Ref": "CloudFrontPrefixList"}
    assert (ingress["FromPort"], ingress["ToPort"]) == (443, 443)
    forwards = resources["WithTheEdgeKey"]["Properties"]
    (condition,) = forwards["Conditions"]
    assert condition["HttpHeaderConfig"] == {
        "HttpHeaderName": "nearshelf-edge-key",
        "Values": [{"Fn::Sub": "{{resolve:secretsmanager:${EdgeKeySecret}}}"}],
    }
    refuses = resources["WithoutTheEdgeKey"]["Properties"]
    assert refuses["Actions"][0]["FixedResponseConfig"]["StatusCode"] == "403"


def test_no_origin_is_a_vpc_origin_and_the_report_says_why(compiled, full):
    assert not any("VpcOriginConfig" in origin for origin in config_of(full)["Origins"])
    assert "VPC origin: none, because it takes no origin-side Lambda@Edge" in compiled.report.text()


# --- the web ACL -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate_per_s", "burst", "window_s", "limit"),
    [
        pytest.param(100, 100, 60, 6_100, id="many"),
        pytest.param(0.1, 4, 60, 10, id="just ten in a minute"),
        pytest.param(0.1, 3, 120, 15, id="nine in a minute: two minutes"),
        pytest.param(0.03, 1, 300, 10, id="five minutes"),
        pytest.param(0.015, 1, 600, 10, id="ten minutes"),
        pytest.param(0.001, 1, 600, 10, id="less than a rate rule can count"),
        pytest.param(1 / 60, 10, 60, 11, id="a fraction is rounded to the shopper's favour"),
        pytest.param(0.0251, 10, 60, 12, id="rounded up"),
    ],
)
def test_the_window_and_limit_of_a_throttle(rate_per_s, burst, window_s, limit):
    assert rate_of(Throttle(rate_per_s, burst)) == (window_s, limit)


def test_each_throttled_route_has_a_rate_rule_of_its_own(full):
    throttled = {policy.id: policy for policy in load_policies(FULL).policies if policy.throttle}
    rules = [rule for rule in acl_of(full)["Rules"] if "RateBasedStatement" in rule["Statement"]]
    assert {rule["Name"] for rule in rules} == {f"rate-{name}" for name in throttled}
    for rule in rules:
        block = rule["Action"]["Block"]["CustomResponse"]
        assert block["ResponseCode"] == 429
        assert {item["Name"] for item in block["ResponseHeaders"]} == {"retry-after", "cache-control"}
        assert rule["Statement"]["RateBasedStatement"]["AggregateKeyType"] == "IP"


def test_a_rate_rule_counts_what_falls_under_its_route_and_nothing_else():
    policies = PolicySet(
        [
            CachePolicy("help", "/{market}/account/help"),
            CachePolicy("account", "/{market}/account/{rest...}", throttle=Throttle(10, 10)),
            CachePolicy("search", "/{market}/search", throttle=Throttle(5, 5)),
            REST,
        ],
        load_markets(),
    )
    template = json.loads(compile_policies(policies).files[TEMPLATE])
    rules = acl_rules(template)
    paths = [
        "/eu-eur/account/help",
        "/eu-eur/account/me",
        "/eu-eur/account/help/more",
        "/eu-eur/account/",
        "/eu-eur/%61ccount/me",
        "/eu-eur/search",
        "/eu-eur/searching",
        "/eu-eur/search/x",
        "/",
    ]
    for path in paths:
        decoded = path.replace("%61", "a")
        for name in ("account", "search"):
            scope = rules[f"rate-{name}"]["Statement"]["RateBasedStatement"]["ScopeDownStatement"]
            assert statement_matches(scope, path) is (policies.match(decoded).policy.id == name), (name, path)


def test_the_groups_of_aws_come_after_the_rate_rules_and_bot_control_last(full):
    rules = acl_of(full)["Rules"]
    assert [rule["Priority"] for rule in rules] == list(range(len(rules)))
    kinds = [next(iter(rule["Statement"])) for rule in rules]
    assert kinds == sorted(kinds, key=["RateBasedStatement", "ManagedRuleGroupStatement"].index)
    assert [rule["Name"] for rule in rules if rule["Name"].startswith("AWS")] == [
        "AWSManagedRulesCommonRuleSet",
        "AWSManagedRulesKnownBadInputsRuleSet",
        "AWSManagedRulesSQLiRuleSet",
        "AWSManagedRulesBotControlRuleSet",
    ]
    assert capacity_of(acl_of(full)) <= 1_500


def test_bot_control_is_not_paid_for_files_that_never_change(template):
    scope = acl_rules(template)["AWSManagedRulesBotControlRuleSet"]["Statement"]["ManagedRuleGroupStatement"][
        "ScopeDownStatement"
    ]
    assert not statement_matches(scope, "/static/0123/site.css")
    assert not statement_matches(scope, "/art/0123/picture.svg")
    for path in ("/eu-eur/", "/eu-eur/products/oak", "/api/v1/eu-eur/prices/SKU-1", "/static/", "/console"):
        assert statement_matches(scope, path), path


def test_a_route_as_an_expression_matches_what_the_route_matches():
    policy = CachePolicy("odd", "/{market}/a.b+(c)/{x}/{rest...}")
    policies = PolicySet([policy, REST], load_markets())
    expression = re.compile(path_regex(policy))
    for path in ("/eu-eur/a.b+(c)/1/2", "/eu-eur/a.b+(c)/1/2/3", "/eu-eur/aXb+(c)/1/2", "/eu-eur/a.b+(c)/1/", "/x"):
        assert bool(expression.search(path)) is (policies.match(path).policy is policy), path


# --- the report ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [None, FULL], ids=["the shipped ones", "every field"])
def test_the_report_names_every_difference_with_its_route_and_place(folder):
    policies = load_policies(folder)
    report = compile_policies(policies).report
    text = report.text()
    for difference in report.differences:
        policy = policies.by_id(difference.policy_id)
        assert (policy is None) is (difference.policy_id == "")
        assert difference.where == ("" if policy is None else policy.where)
        assert f"    {difference.field}: {difference.instead}\n" in text


def test_what_cloudfront_cannot_express_is_said(compiled, compiled_full):
    instead = {(item.policy_id, item.field): item.instead for item in compiled.report.differences}
    assert instead["home", "stale_if_error"].startswith("0 s")
    assert "60 s" in instead["product-page", "fresh"]
    assert "404" in instead["edge-feed", "refuse"]
    assert ("price", "forward_methods") not in instead
    assert ("price", "on_lease_lapse") in instead
    assert ("", "soft purge") in instead
    assert "24" not in instead["", "geo restriction"]
    full = {(item.policy_id, item.field): item.instead for item in compiled_full.report.differences}
    assert "403" in full["price", "forward_methods"]
    assert full["price", "negative"] == "404: 60 s instead of 90 s"
    assert "410" in full["home", "negative"]
    assert "700 requests in 60 s" in full["product-page", "throttle"]
    assert "shop-second" in full["sign-in", "origin"]
    assert "451" in full["account", "blocked_countries"]
    assert "10 s instead of 15 s" in full["", "origins.eu-vault.connect_timeout"]
    assert ("history", "compress") in full
    assert ("account", "residency") in full


def test_quotas_are_counted_and_within_their_limits(compiled, compiled_full):
    for report in (compiled.report, compiled_full.report):
        assert all(quota.used <= quota.limit for quota in report.quotas)
        text = report.text()
        for quota in report.quotas:
            assert re.search(rf"{re.escape(quota.name)} +{quota.used:,} of {quota.limit:,}\n", text)
    used = {quota.name: quota.used for quota in compiled.report.quotas}
    assert used["behaviours of the distribution"] == 20
    assert used["capacity units of the web ACL (more cost extra)"] == 1_150 + 2 * (3 + 10)
    assert used["bytes of viewer-request.js"] == len(compiled.files["functions/viewer-request.js"])


def throttled(count):
    routes = [CachePolicy(f"r{n}", f"/r{n}/{{x}}", store=False, throttle=Throttle(10.0, 10)) for n in range(count)]
    return compiled_from(*routes)


def test_a_web_acl_that_costs_extra_is_compiled_and_said():
    report = throttled(25).report
    (finding,) = report.costs
    assert finding.code == "EDGE207"
    assert f"\nwhat costs extra\n  {finding}\n" in report.text()
    assert "what costs extra" not in throttled(20).report.text()


def test_a_web_acl_that_aws_would_not_take_is_refused():
    with pytest.raises(CompileError) as caught:
        throttled(300)
    assert "EDGE206" in {finding.code for finding in caught.value.findings}


def test_every_field_that_a_policy_may_set_is_compiled_or_reported():
    """A new field of a policy lands here first: say how it is compiled, or report that it is not."""
    compiled_fields = {
        "id", "path", "where", "methods", "forward_methods", "refuse_status", "store", "query", "request_fields",
        "vary", "cookies", "shows_price", "generation", "redirect", "fresh_s", "max_fresh_s",
        "stale_while_revalidate_s", "stale_if_error_s", "negative_s", "tags", "auth", "throttle", "origin", "compress",
        "blocked_countries", "heuristic_percent", "max_stale_while_revalidate_s", "max_stale_if_error_s",
    }  # fmt: skip
    reported = {
        "data_class", "keep_s", "on_lease_lapse", "collapse_wait_s", "max_body_bytes", "residency", "any_status",
        "honour_request", "stale_if_unreachable_s",
    }  # fmt: skip
    fields = {field.name for field in dataclasses.fields(CachePolicy) if field.init}
    assert fields == compiled_fields | reported


# --- what follows RFC 9111 to the letter ------------------------------------------------------------------------


def test_every_method_and_every_query_are_compiled_as_far_as_cloudfront_knows_them():
    report = compiled_from(
        CachePolicy("a", "/a", max_fresh_s=60, forward_methods=ALL, query=ALL_QUERY, auth=Auth.SHARED)
    )
    source = report.files["functions/viewer-request.js"].decode()
    assert "GET HEAD OPTIONS PUT PATCH POST DELETE" in source
    (behaviour,) = config_of(json.loads(report.files[TEMPLATE]))["CacheBehaviors"]
    assert len(behaviour["AllowedMethods"]) == 7
    instead = {item.field: item.instead for item in report.report.differences if item.policy_id == "a"}
    assert "others: refused by CloudFront" in instead["forward_methods"]
    assert "not even where the answer says that it is for everybody" in instead["auth"]


def test_a_guessed_lifetime_has_room_in_the_behaviour():
    policy = CachePolicy("a", "/a", heuristic_percent=10, max_stale_while_revalidate_s=30, max_stale_if_error_s=60)
    assert max_ttl_s(policy) == 86_400 + 60


def test_every_field_of_a_viewer_reaches_the_origin_where_nothing_is_stored():
    everything = CachePolicy("a", "/a", store=False, request_fields=ALL)
    content = content_of(everything, PolicySet([everything, REST], Markets()))
    assert content.request["CookiesConfig"] == {"CookieBehavior": "all"}
    assert content.request["HeadersConfig"]["HeaderBehavior"] == "allViewerAndWhitelistCloudFront"
    assert {"Header": "set-cookie"} not in content.response["RemoveHeadersConfig"]["Items"]


def test_every_field_of_a_viewer_at_the_origin_of_a_stored_route_is_refused():
    with pytest.raises(CompileError) as caught:
        compile_policies(load_policies(PROFILES / "rfc9111"))
    assert {finding.code for finding in caught.value.findings} == {"EDGE112"}


def test_a_shop_without_markets_is_compiled():
    policies = PolicySet([CachePolicy("a", "/{x}/a", max_fresh_s=60), REST], Markets())
    compiled = compile_policies(policies)
    assert len(config_of(json.loads(compiled.files[TEMPLATE]))["CacheBehaviors"]) == 1


# --- refusals --------------------------------------------------------------------------------------------------


def test_hosts_of_the_shop_need_a_certificate_and_are_let_through():
    compiled = compile_policies(load_policies(), ["Shop.example", "shop.example"])
    template = json.loads(compiled.files[TEMPLATE])
    assert config_of(template)["Aliases"] == ["shop.example"]
    assert "CertificateArn" in template["Parameters"]
    assert "'shop.example'" in compiled.files["functions/viewer-request.js"].decode()


def test_faults_of_the_policies_are_the_compilers_too_and_nothing_is_written(tmp_path):
    (tmp_path / "default.yaml").write_text("routes:\n  all:\n    path: /{rest...}\n    fresh: soon\n")
    with pytest.raises(PolicyError, match=r"default\.yaml:4:"):
        compile_to(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_function_over_ten_kilobytes_is_refused_before_aws_does():
    many = [CachePolicy(f"route-number-{number}", f"/some/long/place/{number}/{{x}}") for number in range(500)]
    with pytest.raises(FunctionTooLarge, match=r"viewer-request\.js: \d+ bytes, at most 10240.*501 routes"):
        compile_policies(PolicySet([*many, REST], load_markets()))


@pytest.mark.parametrize(
    "name", ["", "bad host", "https://shop.example", "shop.example:443", "*.shop.example", "shop", "-a.example", "a..b"]
)
def test_what_is_no_name_of_a_shop_is_refused_before_anything_is_written(name, tmp_path, capsys):
    assert run(["aws", "compile", "--out", str(tmp_path / "out"), "--host", name]) == 1
    assert f"--host {name!r} is no name of a shop: expected one such as shop.example" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["shop.example", "WWW.Shop-2.example", "xn--bcher-kva.example"])
def test_a_name_of_a_shop(name):
    assert is_host_name(name)
