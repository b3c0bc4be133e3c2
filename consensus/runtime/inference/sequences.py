"""Which sequence numbers of a session are settled: bits in chunks, so that many requests cost few records.

Numbers are below `SESSION_SEQUENCES_MAX`, which bounds a session's chunks. They are forgotten with the session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from consensus.runtime.inference import state as inference
from consensus.runtime.inference.errors import SequenceUsed
from consensus.runtime.inference.state import SEQUENCES_CHUNK
from consensus.state.reader import StateReader
from consensus.state.storage import StateWriter
from proto_specs.limits import SESSION_SEQUENCES_MAX
from proto_specs.types.statement import Span

_CHUNK_BYTES = SEQUENCES_CHUNK // 8


def count_chunks(spans: Sequence[Span]) -> int:
    """How many chunks the numbers of ascending spans are in, and no more than a session has."""
    found = reached = 0
    for span in spans:
        end = -(-span.end // SEQUENCES_CHUNK)
        found += max(end - max(span.start // SEQUENCES_CHUNK, reached), 0)
        reached = max(reached, end)
    return min(found, SESSION_SEQUENCES_MAX // SEQUENCES_CHUNK)


def is_used(state: StateReader, session: bytes, sequence: int) -> bool:
    """Whether a request with this number is settled."""
    chunk, bit = divmod(sequence, SEQUENCES_CHUNK)
    return bool(_read(state, session, chunk) >> bit & 1)


def list_used(state: StateReader, session: bytes, numbers: Iterable[int]) -> frozenset[int]:
    """Those of the numbers that are settled; each chunk is read once."""
    asked = sorted(numbers)
    chunks = {chunk: _read(state, session, chunk) for chunk in sorted({one // SEQUENCES_CHUNK for one in asked})}
    return frozenset(one for one in asked if chunks[one // SEQUENCES_CHUNK] >> one % SEQUENCES_CHUNK & 1)


def check_unused(state: StateReader, session: bytes, spans: Sequence[Span]) -> None:
    """Raises SequenceUsed when a number of the spans is settled. The spans are ascending and disjoint."""
    for chunk, mask in _list_masks(spans):
        used = _read(state, session, chunk) & mask
        if used:
            number = chunk * SEQUENCES_CHUNK + (used & -used).bit_length() - 1
            raise SequenceUsed(f"request {number} of this session is settled")


def mark_used(state: StateWriter, session: bytes, spans: Sequence[Span]) -> None:
    """The numbers of the spans are settled from now on."""
    for chunk, mask in _list_masks(spans):
        bits = _read(state, session, chunk) | mask
        inference.sequences_used.write(state, session, chunk, bits.to_bytes(_CHUNK_BYTES, "little"))


def forget(state: StateWriter, session: bytes, chunks_max: int) -> tuple[int, bool]:
    """Drop the numbers of a session in which nothing can be settled any more: at most so many chunks at a time.

    Returns how many it dropped, and whether that was all.
    """
    found = inference.sequences_used.list_first(state, chunks_max + 1, session)
    for key in found[:chunks_max]:
        inference.sequences_used.delete(state, *key)
    return min(len(found), chunks_max), len(found) <= chunks_max


def _read(state: StateReader, session: bytes, chunk: int) -> int:
    return int.from_bytes(inference.sequences_used.read(state, session, chunk) or b"", "little")


def _list_masks(spans: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """(chunk, the bits of it that the spans hold), ascending, each chunk once."""
    masks: dict[int, int] = {}
    for span in spans:
        for chunk in range(span.start // SEQUENCES_CHUNK, -(-span.end // SEQUENCES_CHUNK)):
            first = max(span.start - chunk * SEQUENCES_CHUNK, 0)
            count = min(span.end - chunk * SEQUENCES_CHUNK, SEQUENCES_CHUNK) - first
            masks[chunk] = masks.get(chunk, 0) | ((1 << count) - 1) << first
    yield from sorted(masks.items())
