"""What is counted and measured while a simulated network runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from node.sim.network.gateways import SimGateway
from node.sim.network.workers import SimWorker

FOUND_SHARE = 0.5
"""A liar is found out by a gateway that expects this share of its true time, or more."""
SURVIVOR_S = 600.0


class Tally:
    """Everything since the simulation began; times in seconds."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.firsts_s: list[float] = []
        self.paces: list[float] = []
        """Tokens per second of each complete answer."""
        self.pauses_s: list[float] = []
        self.requests = 0
        self.complete = 0
        self.orders = 0
        self.tokens = 0
        self.price_nmyl = 0
        self.replayed_rows = 0
        self.wasted_rows = 0
        self.stages = 0
        self.liar_stages_before = 0
        self.liar_stages_after = 0
        self.survivor_bytes = 0
        self.moved_bytes = 0
        self.uncovered_layer_s = 0.0
        self.violations: list[str] = []
        self._survivors: dict[bytes, float] = {}

    def count(self, what: str) -> None:
        """One more of something."""
        self.counts[what] += 1

    def note_order(self, gateway: SimGateway, stages: Sequence[SimWorker], now_s: float) -> None:
        """An order is sent to these stages."""
        self.orders += 1
        self.stages += len(stages)
        for one in stages:
            if one.rig.is_liar:
                expected_us = gateway.memory.get_figures(one.key, now_s).decode_us or 0
                if expected_us >= FOUND_SHARE * one.row_s * 1e6:
                    self.liar_stages_after += 1
                else:
                    self.liar_stages_before += 1

    def note_first(self, seconds: float) -> None:
        """A request's first token came, after so long."""
        self.firsts_s.append(seconds)

    def note_token(self, stages: Sequence[SimWorker], prompt: int) -> None:
        """A token came over these stages; the first one brings the prompt's price."""
        self.tokens += 1
        for one in stages:
            price = one.rig.price
            self.price_nmyl += (one.end - one.start) * (price + prompt * max(1, price // 2))

    def note_pause(self, seconds: float) -> None:
        """An answer goes on after a loss; its reader waited so long."""
        self.pauses_s.append(seconds)

    def note_replayed(self, rows: int, *, is_wasted: bool) -> None:
        """Rows that stages computed once more, and whether no token came of it."""
        self.replayed_rows += rows
        if is_wasted:
            self.wasted_rows += rows

    def note_complete(self, orders: int, pace: float | None) -> None:
        """A request was answered to the end."""
        self.complete += 1
        self.counts["continuations"] += orders - 1
        if pace is not None:
            self.paces.append(pace)

    def note_failed(self, why: str, tokens: int) -> None:
        """A request is given up."""
        self.counts[f"failed: {why}, {'after' if tokens else 'before'} the first token"] += 1

    def note_survivors(self, workers: Sequence[SimWorker], now_s: float) -> None:
        """Workers of paths of which one has just died."""
        for one in workers:
            self._survivors[one.key] = now_s + SURVIVOR_S

    def note_fetched(self, worker: bytes, count: int, now_s: float) -> None:
        """A serving worker has fetched so many bytes of weights."""
        self.moved_bytes += count
        if self._survivors.get(worker, 0.0) >= now_s:
            self.survivor_bytes += count
