"""What a worker asks, and from when a raised ask binds. Pure.

A client orders at the ask it reads, and the order is settled when it has been served: so a settlement takes the lowest
ask of the last `session_notice_blocks`, the time that a session leaves for running requests. A worker that raised its
ask takes no order at the old one, for it reads its own ask when it admits one: the chain need not hurry.
"""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.inference.state import Worker


def change_ask(worker: Worker, prefill_price: int, decode_price: int, height: int, notice_blocks: int) -> Worker:
    """The worker with its new prices. Until the notice is over what it asked before is enough, if that was less."""
    prefill, decode = get_floor(worker, height)
    return replace(
        worker,
        prefill_price=prefill_price,
        decode_price=decode_price,
        prefill_floor=min(prefill, prefill_price),
        decode_floor=min(decode, decode_price),
        floor_until=height + notice_blocks,
    )


def get_floor(worker: Worker, height: int) -> tuple[int, int]:
    """The least (prefill, decode) nmyl per layer and token that a settlement at this height may price the worker at."""
    if height < worker.floor_until:
        return worker.prefill_floor, worker.decode_floor
    return worker.prefill_price, worker.decode_price
