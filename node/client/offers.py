"""What each worker of a model offers a request: its price on chain, and its times as far as they are known. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import median

from inference.routing import LayerOffer
from node.client.chain_view import WorkerEntry
from node.client.worker_memory import WorkerFigures, WorkerMemory

ROUND_TRIP_US = 100_000
DECODE_US_PER_LAYER = 500
PREFILL_US_PER_LAYER = 100
"""What a worker is taken for of whom, and of whose fellows, nothing is known."""
FULL_US = 2_000_000
"""What a worker lets wait that has no room for a request."""
FAILED_US = 300_000_000
"""What a worker is taken to let wait that failed lately: where nobody else serves, the fewest of them are taken. It is
more than all tokens of an answer take on slow workers, else a dead one that was fast would be taken again."""


def make_offers(
    entries: Sequence[WorkerEntry],
    memory: WorkerMemory,
    positions: int,
    now_s: float,
    failed: Collection[bytes] = (),
) -> list[LayerOffer]:
    """An offer each. Where nothing is known of a worker it is taken for a middling one of those that are known.

    `positions` are what the request needs room for; `failed` are workers that are only taken where nobody else serves.
    """
    figures = [memory.get_figures(one.worker, now_s) for one in entries]
    widths = [one.end - one.start for one in entries]
    round_trip = _find_middling([one.round_trip_us for one in figures], [1] * len(figures), ROUND_TRIP_US)
    decode = _find_middling([one.decode_us for one in figures], widths, DECODE_US_PER_LAYER)
    prefill = _find_middling([one.prefill_us for one in figures], widths, PREFILL_US_PER_LAYER)
    return [
        LayerOffer(
            worker=entry.worker,
            start=entry.start,
            end=entry.end,
            prefill_price=entry.prefill_price,
            decode_price=entry.decode_price,
            wait_us=_compute_wait(seen, positions) + (FAILED_US if entry.worker in failed else 0),
            prefill_us=round(prefill * width) if seen.prefill_us is None else seen.prefill_us,
            decode_us=round(decode * width) if seen.decode_us is None else seen.decode_us,
            round_trip_us=round(round_trip) if seen.round_trip_us is None else seen.round_trip_us,
        )
        for entry, seen, width in zip(entries, figures, widths, strict=True)
    ]


def _compute_wait(seen: WorkerFigures, positions: int) -> int:
    is_full = seen.kv_free is not None and seen.kv_free < positions
    return seen.wait_us + (FULL_US if is_full else 0)


def _find_middling(known: Sequence[int | None], widths: Sequence[int], otherwise: float) -> float:
    per_layer = [us / width for us, width in zip(known, widths, strict=True) if us is not None and width > 0]
    return median(per_layer) if per_layer else otherwise
