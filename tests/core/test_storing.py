"""What may be kept for later requests (RFC 9111 §3), and what is kept of it."""

from dataclasses import replace

import pytest

from cache_policies.positions import Position
from edge.core.http import Headers
from edge.core.policy import DataClass
from edge.core.storing import DoNotStore, Label, Reason, Store, label_of, may_store
from tests.support.builders import DATE, DATE_S, KEY, PAGE, PATH_TAG, match, request, response

PERSONAL = replace(PAGE, data_class=DataClass.PERSONAL)


def decide(answer=None, *, asked=None, policy=PAGE, wall_now=float(DATE_S)):
    return may_store(
        asked or request(),
        answer or response(),
        match(policy),
        KEY,
        sent_at=99.0,
        received_at=100.0,
        wall_now=wall_now,
    )


def stored_of(answer=None, **how):
    decision = decide(answer, **how)
    assert isinstance(decision, Store), decision
    return decision.stored


def test_what_is_kept():
    kept = stored_of(response(connection="x-trace", x_trace="1", transfer_encoding="chunked", age="5"))
    assert (kept.key, kept.policy_version) == (KEY, PAGE.version)
    assert (kept.status, kept.body, kept.etag) == (200, b"body", '"a"')
    assert (kept.position, kept.tags) == (Position(1, 5), ("p:eu-eur:boot", "h:eu-eur", PATH_TAG))
    assert [name for name, _ in kept.headers if name in {"connection", "x-trace", "transfer-encoding"}] == []
    # Aged 5 s by Age and 1 s on the way, of a lifetime of 60 s.
    assert (kept.stored_at, kept.initial_age_s) == (100.0, 6.0)
    assert (kept.fresh_until, kept.revalidate_until) == (154.0, 184.0)
    assert (kept.error_until, kept.keep_until) == (1_154.0, 1_654.0)
    assert kept.judged_at == -1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(response(206), Reason.PARTIAL_CONTENT, id="206"),
        pytest.param(response(content_range="bytes 0-3/9"), Reason.PARTIAL_CONTENT, id="Content-Range on a 200"),
        pytest.param(response(302), Reason.STATUS, id="302"),
        pytest.param(response(500), Reason.STATUS, id="500"),
        pytest.param(response(410), Reason.STATUS, id="an error answer that the policy does not name"),
        pytest.param(response(cache_control="max-age=60, No-Store"), Reason.NO_STORE, id="no-store"),
        pytest.param(response(cdn_cache_control="no-store", cache_control="max-age=9"), Reason.NO_STORE, id="targeted"),
        pytest.param(response(cache_control="private"), Reason.PRIVATE, id="private"),
        pytest.param(response(cache_control='private="set-cookie"'), Reason.PRIVATE, id="private with field names"),
        pytest.param(response(set_cookie="a=b"), Reason.SET_COOKIE, id="Set-Cookie"),
        pytest.param(response(catalog_version=None), Reason.NO_LABEL, id="no label"),
        pytest.param(response(catalog_version="5"), Reason.NO_LABEL, id="a label that is no position"),
        pytest.param(response(catalog_version="1.5, 1.6"), Reason.NO_LABEL, id="two labels"),
        pytest.param(response(cache_tag=None), Reason.NO_TAGS, id="no tags"),
        pytest.param(response(cache_tag=" , "), Reason.NO_TAGS, id="empty tags"),
        pytest.param(response(cache_tag=",".join(f"p:{n}" for n in range(51))), Reason.TOO_MANY_TAGS, id="51 tags"),
        pytest.param(response(cache_tag="P:eu-eur:x"), Reason.BAD_TAG, id="a capital"),
        pytest.param(response(cache_tag="p:é"), Reason.BAD_TAG, id="not ASCII"),
        pytest.param(response(cache_tag="p" * 257), Reason.BAD_TAG, id="a long tag"),
        pytest.param(response(vary="*"), Reason.VARY, id="Vary: *"),
        pytest.param(response(vary="accept-language, *"), Reason.VARY, id="* among others"),
        pytest.param(response(vary="Cookie"), Reason.VARY, id="a field that the policy does not list"),
        pytest.param(response(body=b"x" * 2_000_001), Reason.BODY_TOO_LARGE, id="too large"),
        pytest.param(response(nearshelf_expires_at=str(DATE_S)), Reason.HARD_END, id="a hard end that has come"),
        pytest.param(response(nearshelf_expires_at="soon"), Reason.HARD_END, id="a hard end that cannot be read"),
        pytest.param(response(cache_control="s-maxage=0", etag=None), Reason.NO_LIFETIME, id="of no use at all"),
    ],
)
def test_what_is_not_kept(answer, reason):
    assert decide(answer) == DoNotStore(reason)


def test_fifty_tags_are_kept_and_repeated_ones_count_once():
    tags = [f"p:{n}" for n in range(50)]
    assert stored_of(response(cache_tag=", ".join([*tags, tags[0]]))).tags == (*tags, PATH_TAG)


def test_tags_on_several_lines_are_one_list():
    headers = Headers([("catalog-version", "2.1"), ("cache-tag", "a"), ("cache-tag", "b, c")])
    assert label_of(headers, match(), None) == Label(Position(2, 1), ("a", "b", "c", PATH_TAG))


