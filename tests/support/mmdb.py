"""Small MMDB files, written here (format 2.0), so that no test needs anybody's database."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Network, ip_network
from pathlib import Path
from typing import Any

_MARKER = b"\xab\xcd\xefMaxMind.com"
_SEPARATOR = bytes(16)
Trie = dict[int, Any]
"""Bit -> what is below it: another trie, or the bytes of a record."""


def write_mmdb(
    path: Path, records: Mapping[str, Mapping[str, Any]], *, kind: str = "Test-Country", ip_version: int = 6
) -> Path:
    """A database of `records` by network; networks must not lie within each other. IPv4 lies at ::/96 as ever.

    Records hold text (28 bytes at most) and maps of it.
    """
    root: Trie = {}
    for text, record in records.items():
        network = ip_network(text)
        number, length = int(network.network_address), network.prefixlen
        if ip_version == 6 and not isinstance(network, IPv6Network):
            length += 96
        bits = 128 if ip_version == 6 else 32
        node = root
        for position in range(1, length):
            node = node.setdefault(number >> (bits - position) & 1, {})
        last = number >> (bits - length) & 1
        assert last not in node, f"{text} lies within another network"
        node[last] = _encoded(record)
    nodes = _numbered(root)
    data = bytearray()
    offsets: dict[bytes, int] = {}
    tree = bytearray()
    for node in nodes:
        for bit in (0, 1):
            below = node.get(bit)
            if below is None:
                value = len(nodes)
            elif isinstance(below, bytes):
                if below not in offsets:
                    offsets[below] = len(data)
                    data += below
                value = len(nodes) + len(_SEPARATOR) + offsets[below]
            else:
                value = next(number for number, other in enumerate(nodes) if other is below)
            tree += value.to_bytes(3, "big")
    metadata = _encoded(
        {
            "binary_format_major_version": 2,
            "binary_format_minor_version": 0,
            "build_epoch": 1_790_000_000,
            "database_type": kind,
            "description": {"en": "for tests"},
            "ip_version": ip_version,
            "languages": [],
            "node_count": len(nodes),
            "record_size": 24,
        }
    )
    path.write_bytes(bytes(tree) + _SEPARATOR + bytes(data) + _MARKER + metadata)
    return path


def _numbered(root: Trie) -> list[Trie]:
    nodes = [root]
    for node in nodes:
        nodes.extend(below for below in node.values() if isinstance(below, dict))
    return nodes


_NUMBERS = {"build_epoch": (9, 8), "node_count": (6, 4)}
"""Type and bytes of numbers that are not 16 bits wide."""


def _encoded(value: Any, name: str = "") -> bytes:
    if isinstance(value, str):
        text = value.encode()
        return _control(2, len(text)) + text
    if isinstance(value, int):
        kind, size = _NUMBERS.get(name, (5, 2))
        return _control(kind, size) + value.to_bytes(size, "big")
    if isinstance(value, list):
        return _control(11, len(value)) + b"".join(map(_encoded, value))
    return _control(7, len(value)) + b"".join([_encoded(key) + _encoded(value[key], key) for key in value])


def _control(kind: int, size: int) -> bytes:
    assert size < 29, "longer ones have another form"
    return bytes((kind << 5 | size,)) if kind < 8 else bytes((size, kind - 7))
