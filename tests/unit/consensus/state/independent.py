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
    if head == 0xC4:
        end = at + 2 + data[at + 1]
        return data[at + 2 : end], end
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
    (siblings, leaf), end = parse(proof, 0)
    place = hashed("state-key", key)
    if hashed("header", header) != block_hash or end != len(proof):
        return False
    if (value is not None) != (leaf is not None and leaf[0] == place):
        return False
    if value is not None and leaf[1] != hashed("state-value", value):
        return False
    node = bytes(32) if leaf is None else hashed("state-leaf", leaf[0] + leaf[1])
    for level in range(len(siblings) - 1, -1, -1):
        is_right = place[level // 8] >> (7 - level % 8) & 1
        node = hashed("state-node", siblings[level] + node if is_right else node + siblings[level])
    return bool(node == parse(header, 0)[0][8])
