"""Who may fill which part of a block, and the count of blocks in which a reserved part was full. Economics first:

- whoever keeps a commit or a reveal out of 20 blocks has an honest verifier slashed, and whoever keeps a settlement out
  of ten escapes a bill. Both pay far more than 20 full blocks cost, so a block reserves `reserved_permille` of its
  weight, bytes and places: half of it for duties alone, half for duties and settlements. What is reserved narrows the
  rest and not the other way round: a duty may be anywhere;
- a place in a reserved part is for a call that SUCCEEDS. A failing one needs room among the common calls, and pays for
  it as they do. So the last half is filled by members of open committees only, each once for a commit and once for a
  reveal of a challenge that a settlement paid for: nobody buys it, at no price;
- settlements of one's own could fill the other half, at the common price, which rises with every such block. That keeps
  no duty out, and a settlement that finds no room loses nothing: sessions stay open for as many blocks longer;
- a duty that succeeds pays the least price of weight: else a flood of transfers would make verifying cost more than it
  earns, at the choice of those who are verified. Settlements pay the common price.

A count of full blocks grows only where the calls it protects could not get in. Silence, censoring by one proposer and
honest load below the limit do not move it; who moves it pays for (almost) a whole block, each time more.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from consensus.runtime.arithmetic import PERMILLE
from consensus.runtime.system.state import SystemParams
from consensus.state.reader import StateReader
from consensus.state.storage import StateWriter, StorageValue
from proto_specs.codec import U64, record
from proto_specs.limits import BLOCK_EXTRINSICS_MAX

MARGIN_DIVISOR = 2
"""A part is full when less than half of what is reserved for it is left: one more of its calls may not fit."""


class Space(enum.IntEnum):
    """The parts of a block. A call of a higher one may also be wherever a call of a lower one may be."""

    COMMON = 0
    SETTLEMENT = 1
    DUTY = 2


@dataclass(frozen=True, slots=True)
class Room:
    """A part of a block: weight, bytes, and a number of transactions."""

    weight: int
    bytes: int
    count: int


@record
class Paused:
    """Blocks so far in which no further duty, or no further settlement, could be sure of room."""

    duties: U64
    settlements: U64


NEVER_PAUSED = Paused(0, 0)

paused: StorageValue[Paused] = StorageValue("system.paused", Paused, NEVER_PAUSED)


def read_paused(state: StateReader) -> int:
    """Blocks so far whose part for duties was full. Deadlines of challenges move by what it grows."""
    return paused.read(state).duties


def read_paused_settlements(state: StateReader) -> int:
    """Blocks so far whose part for settlements was full; at least `read_paused`. Sessions close later by its growth."""
    return paused.read(state).settlements


def compute_room(params: SystemParams, space: Space) -> Room:
    """All that calls of this part and of the lower ones may take of a block together."""
    kept = {Space.COMMON: 2, Space.SETTLEMENT: 1, Space.DUTY: 0}[space] * params.reserved_permille
    return Room(
        params.block_weight_max - params.block_weight_max * kept // (2 * PERMILLE),
        params.block_bytes_max - params.block_bytes_max * kept // (2 * PERMILLE),
        BLOCK_EXTRINSICS_MAX - BLOCK_EXTRINSICS_MAX * kept // (2 * PERMILLE),
    )


class BlockSpace:
    """What is taken of a block under construction."""

    def __init__(self, params: SystemParams, due_weight: int) -> None:
        """`due_weight` is what the block's start has used up already."""
        self._rooms = {space: compute_room(params, space) for space in Space}
        self.weight = due_weight
        self.bytes = 0
        self.count = 0
        self.ended: Space | None = None
        """The highest part that its producer has ended; None when it has ended none."""

    def end(self, space: Space) -> None:
        """End a part and the lower ones."""
        self.ended = space if self.ended is None else max(self.ended, space)

    def find_lack(self, space: Space, weight: int, size_bytes: int) -> str | None:
        """Why a call of this part does not fit; None when it does."""
        room = self._rooms[space]
        if self.ended is not None and space <= self.ended:
            return "its producer has ended this part of the block"
        if self.count >= room.count:
            return f"a block has at most {room.count} transactions of this kind"
        if self.weight + weight > room.weight:
            return f"weight {weight} is more than the block has left"
        if self.bytes + size_bytes > room.bytes:
            return f"{size_bytes} bytes are more than the block has left"
        return None

    def take(self, weight: int, size_bytes: int) -> None:
        """Count a transaction that fits."""
        self.weight += weight
        self.bytes += size_bytes
        self.count += 1

    def is_full(self, space: Space) -> bool:
        """Whether one more call of this reserved part could fail to fit."""
        room, below = self._rooms[space], self._rooms[Space(space - 1)]
        return any(
            whole - used < (whole - rest) // MARGIN_DIVISOR
            for used, whole, rest in (
                (self.weight, room.weight, below.weight),
                (self.bytes, room.bytes, below.bytes),
                (self.count, room.count, below.count),
            )
        )


def count_full(state: StateWriter, space: BlockSpace) -> None:
    """At a block's end: count it if a part of it was full."""
    settlements, duties = space.is_full(Space.SETTLEMENT), space.is_full(Space.DUTY)
    if not (settlements or duties):
        return
    before = paused.read(state)
    paused.write(state, Paused(before.duties + duties, before.settlements + (settlements or duties)))
