"""Input and output of a stage: typed rows, checked once at the edge. Knows no runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.errors import EngineError, RowsOutOfRange
from inference.model.graph.shard import ShardRange

Tokens = NDArray[np.uint32]
Hidden = NDArray[np.float32]
Rows = Tokens | Hidden


@dataclass(frozen=True)
class StageOutput:
    """Output of one forward over n positions of a shard with hidden width C and vocabulary V, all fp32.

    `embedded` [n,C] is the input of the first layer when the shard embeds tokens (the base of its delta), else None.
    `hidden` [n,C] is the residual stream after the shard's last layer (before any final norm).
    `logits` [r,V] are those of the r requested rows, in the requested order; None when no rows were requested.
    """

    hidden: Hidden
    embedded: Hidden | None
    logits: Hidden | None


def validate_rows(shard: ShardRange, rows: Rows, of_any_size: bool = False) -> None:
    """Raises EngineError unless `rows` is [n] uint32 ids of the vocabulary, or finite [n,C] fp32, with n >= 1.

    Raises RowsOutOfRange as `validate_range`, unless the values may be `of_any_size`.
    """
    architecture = shard.architecture
    if shard.is_first:
        if rows.ndim != 1 or rows.dtype != np.uint32 or not rows.size:
            raise EngineError(f"the first shard takes [n] uint32 token ids, not {rows.dtype} {list(rows.shape)}")
        if int(rows.max()) >= architecture.vocab:
            raise EngineError(f"token {int(rows.max())} is outside the vocabulary of {architecture.vocab}")
        return
    if rows.ndim != 2 or rows.dtype != np.float32 or not rows.size or rows.shape[1] != architecture.hidden:
        raise EngineError(f"this shard takes [n, {architecture.hidden}] fp32, not {rows.dtype} {list(rows.shape)}")
    if not np.isfinite(rows).all():
        raise EngineError("hidden states hold NaN or infinity: the sender's stage is broken")
    if not of_any_size:
        validate_range(shard, rows)


def validate_range(shard: ShardRange, rows: Rows) -> None:
    """Raises RowsOutOfRange where rows of a shard's input are larger than its boundary was calibrated for.

    Such rows swallow what the shard adds to them, so nothing it computes of them could be judged. Exact: whoever sent
    them, worker and verifier find the same.
    """
    ranges = shard.manifest.ranges
    if shard.is_first or not ranges:
        return
    if (largest := float(np.abs(rows).max())) > ranges[shard.start - 1]:
        raise RowsOutOfRange(
            f"hidden states reach {largest:.3g}, the model was calibrated for {ranges[shard.start - 1]}:"
            " the sender's stage is broken"
        )
