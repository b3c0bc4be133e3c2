"""The page before a block, kept as its difference from the page after it. Knows pages, no database.

A changed value changes one hash in each page on its way, so a row of history holds that hash alone (33 bytes of some
500 to 2,000). Hashes are aligned to a page's end: a row's parts are 32-byte blocks, numbered from there. Rows are
relative to the next younger one; one page in 64 rows is kept whole, so that every old page is near a whole one, however
long the archive.
"""

from __future__ import annotations

import zlib

from proto_specs.hashing import HASH_BYTES

_ABSENT = b"\x00"
_WHOLE = b"\x01"
_PATCH = b"\x02"
_WHOLE_EVERY = 64
_BLOCK_BITS = 8 * HASH_BYTES
_PATCHED_BLOCKS_MAX = 8


def encode_before(path: bytes, height: int, before: bytes | None, after: bytes | None) -> bytes:
    """The row that leads from a page after the block at `height` to the one before it (None: no page)."""
    if before is None:
        return _ABSENT
    if after is None or len(before) != len(after) or not (height ^ zlib.crc32(path)) % _WHOLE_EVERY:
        return _WHOLE + before
    parts = [_PATCH]
    differing = int.from_bytes(before, "big") ^ int.from_bytes(after, "big")
    while differing:
        block = (differing.bit_length() - 1) // _BLOCK_BITS
        differing &= (1 << block * _BLOCK_BITS) - 1
        end = len(before) - block * HASH_BYTES
        parts.append(bytes((block,)) + before[max(0, end - HASH_BYTES) : end])
        if len(parts) > _PATCHED_BLOCKS_MAX:
            return _WHOLE + before
    return b"".join(parts)


def is_patch(row: bytes) -> bool:
    """Whether a row needs the page after it to be read."""
    return row[:1] == _PATCH


def get_whole(row: bytes) -> bytes | None:
    """The page of a row that is no patch."""
    return None if row == _ABSENT else row[1:]


def rebuild_page(younger: bytes | None, patches: list[bytes]) -> bytes | None:
    """Applies `patches`, from the oldest on, to a younger page; returns the old page."""
    if not patches:
        return younger
    assert younger is not None, "a patch leads to a page from a page"
    page = bytearray(younger)
    for row in reversed(patches):
        at = 1
        while at < len(row):
            end = len(page) - row[at] * HASH_BYTES
            start = max(0, end - HASH_BYTES)
            page[start:end] = row[at + 1 : at + 1 + end - start]
            at += 1 + end - start
    return bytes(page)
