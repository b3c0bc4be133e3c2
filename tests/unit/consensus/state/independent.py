"""Checks a state proof with hashlib alone: header bytes, proof bytes, the hash of the block. Nothing of ours."""

from hashlib import blake2b
from typing import Any


def hashed(tag: str, payload: bytes) -> bytes:
    name = b"myelin/" + tag.encode()
    return blake2b(bytes([len(name)]) + name + payload, digest_size=32).digest()


def parse(data: bytes, at: int) -> tuple[Any, int]:
    """One MessagePack value (unsigned integer, nil, byte string, array) and where it ends."""
    head = data[at]
    if head < 0x80 or head == 0xC0:
        return (head if head < 0x80 else None), at + 1
    if 0xCC <= head <= 0xCF:
        end = at + 1 + (1 << head - 0xCC)
        return int.from_bytes(data[at + 1 : end], "big"), end
    if head in (0xC4, 0xC5):
        start = at + (2 if head == 0xC4 else 3)
        end = start + int.from_bytes(data[at + 1 : start], "big")
        return data[start:end], end
    if head == 0xDC:
        count, at = int.from_bytes(data[at + 1 : at + 3], "big"), at + 3
    else:
        assert head & 0xF0 == 0x90, "an array"
        count, at = head & 15, at + 1
    items = []
    for _ in range(count):
        item, at = parse(data, at)
        items.append(item)
    return items, at


def is_proven(block_hash: bytes, header: bytes, key: bytes, value: bytes | None, proof: bytes) -> bool:
    """Whether the state after the block holds exactly `value` under `key` (None: nothing)."""
    (pages,), end = parse(proof, 0)
    if hashed("header", header) != block_hash or end != len(proof):
        return False
    place, expected, found = hashed("state-key", key), parse(header, 0)[0][8], None
    for depth, page in enumerate(pages):
        if expected is None or hashed("state-page", page) != expected:
            return False
        if page[0]:
            found = {page[at : at + 32]: page[at + 32 : at + 64] for at in range(1, len(page), 64)}.get(place)
            expected = None
        else:
            slot = int(place.hex()[depth], 16)
            at = 17 + 32 * sum(map(bool, page[1 : 1 + slot]))
            expected = page[at : at + 32] if page[1 + slot] else None
    ended = expected is None or expected == bytes(32)
    return bool(ended and found == (None if value is None else hashed("state-value", value)))
