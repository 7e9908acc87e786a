"""Responses as the paced generator reads them: whole, byte by byte, and what is none."""

from __future__ import annotations

import pytest

from loadtests.paced.answers import Answers, Unreadable

HIT = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncache-status: eu-1; hit; ttl=9\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Status: eu-1; fwd=uri-miss\r\n\r\n"
    b"5\r\nhello\r\n10;name=value\r\n0123456789abcdef\r\n0\r\n\r\n"
)
TRAILED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nDigest: y\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("text", "code", "size", "cache_status"),
    [
        pytest.param(HIT, 200, 5, b"eu-1; hit; ttl=9", id="length"),
        pytest.param(CHUNKED, 200, 21, b"eu-1; fwd=uri-miss", id="chunks"),
        pytest.param(TRAILED, 200, 1, b"", id="a trailer"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 900\r\n\r\n", 304, 0, b"", id="304 has no body"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, 0, b"", id="204 has none"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, 0, b"", id="empty"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + HIT, 200, 5, b"eu-1; hit; ttl=9", id="hints"),
        pytest.param(
            b"HTTP/1.1 503 No\r\nCache-Status: o; hit\r\ncontent-length: 1\r\nCACHE-STATUS:eu-1; fwd=stale \r\n\r\n!",
            503,
            1,
            b"eu-1; fwd=stale",
            id="the last line is the nearest cache's",
        ),
    ],
)
def test_a_response_is_read_however_it_comes(text, code, size, cache_status, step):
    answers = Answers()
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    assert [answers.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert (answers.code, answers.size, answers.cache_status) == (code, size, cache_status)
    assert answers.keeps


def test_the_answer_to_a_head_has_no_body_whatever_it_says():
    answers = Answers()
    answers.expect(has_body=False)
    assert answers.feed(HIT.removesuffix(b"hello"))
    assert (answers.code, answers.size) == (200, 0)


def test_one_answer_after_the_other():
    answers = Answers()
    assert answers.feed(CHUNKED)
    answers.expect(has_body=True)
    assert not answers.begun
    assert answers.feed(HIT)
    assert (answers.code, answers.size) == (200, 5)


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        (b"HTTP/1.1 204 A\r\n\r\n", True),
        (b"HTTP/1.1 204 A\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.0 204 A\r\n\r\n", False),
        (b"HTTP/1.0 204 A\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_whether_the_connection_can_be_used_again(text, keeps):
    answers = Answers()
    assert answers.feed(text)
    assert answers.keeps is keeps


def test_a_body_without_a_length_ends_with_its_connection():
    answers = Answers()
    assert not answers.feed(b"HTTP/1.1 200 OK\r\n\r\nhel")
    assert not answers.feed(b"lo")
    assert answers.closed()
    assert (answers.size, answers.keeps) == (5, False)


@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 200 OK\r\n", HIT[:-1], CHUNKED[:-1]])
def test_a_connection_that_ends_too_early_is_no_answer(text):
    answers = Answers()
    if text:
        assert not answers.feed(text)
    assert not answers.closed()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 ten OK\r\n\r\n", id="no code"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n", id="a negative length"),
        pytest.param(HIT + b"!", id="more than its length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="no size"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, id="a head without an end"),
    ],
)
def test_what_is_no_response_is_not_taken_for_one(text):
    with pytest.raises(Unreadable):
        Answers().feed(text)
