"""Where in the chain an account, a key, a request or a kind of event is named: rows beside the blocks, read backwards.

A subject is 32 bytes: whatever an event holds of that length that names something (accounts, keys, ids), the signer of
a transaction, or the hash of an event type's name. A row is `subject, 2^64 - 1 - height` -> the places in that block:
the newest come first. It says nothing that the blocks do not: it can be switched off, and begun anew later.
"""

from __future__ import annotations

import dataclasses
import struct
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

from node.store.columns import Column
from node.store.records import BlockReceipts
from proto_specs.codec import Fixed
from proto_specs.types.chain import Block

SUBJECT_BYTES = 32
HEIGHT_MAX = (1 << 64) - 1
_INITIALIZE, _FINALIZE = (1 << 32) - 1, (1 << 32) - 2
_WHOLE = (1 << 16) - 1
_PLACE = struct.Struct(">IH")
_UNNAMING = frozenset({"root", "tokens_hash", "beacon"})
"""Fields of 32 bytes that name nothing that anybody looks for."""


@dataclass(frozen=True, slots=True)
class Mention:
    """An event of a block: number `event` of transaction `index`, or of a phase; the transaction itself without it."""

    phase: str
    index: int | None
    event: int | None


def compute_kind_subject(event_type: str) -> bytes:
    """The subject under which all events of a type are found."""
    return blake2b(b"event/" + event_type.encode(), digest_size=SUBJECT_BYTES).digest()


def make_rows(block: Block, left: BlockReceipts) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a block."""
    found: dict[bytes, list[bytes]] = {}

    def note(events: Iterable[Any], source: int) -> None:
        for number, event in enumerate(events):
            place = _PLACE.pack(source, number)
            for subject in list_subjects(event):
                found.setdefault(subject, []).append(place)

    note(left.events.initialize, _INITIALIZE)
    for index, (transaction, receipt) in enumerate(zip(block.transactions, left.receipts, strict=True)):
        found.setdefault(transaction.body.signer, []).append(_PLACE.pack(index, _WHOLE))
        note(receipt.events, index)
    note(left.events.finalize, _FINALIZE)
    for subject, places in found.items():
        yield make_key(subject, block.header.height), b"".join(places)


def make_key(subject: bytes, height: int) -> bytes:
    """The key of a subject's row; the first one at or below `height` when keys are walked from here."""
    return Column.SUBJECT.value + subject + (HEIGHT_MAX - height).to_bytes(8, "big")


def read_key(key: bytes) -> tuple[bytes, int]:
    """(subject, height) of a row."""
    return key[1 : 1 + SUBJECT_BYTES], HEIGHT_MAX - int.from_bytes(key[1 + SUBJECT_BYTES :], "big")


def read_places(row: bytes) -> list[Mention]:
    """The places of a row, in the order of the block."""
    phases = {_INITIALIZE: "initialize", _FINALIZE: "finalize"}
    return [
        Mention(phases[source], None, number)
        if source in phases
        else Mention("extrinsic", source, None if number == _WHOLE else number)
        for source, number in _PLACE.iter_unpack(row)
    ]


def list_subjects(event: Any) -> set[bytes]:
    """What an event names."""
    subjects = {compute_kind_subject(type(event).__name__)}
    for name, is_list in _list_fields(type(event)):  # type: ignore[arg-type]
        value = getattr(event, name)
        subjects.update(value if is_list else () if value is None else (value,))
    return subjects


@cache
def _list_fields(event_type: type) -> tuple[tuple[str, bool], ...]:
    """(field, whether it holds several) of those that name something."""
    hints = typing.get_type_hints(event_type, include_extras=True)
    found = []
    for field in dataclasses.fields(event_type):
        hint = hints[field.name]
        if field.name in _UNNAMING:
            continue
        if _is_name(hint) or any(_is_name(one) for one in typing.get_args(hint)):
            found.append((field.name, False))
        elif typing.get_origin(hint) is typing.Annotated:
            (inner, *_), of = typing.get_args(hint), typing.get_args(typing.get_args(hint)[0])
            if typing.get_origin(inner) is tuple and of and _is_name(of[0]):
                found.append((field.name, True))
    return tuple(found)


def _is_name(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Annotated and Fixed(SUBJECT_BYTES) in typing.get_args(hint)[1:]
