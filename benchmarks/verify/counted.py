"""What the measured windows say: honest ones accused, cheats missed, and the tail beyond what was measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.verify.honest import COLUMNS, LENGTHS, NAMES, is_judged
from benchmarks.verify.tail import fit_tail
from inference.calibration.substitutes import Weights
from inference.calibration.tallies import Boundary, compute_worst
from inference.calibration.thresholds import MISSED_SHARE_MAX, Chosen
from inference.model.profiles import make_profile
from proto_specs.types.manifest import ServiceClass, WireDtype

PEAK_SHARE = 0.002
RESAMPLES = 200
UNCALIBRATED_PPB = make_profile(ServiceClass.EXACT, WireDtype.BF16).threshold_ppb
SEPARATION_GOAL = 100

Windows = NDArray[np.int64]


def count_honest(texts: Sequence[Windows], chosen: Sequence[Chosen]) -> dict[str, Any]:
    """Windows of all texts against the threshold of the boundary that each ends at.

    Left out are windows that begin at positions 1 to 31, which no request has, and those of requests of fewer than 8
    positions, which small distances do not fail; the worst of the latter is told.
    """
    short = [one[(one[:, 3] == 0) & ~is_judged(one)] for one in texts]
    texts = [one[is_judged(one)] for one in texts]
    windows = np.concatenate(texts)
    thresholds = np.array([0, *(one.threshold for one in chosen)])
    column = {name: windows[:, place] for place, name in enumerate(COLUMNS)}
    ratio = column["distance"] / thresholds[column["end"]]
    is_beyond = ratio > 1.0
    return {
        "windows": len(windows),
        "texts": 2 * len(texts),
        "shards": len(np.unique(windows[:, :2], axis=0)),
        "positions_compared": int(column["length"].sum()),
        "accused": int(is_beyond.sum()),
        "beyond_the_uncalibrated_profile": int((column["distance"] > UNCALIBRATED_PPB).sum()),
        "largest_ppb": int(column["distance"].max()),
        "largest_of_its_threshold": float(ratio.max()),
        "rule_of_three_95": 3.0 / len(windows),
        "short_requests_largest_ppb": max((int(one[:, 5].max()) for one in short if len(one)), default=0),
        "not_equal_share": float((column["distance"] > 0).mean()),
        "machines": {
            name: _describe(column["distance"], ratio, column["machine"] == place) for place, name in enumerate(NAMES)
        },
        "lengths": {str(one): _describe(column["distance"], ratio, column["length"] == one) for one in LENGTHS},
        "tail": _extrapolate(texts, thresholds),
        "tail_of_the_uncalibrated_profile": _extrapolate(texts, np.full_like(thresholds, UNCALIBRATED_PPB)),
    }


def _describe(distances: Windows, ratio: NDArray[np.float64], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    if not chosen.any():
        return {"windows": 0}
    return {
        "windows": int(chosen.sum()),
        "largest_ppb": int(distances[chosen].max()),
        "q999_ppb": float(np.quantile(distances[chosen], 0.999)),
        "largest_of_its_threshold": float(ratio[chosen].max()),
    }


def _extrapolate(texts: Sequence[Windows], thresholds: Windows) -> dict[str, Any]:
    """The fit over all windows, and the spread of it when whole texts are drawn again: windows of a text are alike."""
    ratios = [one[:, 5] / thresholds[one[:, 1]] for one in texts]

    def fit(drawn: Sequence[NDArray[np.float64]]) -> tuple[float, float, float]:
        values = np.concatenate(list(drawn))
        tail = fit_tail(values, max(int(PEAK_SHARE * len(values)), 20))
        return tail.exceeds(1.0), tail.shape, tail.start

    exceeds, shape, start = fit(ratios)
    generator = np.random.default_rng(1)
    again = [fit([ratios[one] for one in generator.integers(0, len(ratios), len(ratios))])[0] for _ in range(RESAMPLES)]
    return {
        "peak_share": PEAK_SHARE,
        "starts_at": start,
        "shape": shape,
        "beyond_threshold_per_window": exceeds,
        "beyond_threshold_95": float(np.quantile(again, 0.95)),
    }


def count_cheats(found: Sequence[Boundary], chosen: Sequence[Chosen]) -> dict[str, Any]:
    """For each cheat its windows and those that pass, over all shards; and where it is not told apart.

    Per shard and length at most the 64 nearest windows are kept, which bounds `passed` from below where all 64 pass.
    """
    thresholds = {one.end: one.threshold for one in chosen}
    cheats: dict[str, dict[str, Any]] = {}
    for boundary in found:
        for name, lengths in boundary.cheats.items():
            entry = cheats.setdefault(
                name, {"windows": 0, "passed": 0, "least_of_its_threshold": np.inf, "not_told": []}
            )
            for length, tally in lengths.items():
                if not tally.lowest:
                    continue
                threshold = thresholds[boundary.end]
                passed = tally.count_within(threshold)
                entry["windows"] += tally.count
                entry["passed"] += passed
                least = tally.lowest[0] / threshold
                entry["least_of_its_threshold"] = min(entry["least_of_its_threshold"], least)
                if passed > MISSED_SHARE_MAX * tally.count:
                    entry["not_told"].append([boundary.start, boundary.end, length, passed, tally.count])
    for entry in cheats.values():
        entry["missed_per_window"] = entry["passed"] / max(entry["windows"], 1)
        entry["shards_not_told"] = len({(one[0], one[1]) for one in entry["not_told"]})
    return {
        "goal": MISSED_SHARE_MAX,
        "cheats": cheats,
        "inseparable": sorted(name for name, one in cheats.items() if one["not_told"]),
    }


def measure_separation(found: Sequence[Boundary], cuts: Sequence[int]) -> dict[str, Any]:
    """The nearest window of fp16 weights over the worst honest one of the same shard, by length of window.

    `cuts` are where the model is cut into the shards that are shown; `all` is over every shard that was measured.
    """
    name = Weights.HALF.value
    ratios = {
        (one.start, one.end): {
            length: tally.lowest[0] / max(compute_worst(one.honest.values(), length), 1)
            for length, tally in one.cheats[name].items()
        }
        for one in found
    }
    shown = {f"{start}-{end}": ratios[start, end] for start, end in itertools.pairwise(cuts)}
    lengths = sorted({length for one in ratios.values() for length in one})
    return {
        "cheat": name,
        "goal": SEPARATION_GOAL,
        "shards": {shard: {str(length): ratio for length, ratio in one.items()} for shard, one in shown.items()},
        "all": {
            str(length): {
                "least": min(one[length] for one in ratios.values()),
                "least_of_shard": min(ratios, key=lambda shard: ratios[shard][length]),
                "share_of_shards_at_goal": float(np.mean([one[length] >= SEPARATION_GOAL for one in ratios.values()])),
            }
            for length in lengths
        },
    }