def test_the_tags_of_the_policy_join_those_of_the_response():
    policy = replace(PAGE, tags=("page:product", "s:{market}:{slug}", "h:eu-eur"))
    assert stored_of(policy=policy).tags == ("p:eu-eur:boot", "h:eu-eur", "page:product", "s:eu-eur:boot", PATH_TAG)


def test_and_are_enough_by_themselves_but_for_the_label():
    policy = replace(PAGE, tags=("page:product",))
    assert stored_of(response(cache_tag=None), policy=policy).tags == ("page:product", PATH_TAG)
    assert decide(response(cache_tag=None, catalog_version=None), policy=policy) == DoNotStore(Reason.NO_LABEL)


def test_together_they_are_held_to_the_same_limits():
    policy = replace(PAGE, tags=("a", "b:{slug}"))
    own = ",".join(f"p:{n}" for n in range(48))
    assert len(stored_of(response(cache_tag=own), policy=policy).tags) == 51
    assert decide(response(cache_tag=f"{own},c"), policy=policy) == DoNotStore(Reason.TOO_MANY_TAGS)
    assert decide(policy=replace(PAGE, tags=("t" * 250 + "{slug}",))).stored.tags[-2] == "t" * 250 + "boot"
    assert decide(policy=replace(PAGE, tags=("t" * 253 + "{slug}",))) == DoNotStore(Reason.BAD_TAG)


@pytest.mark.parametrize("method", ["HEAD", "POST", "M-SEARCH"])
def test_only_the_answer_to_a_get_is_kept(method):
    assert decide(asked=request(method)) == DoNotStore(Reason.METHOD)


def test_a_route_that_never_stores():
    assert decide(policy=replace(PAGE, store=False)) == DoNotStore(Reason.POLICY_NEVER_STORES)


@pytest.mark.parametrize("cache_control", ["public, max-age=60", "s-maxage=600", "immutable"])
@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("store", [True, False])
def test_personal_data_is_never_stored_whatever_a_header_says(cache_control, status, store):
    answer = response(status, cache_control=cache_control, cdn_cache_control="max-age=300")
    assert decide(answer, policy=replace(PERSONAL, store=store)) == DoNotStore(Reason.PERSONAL_DATA)


@pytest.mark.parametrize(
    ("cache_control", "kept"),
    [
        ("max-age=60", False),
        ("public, max-age=60", True),
        ("must-revalidate, max-age=60", True),
        ("s-maxage=60", True),
        ("proxy-revalidate, max-age=60", False),
    ],
)
def test_the_answer_to_an_authorised_request_needs_leave(cache_control, kept):
    decision = decide(response(cache_control=cache_control), asked=request(authorization="Bearer x"))
    assert isinstance(decision, Store) if kept else decision == DoNotStore(Reason.AUTHORIZATION)


def test_an_error_answer_lives_as_the_policy_says_and_is_never_stale():
    kept = stored_of(response(404, etag=None))
    assert (kept.fresh_until, kept.revalidate_until, kept.error_until) == (109.0, 109.0, 109.0)


def test_no_cache_is_kept_to_be_validated():
    kept = stored_of(response(cache_control="no-cache"))
    assert kept.no_cache
    assert kept.fresh_until <= kept.stored_at
    assert kept.error_until <= kept.stored_at
    assert kept.keep_until == 600.0


def test_a_response_that_arrives_too_old_is_kept_for_validation_only():
    kept = stored_of(response(age="5000"))
    assert kept.error_until < kept.stored_at < kept.keep_until
    assert decide(response(age="5000", etag=None)) == DoNotStore(Reason.NO_LIFETIME)


def test_a_hard_end_ends_every_lifetime():
    kept = stored_of(response(nearshelf_expires_at=str(DATE_S + 20)))
    assert (kept.fresh_until, kept.revalidate_until, kept.error_until) == (120.0, 120.0, 120.0)


def test_the_apparent_age_counts():
    assert stored_of(wall_now=DATE_S + 30.0).initial_age_s == 30.0
    assert stored_of(response(date=None), wall_now=DATE_S + 30.0).initial_age_s == 1.0


def test_a_response_without_a_date_gets_that_of_its_arrival():
    assert stored_of(response(date=None), wall_now=DATE_S + 0.7).headers.lines("date") == [DATE]
    assert stored_of(wall_now=DATE_S + 5.0).headers.lines("date") == [DATE]


@pytest.mark.parametrize("vary", ["Accept-Encoding", "accept-encoding, Accept-Encoding"])
def test_who_is_compressed_for_is_no_variant(vary):
    compressed = replace(PAGE, compress=True)
    assert stored_of(response(vary=vary), policy=compressed).vary == ()
    assert decide(response(vary=vary)) == DoNotStore(Reason.VARY)
    assert decide(response(vary=f"{vary}, cookie"), policy=compressed) == DoNotStore(Reason.VARY)
    # Coded although nobody asked for it: not for everybody.
    assert decide(response(vary=vary, content_encoding="gzip"), policy=compressed) == DoNotStore(Reason.VARY)


def test_variants_by_the_fields_that_reach_the_origin():
    policy = replace(PAGE, vary=("accept-encoding", "accept-language"), request_fields=("accept-language",))
    asked = request(accept_language="DE , en;q=0.5", accept_encoding="gzip")
    kept = stored_of(response(vary="Accept-Language, Accept-Encoding"), asked=asked, policy=policy)
    assert kept.vary == (("accept-encoding", None), ("accept-language", "de,en;q=0.5"))
