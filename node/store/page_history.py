"""The page that stood before a block, kept as what differs in the page after it. Knows pages, no database.

A changed value changes one slot of a page and the nodes above it, which follow from the slots: so a row of history
holds the slots alone (33 or 66 bytes of some 850). Rows are relative to the next younger one; one page in 64 rows is
kept whole, so that an old page is near something whole however long the archive.
"""

from __future__ import annotations

import zlib

from consensus.state.page import Page, encode_page, hash_leaf
from proto_specs.hashing import HASH_BYTES

_ABSENT = b"\x00"
_WHOLE = b"\x01"
_PATCH = b"\x02"
_WHOLE_EVERY = 64
_MASKS_BYTES = 8
_INNER_NODES = 0xFFFF
"""Bits of the nodes above the slots in a page's first mask."""
_BLOCK_BITS = 8 * HASH_BYTES
_PATCHED_BLOCKS_MAX = 8


def encode_before(path: bytes, height: int, before: bytes | None, after: bytes | None) -> bytes:
    """The row that leads from a page after the block at `height` to the one before it (None: no page)."""
    if before is None:
        return _ABSENT
    if (
        after is None
        or len(before) != len(after)
        or before[:_MASKS_BYTES] != after[:_MASKS_BYTES]
        or not (height ^ zlib.crc32(path)) % _WHOLE_EVERY
    ):
        return _WHOLE + before
    start = _MASKS_BYTES + HASH_BYTES * (int.from_bytes(before[:4], "big") & _INNER_NODES).bit_count()
    old = before[start:]
    blocks, parts = len(old) // HASH_BYTES, [_PATCH]
    differing = int.from_bytes(old, "big") ^ int.from_bytes(after[start:], "big")
    while differing:
        from_end = (differing.bit_length() - 1) // _BLOCK_BITS
        differing &= (1 << from_end * _BLOCK_BITS) - 1
        index = blocks - 1 - from_end
        parts.append(bytes((index,)) + old[index * HASH_BYTES : (index + 1) * HASH_BYTES])
        if len(parts) > _PATCHED_BLOCKS_MAX:
            return _WHOLE + before
    return b"".join(parts)


def is_patch(row: bytes) -> bool:
    """Whether a row says something only together with the page after it."""
    return row[:1] == _PATCH


def get_whole(row: bytes) -> bytes | None:
    """The page of a row that is no patch."""
    return None if row == _ABSENT else row[1:]


def rebuild_page(path: bytes, younger: bytes | None, patches: list[bytes]) -> bytes | None:
    """The page that `patches`, given from the oldest on, make of a younger one."""
    if not patches:
        return younger
    assert younger is not None, "a patch leads to a page from a page"
    page = bytearray(younger)
    start = _MASKS_BYTES + HASH_BYTES * (int.from_bytes(younger[:4], "big") & _INNER_NODES).bit_count()
    for row in reversed(patches):
        for at in range(1, len(row), 1 + HASH_BYTES):
            block = start + HASH_BYTES * row[at]
            page[block : block + HASH_BYTES] = row[at + 1 : at + 1 + HASH_BYTES]
    slots = Page(bytes(page)).to_slots(len(path))
    for index, slot in enumerate(slots):
        if slot is not None and slot[1] is not None and slot[2] is not None:
            slots[index] = hash_leaf(slot[1], slot[2]), slot[1], slot[2]
    return encode_page(slots)[0]
