"""What the fuzzer begins with: plain inputs of each kind, and pieces of their grammars."""

from __future__ import annotations

from edge.core.key import CacheKey
from edge.store.codec import key_record

PATHS = (
    b"/eu-eur/", b"/eu-eur/c/lighting/desk", b"/api/v1/jp-jpy/prices/SKU-1", b"/caf%C3%A9/a;b=c/%41", b"/a%2fb",
    b"/static/0/x.css",
    b"/eu-eur/cart/items", b"/x/./y", b"/a%252f", b"/%7e/\xe9", b"/a//b", b"*", b"http://shop.example/a",
)  # fmt: skip
QUERIES = (
    b"page=2&sort=price",
    b"a=1;b=2&c",
    b"page=%32&pag%65=1",
    b"page[]=1&a+b=c",
    b"&&=&",
    b"variant=%C3%A4+x",
    b"*=1",
)
FIELD_SEEDS = (
    b"max-age=60, s-maxage=600, must-revalidate", b'private="set-cookie", no-cache',
    b"max-age=60;a, no-store=?0, stale-if-error=5.5",
    b'"a", "b\\"c";d=1', b"(a b);c, d=@1, e=:YQ==:", b"max-age=99999999999999999999", b"max-age =5, =, ,,",
    b"public max-age=1",
)  # fmt: skip
LIST_SEEDS = (
    b"accept-encoding, cookie", b"gzip;q=0.5, br;q=1.0, *;q=0", b"de-AT, de;q=0.8, *;q=0.1", b"*",
    b"133.1.1.1, 127.0.0.2",
    b"[2a02:db8::1]:443, 127.0.0.2:80", b"::ffff:1.2.3.4", b"x;q=1;y, z;q=2", b"unknown, _x",
)  # fmt: skip
RANGE_SEEDS = (
    b"bytes=0-0",
    b"bytes=-5",
    b"bytes=5-",
    b"bytes=0-1,4-5, 9-9",
    b"bytes=0-1,1-2",
    b"cows=1-2",
    b"bytes=99999-",
    b"bytes=",
)
CHUNKED = b"POST /a HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUEST_SEEDS = (
    b"GET /eu-eur/ HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: x\r\nAccept-Encoding: gzip, br\r\nCookie: a=b\r\n\r\n",
    b"POST /a?b=c HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
    CHUNKED + b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\nGET /b HTTP/1.1\r\nHost: s\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: shop.example\r\nConnection: close, x\r\nX: y\r\n\r\n",
    b"PUT /a HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"GET http://shop.example/a HTTP/1.1\r\nHost: shop.example\r\nRange: bytes=0-5\r\nIf-None-Match: \"a\"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
)  # fmt: skip
REQUEST_PIECES = (
    b"GET ", b"POST ", b"HEAD ", b"/a", b"*", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: shop.example\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"\r\n", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n",
    b"X: y\r\n", b"\n", b" ",
    b"Cookie: a\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"GET /a HTTP/1.1\r\nHost: shop.example\r\n",
    b": x\r\n",
)  # fmt: skip
ANSWER_SEEDS = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/html\r\n\r\nhello",
    b"HTTP/1.1 404 \r\nContent-Length: 0\r\nX: y \r\n\r\n",
    b"HTTP/1.1 301 Moved\r\nlocation: /a\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc",
)  # fmt: skip
ANSWER_PIECES = (
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 404\r\n", b"content-length: 5\r\n", b"content-length: 05\r\n", b"\r\n",
    b"hello", b"x: y\r\n", b"\n",
    b"connection: keep-alive\r\n", b"connection: close\r\n", b"transfer-encoding: chunked\r\n", b"etag: \"a\"\r\n",
    b"x :y\r\n", b" ", b"date: x\r\n",
)  # fmt: skip
STORING_SEEDS = (
    b"catalog-version: 1.5\ncache-tag: a, b\ncdn-cache-control: max-age=60\netag: \"a\"\nage: 5",
    b"catalog-version: 1.5\ncache-tag: a\ncache-control: public, max-age=60\nvary: accept-encoding\nset-cookie: a=b",
    b"cache-control: s-maxage=5\nexpires: Sat, 21 Nov 2026 12:00:00 GMT\nlast-modified: x\nsurrogate-key: a b",
    b"cache-control: max-age=9\ncache-groups: \"a\", \"b\"\nvary: *\nnearshelf-expires-at: 19000000\ncontent-range: x",
)  # fmt: skip
FORWARD_SEEDS = (
    b"Cookie: a=b\nAuthorization: Bearer x\nX-Forwarded-Host: evil\nVia: 1.1 x\nConnection: close, via",
    b"Min-Catalog-Version: 9.9\nTE: x",
    b"Accept-Language: de, en;q=0.5\nX-Unit-System: Metric\nUser-Agent: x\nRange: bytes=0-1",
    b"Max-Forwards: 3\nNearshelf-Edge-Key: guess",
    b"Transfer-Encoding: chunked\nContent-Length: 3\nTraceparent: 00-1-2-3",
    b"Host: evil\nForwarded: host=evil\nNearshelf-Country: US",
)  # fmt: skip
RECORD = (
    b'{"v":4,"key":["shop.example","/a",[["page","2"]],"eu-eur"],"policy":"p","status":200,"headers":[["etag","x"]],"length":4,'
    b'"vary":[["x",null]],"etag":"\\"a\\"","position":"1.5","tags":["a"],"no_cache":false,"times":[0,1,2,3,4,5,6]}\nbody'
)
RECORD_SEEDS = (RECORD, key_record(CacheKey("shop.example", "/a", (), "")), RECORD.replace(b"3", b"2", 1))
RECORD_PIECES = (b"{", b"}", b"[", b"]", b'"v":4', b'"key":', b",", b"null", b"1e9", b'"a"', b"\n")
_ENTRY = b'{"v": 1, "position": "1.6", "id": "x", "kind": "hard", "tags": ["a"]}'
_EPOCH = b'{"v": 2, "position": "2.6", "id": "x", "kind": "epoch", "tags": [], "fork_cv": 5}'
FEED_SEEDS = (
    b'{"entries": [' + _ENTRY + b'], "head": "1.6", "head_id": "x", "start": null, "flush": false}',
    b'{"entries": [], "head": "1.5", "head_id": "y", "start": ["1.1", "z"], "flush": true}',
    b'{"entries": [' + _EPOCH + b'], "head": "2.6", "head_id": "x", "flush": false, "rewind": ["1.5", "y"]}',
)
FEED_PIECES = (b"{", b"}", b'"entries":', b"[]", b'"head":', b'"1.5"', b",", b"null", b"true")
TARGETS = tuple(path + b"?" + query for path in PATHS for query in QUERIES[:3])
