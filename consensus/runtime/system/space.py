"""How full blocks stop clocks: blocks whose reserved share was full are counted, and deadlines move by that count."""

from __future__ import annotations

from consensus.state.reader import StateReader
from consensus.state.storage import StorageValue
from proto_specs.codec import U64

paused: StorageValue[int] = StorageValue("system.paused", U64, 0)


def read_paused(state: StateReader) -> int:
    """The number of blocks so far whose share for verdicts, settlements and evidence was full. It never falls."""
    return paused.read(state)
