"""Who claims a shard's rows in a calibration: honest machines of several kinds, and the cheats nearest to them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from inference.calibration.substitutes import Weights
from inference.engine.way import Way

TRUNCATED_PREFIX = 32
CHANGED_POSITION = 5
"""In the first window."""
STALE_POSITIONS = 32


class Memory(enum.Enum):
    """What a claimant does with keys and values, or with the rows they come from."""

    KEPT = "kept"
    INT8 = "int8"
    STALE = "stale"
    TRUNCATED = "truncated"


@dataclass(frozen=True)
class Claimant:
    """How rows are computed. `rows` is how many a call has (0: all); `together`: a row of each sequence in a call.

    A cheat is judged in windows from `judged_from` on, where it has an effect. `is_decoding`: as tokens are generated.
    """

    name: str
    weights: Weights = Weights.PUBLISHED
    way: Way = Way.USUAL
    threads: int = 1
    rows: int = 0
    together: bool = False
    memory: Memory = Memory.KEPT
    is_honest: bool = False
    skips: bool = False
    changes_row: bool = False
    first_layer_only: bool = False
    judged_from: int = 0

    @property
    def is_decoding(self) -> bool:
        """Whether it is how generated tokens are computed, or else how a prompt is."""
        return self.rows == 1 or self.together


HONEST = (
    Claimant("calls of 3 rows", rows=3, is_honest=True),
    Claimant("calls of 8 rows", rows=8, is_honest=True),
    Claimant("calls of 32 rows", rows=32, is_honest=True),
    Claimant("2 threads", threads=2, is_honest=True),
    Claimant("unoptimised graph", way=Way.UNOPTIMISED, is_honest=True),
    Claimant("plain attention", way=Way.PLAIN, is_honest=True),
    Claimant("fp32 form", weights=Weights.EXPANDED, is_honest=True),
    Claimant("single rows", rows=1, is_honest=True),
    Claimant("single rows, fp32 form", weights=Weights.EXPANDED, rows=1, is_honest=True),
    Claimant("single rows, plain attention", way=Way.PLAIN, rows=1, is_honest=True),
    Claimant("batches", together=True, is_honest=True),
)

CHEATS = (
    Claimant(Weights.HALF.value, weights=Weights.HALF),
    Claimant("fp16 weights in one layer", weights=Weights.HALF, first_layer_only=True),
    Claimant(Weights.INT8.value, weights=Weights.INT8),
    Claimant(Weights.INT4.value, weights=Weights.INT4),
    Claimant(Weights.NOISE_1.value, weights=Weights.NOISE_1),
    Claimant(Weights.NOISE_01.value, weights=Weights.NOISE_01),
    Claimant(Weights.SWAPPED.value, weights=Weights.SWAPPED),
    Claimant("a layer skipped", skips=True),
    Claimant("int8 keys and values", memory=Memory.INT8, judged_from=32),
    Claimant("stale keys and values", memory=Memory.STALE, judged_from=STALE_POSITIONS),
    Claimant("prefix of 32", memory=Memory.TRUNCATED, judged_from=2 * TRUNCATED_PREFIX),
    Claimant("one row changed", changes_row=True, judged_from=CHANGED_POSITION),
)

REFERENCE = Claimant("verifier", is_honest=True)
