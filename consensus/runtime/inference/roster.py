"""The active workers by number, so that a draw needs no walk over all. The last worker takes a leaver's number."""

from __future__ import annotations

from consensus.runtime.inference import state as inference
from consensus.state.reader import StateReader
from consensus.state.storage import StateWriter


def enlist(state: StateWriter, worker: bytes) -> None:
    """Give a new worker the next number."""
    number = inference.roster_size.read(state)
    inference.roster.write(state, number, worker)
    inference.roster_numbers.write(state, worker, number)
    inference.roster_size.write(state, number + 1)


def strike(state: StateWriter, worker: bytes) -> None:
    """Take a worker off the roster. A worker that is not on it changes nothing."""
    number = inference.roster_numbers.read(state, worker)
    if number is None:
        return
    last = inference.roster_size.read(state) - 1
    moved = inference.roster.read(state, last)
    assert moved is not None, "numbers run from 0 to the size"
    inference.roster.write(state, number, moved)
    inference.roster_numbers.write(state, moved, number)
    inference.roster.delete(state, last)
    inference.roster_numbers.delete(state, worker)
    inference.roster_size.write(state, last)


def get(state: StateReader, number: int) -> bytes | None:
    """The worker with this number; None when there are fewer workers."""
    return inference.roster.read(state, number)
