"""A verifier's work for a challenge: recompute ONE shard over prefix and window, and compare. Pure but for the CPU.

The inputs were authenticated against signed leaves before (inference.serving.opening), but may still be wrong. One
prefill of positions 0..end is the whole cost; no state is kept.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from inference.decoding.chooser import TokenChooser
from inference.engine.ort import ShardSession
from inference.engine.rows import Hidden, Rows, validate_range
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.errors import (
    EngineError,
    FingerprintError,
    InputsRefusable,
    RowsOutOfRange,
    UnjudgeableError,
    WireDtypeError,
)
from inference.fingerprint import (
    Delta,
    Scale,
    compute_delta,
    compute_distance,
    compute_projection,
    compute_rounding,
    compute_scale,
)
from inference.model.graph.shard import ShardRange
from inference.rounding import compute_excess
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.manifest import ExecutionProfile, WireDtype

_MICRO = 1_000_000
JUDGED_POSITIONS_MIN = 8
"""With fewer positions the scale is rough, and honest machines differ by up to 5e-5."""
SHORT_SLACK = 32
"""So rows of a request so short fail only beyond so many times the threshold; between, there is no verdict."""
SPREAD_SLACK = 8
"""Rows fail only beyond so many times what this machine differs from itself: some texts (three tokens repeated) make
any rounding grow through the layers, to 2e-4 in a shard of 30."""
SINGLE_ROWS_MAX = 1024
ROUNDINGS_PER_LAYER = 4
"""A layer adds to the residual stream twice, and two machines round each of these sums."""


@dataclass(frozen=True)
class SampledTokens:
    """The tokens that a last stage claims to have drawn: `tokens[i]` from the logits of position `start + i`.

    `drawn` are those of the windows before. Every position of the window from `start` on must have its token, unless
    the generation ended. `chooser` has seen none of them; None: by these rules nobody could have drawn a token.
    """

    tokens: tuple[int, ...]
    start: int
    chooser: TokenChooser | None
    drawn: tuple[int, ...] = ()


@dataclass(frozen=True)
class VerificationResult:
    """The comparison: `ok` iff the distance is within the threshold and no token is wrong.

    `projection` is of the verifier's OWN delta over the window. `token_mismatches` lists, ascending, the positions
    whose token differs from what logits and seed give, is missing, is surplus, or follows the generation's end.
    """

    distance_ppb: int
    threshold_ppb: int
    projection: bytes
    token_mismatches: tuple[int, ...]

    @property
    def ok(self) -> bool:
        """Whether the claimed work passes the check."""
        return self.distance_ppb <= self.threshold_ppb and not self.token_mismatches


def verify_window(
    session: ShardSession,
    inputs: Rows,
    window_start: int,
    claimed: Hidden,
    profile: ExecutionProfile,
    seed: bytes,
    sampled: SampledTokens | None = None,
) -> VerificationResult:
    """Judge the claimed output rows [n,C] of positions window_start..end, given the shard's signed input of 0..end.

    `inputs` are uint32 token ids [P] or fp32 hidden states [P,C] with P = window_start + n; `seed` (32 bytes) is that
    of the projection; `sampled` is for a last shard whose window holds generated tokens.
    `claimed` are the values that were sent, in the session's wire dtype; the recomputed rows are never rounded.
    Rows that the wire rounds to the claimed ones pass, whatever they are. Raises UnjudgeableError where others have
    nothing to be compared with (fingerprint.md, section 3): nobody is at fault then. Raises EngineError when the
    inputs are not rows of this shard or it cannot run here, FingerprintError when the claimed rows are not finite rows
    of the window's shape (the verdict is a fail: NaN never matches).
    """
    positions = len(inputs)
    if not 0 <= window_start < positions:
        raise EngineError(f"the window starts at {window_start}, outside the {positions} positions given")
    if sampled is not None and not (session.shard.is_last and window_start <= sampled.start):
        raise EngineError("sampled tokens are judged on a last shard, from the window's own positions")
    first = positions if sampled is None else min(sampled.start, positions)
    output = session.run(session.open_kv(positions), inputs, tuple(range(first, positions)), True)
    entered = inputs.astype(np.float32, copy=False) if output.embedded is None else output.embedded
    window = slice(window_start, positions)
    _require_rows(claimed, output.hidden[window])
    if output.logits is not None and not np.isfinite(output.logits).all():
        raise UnjudgeableError("the recomputed logits hold NaN or infinity: no token follows from them")
    mismatches = () if sampled is None else _compare_tokens(sampled, output.logits, first, positions, profile)
    threshold = session.shard.manifest.get_threshold(session.shard.end)
    if not mismatches and _is_equal(claimed, output.hidden[window], session.wire_dtype):
        projection = _project_equal(output.hidden, entered, window, seed)
        return VerificationResult(0, threshold, projection, ())
    validate_reference(session.shard, inputs)
    delta, scale = _compute_reference(output.hidden, entered, window, session.wire_dtype)
    rows = claimed, output.hidden[window], entered[window]
    distance = compute_distance(*rows, scale, session.wire_dtype)
    explained = compute_rounding(*rows[1:], scale, ROUNDINGS_PER_LAYER * len(session.shard.layers))
    if not mismatches and threshold < distance <= threshold + explained:
        raise UnjudgeableError(
            f"the rows are {distance} ppb off, of which {explained} may be the rounding of sums this large"
        )
    if not mismatches and threshold < distance <= SHORT_SLACK * threshold and positions < JUDGED_POSITIONS_MIN:
        raise UnjudgeableError(f"the rows are {distance} ppb off, but {positions} positions are too few to compare")
    if not mismatches and distance > threshold:
        spread = _measure_spread(session, inputs, rows, window_start, scale)
        if distance <= SPREAD_SLACK * spread:
            raise UnjudgeableError(f"the rows are {distance} ppb off, this machine row by row {spread} from itself")
    projection = compute_projection(delta[window], scale, seed)
    return VerificationResult(distance, threshold, projection, mismatches)


def _measure_spread(
    session: ShardSession, inputs: Rows, rows: tuple[Hidden, Hidden, Hidden], window_start: int, scale: Scale
) -> int:
    """How far this machine is from itself in the window, in ppb, when it computes row by row instead of at once.

    `rows` are the claimed, own and entered ones of the window. A long prefix is computed in pieces, to end in time.
    """
    kv, dtype, start = session.open_kv(len(inputs)), session.wire_dtype, 0
    step = 1 if len(inputs) <= SINGLE_ROWS_MAX else WINDOW_POSITIONS
    found: list[Hidden] = []
    while start < len(inputs):
        end = min(start + step, window_start) if start < window_start else start + 1
        hidden = session.run(kv, inputs[start:end], (), True).hidden
        if start >= window_start:
            found.append(hidden)
        start = end
    try:
        claimed = decode_rows(encode_rows(np.concatenate(found), dtype), dtype, rows[1].shape[1])
    except WireDtypeError as error:
        raise UnjudgeableError(f"the recomputed rows cannot be compared: {error}") from error
    return compute_distance(claimed, *rows[1:], scale, dtype)


def validate_reference(shard: ShardRange, inputs: Rows) -> None:
    """Raises InputsRefusable for inputs beyond the range that the shard was calibrated for."""
    try:
        validate_range(shard, inputs)
    except RowsOutOfRange as error:
        raise InputsRefusable(str(error)) from error


def _require_rows(claimed: Hidden, own: Hidden) -> None:
    if claimed.shape != own.shape or not np.isfinite(claimed).all():
        raise FingerprintError(f"claimed rows are finite {list(own.shape)}, not what came as {list(claimed.shape)}")


def _is_equal(claimed: Hidden, own: Hidden, dtype: WireDtype) -> bool:
    """Whether the own rows round to the claimed ones (or to a tie's other end)."""
    return bool(np.isfinite(own).all()) and not compute_excess(claimed, own, dtype).any()


def _project_equal(own: Hidden, entered: Hidden, window: slice, seed: bytes) -> bytes:
    """The projection of rows that are equal: of the delta, or where there is none, of the window's rows themselves."""
    with contextlib.suppress(FingerprintError):
        delta = compute_delta(own, entered)
        found = compute_projection(delta[window], compute_scale(delta), seed)
        if any(found):
            return found
    rows = own[window].astype(np.float64)
    try:
        return compute_projection(rows, compute_scale(rows), seed)
    except FingerprintError as error:
        raise UnjudgeableError("the recomputed rows have no fingerprint: they are zero") from error


def _compute_reference(own: Hidden, entered: Hidden, window: slice, dtype: WireDtype) -> tuple[Delta, Scale]:
    """Delta and scale to compare with. Raises UnjudgeableError where no honest worker could match."""
    try:
        encode_rows(own, dtype)
        delta = compute_delta(own, entered)
        scale = compute_scale(delta)
    except (WireDtypeError, FingerprintError) as error:
        raise UnjudgeableError(f"the recomputed rows cannot be compared: {error}") from error
    if not delta[window].any():
        raise UnjudgeableError("the recomputed rows cannot be compared: they equal the input throughout the window")
    return delta, scale


def _compare_tokens(
    sampled: SampledTokens, logits: Hidden | None, first: int, positions: int, profile: ExecutionProfile
) -> tuple[int, ...]:
    margin = profile.token_margin_micro / _MICRO
    wrong: list[int] = []
    chooser = sampled.chooser
    ended = chooser is None or any(chooser.advance(one) for one in sampled.drawn)
    for offset in range(max(len(sampled.tokens), positions - first)):
        position = sampled.start + offset
        if offset >= len(sampled.tokens) or position >= positions or ended:
            wrong.append(position)
            continue
        token = sampled.tokens[offset]
        assert logits is not None, "logits were asked for every sampled position"
        assert chooser is not None, "without rules nothing gets here"
        if not chooser.is_consistent(logits[offset], position, token, margin):
            wrong.append(position)
        ended = chooser.advance(token)
    return tuple(wrong)
