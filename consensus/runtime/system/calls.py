"""The system module's call, and its work at the start and the end of every block."""

from __future__ import annotations

from consensus.runtime.context import Environment
from consensus.runtime.errors import BlockError
from consensus.runtime.system import space
from consensus.runtime.system import state as system
from consensus.runtime.system.events import Remarked
from consensus.runtime.system.space import BlockSpace
from proto_specs.limits import MORTALITY_BLOCKS_MAX
from proto_specs.types.calls import Remark
from proto_specs.types.request import compute_payload_hash


def remark(env: Environment, signer: bytes, call: Remark) -> None:
    """Put bytes on chain, without any effect."""
    env.emit(Remarked(signer, compute_payload_hash(call.data)))


def initialize(env: Environment) -> None:
    """Advance the clock, remember the parent's hash, store the beacon. Raises BlockError when time or height jump."""
    block, last = env.block, system.now.read(env.state)
    if block.height != last.height + 1:
        raise BlockError(f"block {block.height} does not follow {last.height}")
    if block.time_ms <= last.time_ms:
        raise BlockError(f"time {block.time_ms} ms is not after the parent's {last.time_ms} ms")
    system.blocks.write(env.state, last.height, system.BlockInfo(block.parent_hash, last.time_ms))
    if block.height > MORTALITY_BLOCKS_MAX:
        system.blocks.delete(env.state, block.height - MORTALITY_BLOCKS_MAX - 1)
    system.now.write(env.state, system.Now(block.height, block.time_ms))
    system.beacon.write(env.state, block.beacon)


def finalize(env: Environment, weight_used: int, block_space: BlockSpace) -> None:
    """Adjust the price of weight to how full this block is, and count it if a reserved part of it was full.

    Work that was due is not in `weight_used`: who caused it paid for it then.
    """
    params = system.params.read(env.state)
    price = system.weight_price.read(env.state)
    system.weight_price.write(env.state, compute_weight_price(params, price, weight_used))
    space.count_full(env.state, block_space)


def compute_weight_price(params: system.SystemParams, price: int, weight_used: int) -> int:
    """The next block's nmyl per weight: it rises when the block was fuller than the target, else it falls (fees.md)."""
    target = params.block_weight_max * params.fullness_target_permille // 1_000
    distance = abs(weight_used - target)
    step = price * distance // target // params.weight_price_change_denominator
    moved = price + max(step, 1) if weight_used > target else price - step
    return min(max(moved, params.weight_price_min), params.weight_price_max)
