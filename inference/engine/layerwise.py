"""One layer at a time: which layer's rows do not follow from those before it. A verifier's part in narrowing.

Holds the weights of one layer, as `compute_golden` does. The protocol around it is docs/decisions/0025-narrowing.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from inference.engine.ort import ShardSession
from inference.engine.rows import Hidden, Rows, StageOutput
from inference.errors import EngineError, FingerprintError, UnjudgeableError
from inference.fingerprint import DISTANCE_PPB_MAX, compute_delta, compute_distance, compute_rounding, compute_scale
from inference.model.graph.shard import ShardRange
from proto_specs.types.manifest import Manifest, WireDtype

ROUNDINGS_PER_LAYER = 4
"""As in verify.py: two sums a layer, on two machines."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Layers [low, high), some of them computed wrong: the rows at `low` are agreed on, those at `high` disputed."""

    low: int
    high: int

    @property
    def is_one_layer(self) -> bool:
        """Whether nothing is left to ask: the layer itself is judged."""
        return self.high - self.low == 1

    @property
    def middle(self) -> int:
        """The boundary whose rows the accused shows next."""
        return (self.low + self.high) // 2

    def narrow(self, is_middle_right: bool) -> Narrowing:
        """The half that is disputed still: where the middle rows follow from the agreed ones, the later one."""
        if self.is_one_layer:
            raise EngineError(f"layer {self.low} alone is disputed: there is no middle")
        return replace(self, low=self.middle) if is_middle_right else replace(self, high=self.middle)


@dataclass(frozen=True, slots=True)
class Disputed:
    """What is disputed: of layers [start, end) the signed input of positions 0..end and the window's claimed output."""

    manifest: Manifest
    directory: Path
    start: int
    end: int
    inputs: Rows
    window_start: int
    claimed: Hidden


@dataclass(frozen=True, slots=True)
class LayerFinding:
    """The layer that narrowing ends at, and how far its rows are from what follows of the layer's input."""

    layer: int
    distance_ppb: int
    threshold_ppb: int

    @property
    def is_right(self) -> bool:
        """Whether the accused computed it right, and so everything."""
        return self.distance_ppb <= self.threshold_ppb


ShowRows = Callable[[int], Hidden]
"""The accused's rows of positions 0..end at a boundary, fp32: it showed their hash before the next question came."""


def compute_boundaries(
    manifest: Manifest, directory: Path, start: int, end: int, inputs: Rows
) -> Iterator[StageOutput]:
    """The output of each of layers [start, end) in turn, one layer in memory at a time: what an accused shows."""
    rows = inputs
    for layer in range(start, end):
        session = ShardSession(ShardRange(manifest, layer, layer + 1), directory)
        output = session.run(session.open_kv(len(rows)), rows, (), True)
        rows = output.hidden
        yield output


def measure_range(
    disputed: Disputed, low: int, high: int, entered: Rows, shown: Hidden, dtype: WireDtype = WireDtype.FP32
) -> int:
    """Distance of the window's rows at `high` from what layers [low, high) make of the rows at `low`, in ppb.

    What rounding of sums this large explains is taken off. `shown` are the window's rows, of `dtype`. Raises
    UnjudgeableError where the own rows are nothing to compare with, FingerprintError where the shown are no rows.
    """
    given, own = _run(disputed.manifest, disputed.directory, low, high, entered)
    window = slice(disputed.window_start, len(entered))
    if shown.shape != own[window].shape or not np.isfinite(shown).all():
        raise FingerprintError(f"rows [n,C] of the window are shown, not {list(shown.shape)}")
    try:
        scale = compute_scale(compute_delta(own, given))
        distance = compute_distance(shown, own[window], given[window], scale, dtype)
        explained = compute_rounding(own[window], given[window], scale, ROUNDINGS_PER_LAYER * (high - low))
    except FingerprintError as error:
        raise UnjudgeableError(f"layers {low} to {high - 1} cannot be compared: {error}") from error
    return max(0, distance - explained)


def find_fault(disputed: Disputed, show: ShowRows) -> LayerFinding:
    """Narrow alone, as if every verifier voted as this one: log2(layers) questions, then one layer is judged.

    Each half is judged by `golden_ppb`, the bound for fp32 rows that machines prove themselves by.
    """
    dispute, bound = Narrowing(disputed.start, disputed.end), disputed.manifest.profile.golden_ppb
    agreed: dict[int, Rows] = {disputed.start: disputed.inputs}
    while not dispute.is_one_layer:
        rows = show(dispute.middle)
        is_right = is_middle_right(disputed, dispute, agreed[dispute.low], rows)
        agreed[dispute.middle] = rows
        dispute = dispute.narrow(is_right)
    return LayerFinding(dispute.low, measure_layer(disputed, dispute.low, agreed), bound)


def is_middle_right(disputed: Disputed, dispute: Narrowing, entered: Rows, shown: Hidden) -> bool:
    """A verifier's vote: whether the rows shown at the middle follow from the agreed ones. No rows never do."""
    if len(shown) != len(entered):
        return False
    try:
        distance = measure_range(disputed, dispute.low, dispute.middle, entered, shown[disputed.window_start :])
    except FingerprintError:
        return False
    return distance <= disputed.manifest.profile.golden_ppb


def measure_layer(disputed: Disputed, layer: int, agreed: Mapping[int, Rows]) -> int:
    """The last question: a single layer, whose output is what was shown, or at the end what was signed and claimed.

    What was shown and is no rows is as far off as anything. Raises UnjudgeableError as `measure_range`.
    """
    shown, dtype = disputed.claimed, WireDtype(disputed.manifest.wire_dtype)
    if layer + 1 < disputed.end:
        shown, dtype = agreed[layer + 1].astype(np.float32, copy=False)[disputed.window_start :], WireDtype.FP32
    try:
        return measure_range(disputed, layer, layer + 1, agreed[layer], shown, dtype)
    except FingerprintError:
        return DISTANCE_PPB_MAX


def _run(manifest: Manifest, directory: Path, low: int, high: int, rows: Rows) -> tuple[Hidden, Hidden]:
    """The rows that enter layer `low`, and those after layer `high` - 1."""
    given, own = rows.astype(np.float32, copy=False), rows.astype(np.float32, copy=False)
    for output in compute_boundaries(manifest, directory, low, high, rows):
        given = given if output.embedded is None else output.embedded
        own = output.hidden
    return given, own
