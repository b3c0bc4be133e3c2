"""What the coarse model computes of a worker and of a path: times in seconds, prices, and what a gateway expects. Pure.

`LINK_SHARED` and `PERIOD_S` are fitted to the fine model with 300 workers; how well they hold with 1,000 is in
docs/simulator.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.routing import LayerOffer
from node.sim.network.workers import DECODE_SHARE, PREFILL_SHARE, STEP_US, WorkerState
from node.sim.network.world import JITTER, ROW_BYTES, Rig, Spot

LINK_SHARED = 1.5
"""A prompt's chunks take so many times longer up a link than alone: other requests send too."""
PERIOD_S = 0.15
"""How often a request has a row at a worker: what others' rows make it wait follows from it."""


@dataclass(slots=True)
class CoarseWorker:
    """A machine with its range. `dies_s`, and how: DEAD, SILENT, STUCK, or LEAVING for one that drains."""

    key: bytes
    rig: Rig
    start: int
    end: int
    dies_s: float
    how: WorkerState
    kv_used: int = 0
    requests: int = 0

    @property
    def row_s(self) -> float:
        """One row through its layers."""
        return ((self.end - self.start) * self.rig.layer_us + STEP_US) / 1e6

    def send_s(self, rows: int) -> float:
        """Seconds that rows take up its link."""
        return rows * ROW_BYTES / self.rig.up_bytes_s


def make_offer(spot: Spot, one: CoarseWorker) -> LayerOffer:
    """What a gateway that knows a worker well expects of it, with what others have under way there."""
    return LayerOffer(
        worker=one.key,
        start=one.start,
        end=one.end,
        prefill_price=max(1, one.rig.price // 2),
        decode_price=one.rig.price,
        prefill_us=round(one.row_s * 1e6 * PREFILL_SHARE),
        decode_us=round(one.row_s * 1e6 * (1.0 + compute_load(one))),
        round_trip_us=round(2e6 * spot.compute_way_s(one.rig.spot)),
    )


def sum_prices(path: tuple[CoarseWorker, ...]) -> int:
    """Nmyl for a token."""
    return sum((one.end - one.start) * one.rig.price for one in path)


def compute_hops(path: tuple[CoarseWorker, ...]) -> float:
    """One way from each stage to the next, the last one's back to the first included, with its row's sending."""
    if len(path) < 2:
        return 0.0
    followers = (*path[1:], path[0])
    ways = sum(one.rig.spot.compute_way_s(then.rig.spot) for one, then in zip(path, followers, strict=True))
    return ways * (1.0 + JITTER) + sum(one.send_s(1) for one in path[:-1])


def compute_load(one: CoarseWorker) -> float:
    """How much longer a row takes at a worker with so many requests: they share passes, and wait for each other's."""
    others = max(0, one.requests - 1)
    return min(1.0, others * one.row_s / PERIOD_S) * 0.5 + DECODE_SHARE * min(others, 4) * 0.5


def compute_token(path: tuple[CoarseWorker, ...]) -> float:
    """Seconds from a token to the next one."""
    return compute_hops(path) + sum(one.row_s * (1.0 + compute_load(one)) for one in path)
