"""Spoils canonical bytes where it hurts: knows the spans of MessagePack, not the types written in them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.property.proto_specs.spoiling import INTRUDERS, MISPLACED, pack, unpack, write_longer

BOUNDARIES = tuple(
    sorted({edge + step for edge in (0, 1 << 7, 1 << 8, 1 << 16, 1 << 32, 1 << 62, 1 << 64) for step in (-1, 0, 1)})
)
INTEGERS = tuple(one for one in BOUNDARIES if 0 <= one < 1 << 64)
HUGE_HEADS = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdd\x00\x01\x00\x00",
    b"\xdc\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc6\x7f\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x00",
    b"\xdf\xff\xff\xff\xff",
)
_STRAYS = (*INTRUDERS.values(), *MISPLACED.values())
_FIXED_ENDS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4}


@dataclass(frozen=True, slots=True)
class Span:
    """One value in the bytes: its head is [start, body), all of it [start, end)."""

    start: int
    body: int
    end: int
    is_list: bool
    parent: int


def list_spans(data: bytes) -> list[Span]:
    """Every value of a canonical encoding, outermost first. Raises IndexError or ValueError for other bytes."""
    spans: list[Span] = []
    _read(data, 0, -1, spans)
    return spans


def _read(data: bytes, at: int, parent: int, spans: list[Span]) -> int:
    first, index = data[at], len(spans)
    spans.append(Span(at, at + 1, at + 1, False, parent))
    if first < 0x80 or first in (0xC0, 0xC2, 0xC3):
        return at + 1
    if first in _FIXED_ENDS:
        end = at + 1 + _FIXED_ENDS[first]
        spans[index] = Span(at, end, end, False, parent)
        return end
    size = _LENGTHS.get(first, 0)
    body = at + 1 + size
    is_list = 0x90 <= first < 0xA0 or first in (0xDC, 0xDD)
    length = int.from_bytes(data[at + 1 : body], "big") if size else first & (0x0F if is_list else 0x1F)
    if not size and not 0x90 <= first < 0xC0:
        raise ValueError(f"0x{first:02x} is none of ours")
    end = body
    if is_list:
        for _ in range(length):
            end = _read(data, end, index, spans)
    else:
        end += length
    if end > len(data):
        raise IndexError(end)
    spans[index] = Span(at, body, end, is_list, parent)
    return end


class Spoiler:
    """Mutations of the byte strings of one corpus; values wander between them."""

    def __init__(self, corpus: Sequence[bytes]) -> None:
        self.corpus = tuple(corpus)
        self._spans = [list_spans(one) for one in self.corpus]
        self._by_span: tuple[Callable[[random.Random, bytes, Span], bytes], ...] = (
            _drop,
            _repeat,
            _repeat_often,
            _write_boundary,
            _write_longer,
            _write_stray,
            _write_huge_head,
            _nest,
            _count_wrongly,
            _grow_list,
            self._transplant,
        )

    def spoil(self, rng: random.Random) -> bytes:
        """A member of the corpus with one to three changes."""
        index = rng.randrange(len(self.corpus))
        data, spans = self.corpus[index], self._spans[index]
        for turn in range(rng.choice((1, 1, 1, 2, 3))):
            if turn:
                try:
                    spans = list_spans(data)
                except (IndexError, ValueError, RecursionError):
                    spans = []
            if spans and rng.random() < 0.7:
                data = self._change_span(rng, data, spans)
            else:
                data = rng.choice(_BY_BYTE)(rng, data)
        return data

    def _change_span(self, rng: random.Random, data: bytes, spans: list[Span]) -> bytes:
        if rng.random() < 0.15:
            return _swap(rng, data, spans)
        return rng.choice(self._by_span)(rng, data, rng.choice(spans))

    def _transplant(self, rng: random.Random, data: bytes, span: Span) -> bytes:
        """A value of another member in the place of this one."""
        index = rng.randrange(len(self.corpus))
        other = rng.choice(self._spans[index])
        return data[: span.start] + self.corpus[index][other.start : other.end] + data[span.end :]


def _swap(rng: random.Random, data: bytes, spans: list[Span]) -> bytes:
    """Two values change places: fields of a record, items of a list, anything."""
    one, other = sorted(rng.sample(spans, 2) if len(spans) > 1 else spans * 2, key=lambda span: span.start)
    if other.start < one.end:
        return data
    head, between, tail = data[: one.start], data[one.end : other.start], data[other.end :]
    return head + data[other.start : other.end] + between + data[one.start : one.end] + tail


def _drop(rng: random.Random, data: bytes, span: Span) -> bytes:
    return data[: span.start] + data[span.end :]


def _repeat(rng: random.Random, data: bytes, span: Span) -> bytes:
    return data[: span.end] + data[span.start : span.end] + data[span.end :]


def _repeat_often(rng: random.Random, data: bytes, span: Span) -> bytes:
    """A list of many equal items, of the right length."""
    count = rng.choice((16, 17, 300, 2_000))
    value = data[span.start : span.end]
    if len(value) * count > 1 << 18:
        return data
    return data[: span.start] + b"\xdc" + count.to_bytes(2, "big") + value * count + data[span.end :]


def _write_boundary(rng: random.Random, data: bytes, span: Span) -> bytes:
    return data[: span.start] + pack(rng.choice(INTEGERS)) + data[span.end :]


def _write_longer(rng: random.Random, data: bytes, span: Span) -> bytes:
    """The same value, not in its shortest form."""
    if span.end - span.start > 4_096:
        return data
    try:
        value = unpack(data[span.start : span.end])
    except ValueError:
        return data  # an earlier change left no text here
    longer = list(write_longer(value))
    return data[: span.start] + rng.choice(longer) + data[span.end :] if longer else data


def _write_stray(rng: random.Random, data: bytes, span: Span) -> bytes:
    return data[: span.start] + rng.choice(_STRAYS) + data[span.end :]


def _write_huge_head(rng: random.Random, data: bytes, span: Span) -> bytes:
    return data[: span.start] + rng.choice(HUGE_HEADS) + data[rng.choice((span.body, span.end)) :]


def _nest(rng: random.Random, data: bytes, span: Span) -> bytes:
    depth = rng.choice((1, 2, 40, 1_100, 60_000))
    inner = data[span.start : span.end] if rng.random() < 0.5 else b""
    return data[: span.start] + b"\x91" * depth + inner + data[span.end :]


def _count_wrongly(rng: random.Random, data: bytes, span: Span) -> bytes:
    """A length one off, or any."""
    changed = (data[span.start] + rng.choice((-1, 1, rng.randrange(256)))) % 256
    return data[: span.start] + bytes([changed]) + data[span.start + 1 :]


def _grow_list(rng: random.Random, data: bytes, span: Span) -> bytes:
    """One item more, counted: the first one again, or nothing."""
    if not span.is_list or not 0x90 <= data[span.start] < 0x9F:
        return data
    item = data[span.body : span.end] if data[span.start] == 0x91 else b"\xc0"
    return data[: span.start] + bytes([data[span.start] + 1]) + data[span.body : span.end] + item + data[span.end :]


def _flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _write_byte(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([rng.choice((0, 0x7F, 0x80, 0xC0, 0xC1, 0xDD, 0xFF, rng.randrange(256)))]) + data[at + 1 :]


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _cut_out(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.randrange(1, 40) :]


def _extend(rng: random.Random, data: bytes) -> bytes:
    return data + rng.choice((b"\0", data, rng.randbytes(rng.randrange(1, 200)), b"\xc0" * 70_000))


def _replace_all(rng: random.Random, data: bytes) -> bytes:
    return rng.randbytes(rng.randrange(200))


_BY_BYTE: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip,
    _flip,
    _write_byte,
    _write_byte,
    _cut,
    _cut_out,
    _extend,
    _replace_all,
)
