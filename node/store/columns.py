"""Every kind of key in the database. A key is the column's one byte, then the parts named here."""

from __future__ import annotations

import enum


class Column(bytes, enum.Enum):
    """Prefixes. Heights are 8 bytes big-endian, so that blocks lie in order."""

    META = b"m"
    """name -> format version, genesis hash, head, and heights: where it began, oldest state and body that are kept."""
    STATE = b"s"
    """state key -> value, as of the head."""
    TREE = b"t"
    """page path -> page of the state's commitment, as of the head."""
    BLOCK = b"b"
    """height -> block."""
    HEADER = b"a"
    """height -> the block's header alone, which is all that most readers want."""
    COMMIT = b"c"
    """height -> the commit that finalized it."""
    RECEIPTS = b"r"
    """height -> receipts and events."""
    VALIDATORS = b"d"
    """validators hash -> the set that headers name by it: light clients ask for it after the state is pruned."""
    HEIGHT = b"h"
    """block hash -> height."""
    EXTRINSIC = b"x"
    """extrinsic hash -> height, index."""
    EXTRINSICS = b"y"
    """height -> the hashes of its extrinsics, which are removed from `EXTRINSIC` when the block is pruned."""
    SUBJECT = b"i"
    """subject, height from above -> where that block names it (subject_index.py)."""
    STATE_WAS = b"u"
    """state key, height -> the value before that block."""
    PAGE_WAS = b"v"
    """page path, height -> the page before that block, or how to make it from the page after."""
    UNDO = b"w"
    """height -> parts of the head before that block that no header has, and the keys and pages the block changed."""


assert len({one.value for one in Column}) == len(Column), "two columns share a prefix"
