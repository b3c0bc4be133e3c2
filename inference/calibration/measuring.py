"""Measures all shards that begin at one layer: every claimant's rows, layer by layer, against a verifier's.

Cutting a model between two layers changes no bit, so one run of each claimant over the layers from `start` on gives the
rows of every shard [start, end).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from inference.calibration.claimants import CHANGED_POSITION, REFERENCE, Claimant
from inference.calibration.distances import Distances, Recomputed, send
from inference.calibration.layer_runs import get_embedded, run_layer
from inference.calibration.layer_source import LayerSource
from inference.calibration.substitutes import Weights
from inference.calibration.tallies import Boundary, DistanceTally
from inference.engine.rows import Hidden, Rows
from inference.engine.verify import JUDGED_POSITIONS_MIN
from inference.errors import FingerprintError
from inference.fingerprint import Delta
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.manifest import WireDtype

LENGTHS = (1, 2, 8, 32)
RANKS = (8, 64, 128)
NOISE_SHARES = {"1 % noise on the delta": 1e-2, "0.1 % noise on the delta": 1e-3}
STRETCHED_ROWS = 48
STRETCHED = ("larger rows", "large in every channel")
ITS_WINDOW, LATER = "one row changed, its window", "one row changed, a later window"

Advance = Callable[[], None]
"""Told of every layer of every claimant."""


@dataclass(frozen=True)
class Entering:
    """What enters a shard, of each sequence; the last `stretched` of them are larger than any text makes rows."""

    rows: list[Rows]
    stretched: int = 0


def enter(source: LayerSource, samples: Sequence[Rows], start: int, cuts: Sequence[int], slack: int) -> Entering:
    """The rows that enter layer `start` when the model is cut at `cuts` before it, and two sequences of stretched ones.

    Those reach `slack` times the largest magnitude of any sample's: the first is a sample's times a number, the second
    does so in every channel. Raises EngineError, and WireDtypeError for rows that the wire cannot hold.
    """
    if start == 0:
        return Entering(list(samples))
    rows: list[Rows] = list(samples)
    wire = WireDtype(source.manifest.wire_dtype)
    for layer in range(start):
        session = source.load(layer)
        rows = list(run_layer(session, REFERENCE, rows))
        if layer + 1 == start or layer + 1 in cuts:
            rows = [send(one.astype(np.float32, copy=False), wire) for one in rows]
    largest = max(float(np.abs(one).max()) for one in rows)
    first = rows[0][:STRETCHED_ROWS].astype(np.float32, copy=False)
    stretched = first * np.float32(slack * largest / float(np.abs(first).max()))
    flat = np.random.default_rng([start, 3]).uniform(0.5, 1.0, first.shape) * np.where(first < 0, -slack, slack)
    return Entering([*rows, send(stretched, wire), send((flat * largest).astype(np.float32), wire)], 2)


def measure_start(
    source: LayerSource, start: int, entering: Entering, claimants: Sequence[Claimant], advance: Advance
) -> Iterator[Boundary]:
    """Findings of shards [start, start + 1), [start, start + 2) and so on, to the model's end.

    Raises EngineError or StoreError when a layer cannot be run.
    """
    bases: list[Hidden] = []
    current = {one.name: list(entering.rows) for one in (REFERENCE, *claimants)}
    for layer in range(start, source.manifest.architecture.layers):
        if layer == start:
            bases = [get_embedded(source.load(layer), one) for one in entering.rows]
        for one in (REFERENCE, *claimants):
            current[one.name] = _advance(source, one, layer, start, current[one.name])
            advance()
        yield _compare(Boundary(start, layer + 1), bases, current, claimants, entering.stretched, source)


def _advance(source: LayerSource, claimant: Claimant, layer: int, start: int, rows: list[Rows]) -> list[Rows]:
    if claimant.skips and layer == start + 1:
        return rows
    if claimant.changes_row and layer == start:
        rows = [_change(one) for one in rows]
    weights = Weights.PUBLISHED if claimant.first_layer_only and layer > start else claimant.weights
    return list(run_layer(source.load(layer, weights, claimant.way, claimant.threads), claimant, rows))


def _change(rows: Rows) -> Rows:
    changed = rows.copy()
    if len(rows) > CHANGED_POSITION + 1:
        changed[CHANGED_POSITION] = changed[CHANGED_POSITION + 1]
    return changed


def _compare(
    boundary: Boundary,
    bases: list[Hidden],
    current: dict[str, list[Rows]],
    claimants: Sequence[Claimant],
    stretched: int,
    source: LayerSource,
) -> Boundary:
    wire = WireDtype(source.manifest.wire_dtype)
    usual = len(bases) - stretched
    own = [one.astype(np.float32, copy=False) for one in current[REFERENCE.name]]
    boundary.largest = max(float(np.abs(one).max()) for one in own[:usual])
    judges = [Recomputed(rows, base, wire) for rows, base in zip(own[:usual], bases[:usual], strict=True)]
    for claimant in claimants:
        if claimant.skips and boundary.end == boundary.start + 1:
            continue
        rows = [one.astype(np.float32, copy=False) for one in current[claimant.name]]
        for judge, computed in zip(judges, rows[:usual], strict=True):
            _tally(boundary, claimant, judge.measure(computed, _fit(judge)))
        for name, at in zip(STRETCHED, range(usual, len(bases)), strict=False):
            if claimant.is_honest:
                _tally_stretched(boundary, f"{name}: {claimant.name}", own[at], bases[at], wire, rows[at])
    for name, claims in _make_claims(judges):
        for judge, claimed in zip(judges, claims, strict=True):
            found = judge.measure(claimed, _fit(judge))
            _add(boundary.cheats, name, _pick(found))
    return boundary


def _tally(boundary: Boundary, claimant: Claimant, found: dict[int, Distances]) -> None:
    if claimant.is_honest:
        _add(boundary.honest, claimant.name, _pick(found))
    elif claimant.changes_row:
        inside = {length: one[:1] for length, one in found.items() if length > CHANGED_POSITION}
        _add(boundary.cheats, ITS_WINDOW, inside)
        _add(boundary.cheats, LATER, _pick(found, WINDOW_POSITIONS))
    else:
        _add(boundary.cheats, claimant.name, _pick(found, claimant.judged_from))


def _pick(found: dict[int, Distances], first: int = 0) -> dict[int, Distances]:
    """Windows that are judged, from position `first` on: of 8 rows or more they begin at 0, all of them, for there are
    few multiples of 32, anywhere beyond the first window."""
    later = max(first, WINDOW_POSITIONS)
    begun = {length: 1 if first == 0 and length >= JUDGED_POSITIONS_MIN else 0 for length in found}
    return {length: np.concatenate([one[: begun[length]], one[later:]]) for length, one in found.items()}


def _tally_stretched(boundary: Boundary, name: str, own: Hidden, base: Hidden, wire: WireDtype, rows: Hidden) -> None:
    try:
        judge = Recomputed(own, base, wire)
    except FingerprintError:
        return  # no verdict is given on such rows
    _add(boundary.stretched, name, _pick(judge.measure(rows, _fit(judge))))


def _fit(judge: Recomputed) -> list[int]:
    return [one for one in LENGTHS if one <= len(judge.own)]


def _add(named: dict[str, dict[int, DistanceTally]], name: str, found: dict[int, Distances]) -> None:
    for length, distances in found.items():
        named.setdefault(name, {}).setdefault(length, DistanceTally()).add(distances)


def _make_claims(judges: Sequence[Recomputed]) -> Iterator[tuple[str, list[Hidden]]]:
    """Claims that are made of the right rows, of each sequence: noise on the delta, and a delta of low rank."""
    generator = np.random.default_rng(7)
    for name, share in NOISE_SHARES.items():
        factors = [1.0 + generator.standard_normal(one.own.shape) * share for one in judges]
        yield name, _add_deltas(judges, [one.delta * factor for one, factor in zip(judges, factors, strict=True)])
    deltas = np.concatenate([one.delta for one in judges])
    _, vectors = np.linalg.eigh(deltas @ deltas.T)  # of rows with rows: rows are few, channels may be many
    for rank in RANKS:
        if rank < min(deltas.shape):
            kept = vectors[:, -rank:]
            reduced = kept @ (kept.T @ deltas)
            ends = np.cumsum([len(one.own) for one in judges])[:-1]
            yield f"delta of rank {rank}", _add_deltas(judges, np.split(reduced, ends))


def _add_deltas(judges: Sequence[Recomputed], deltas: Sequence[Delta]) -> list[Hidden]:
    return [(one.entered + delta).astype(np.float32) for one, delta in zip(judges, deltas, strict=True)]
