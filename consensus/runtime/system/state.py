"""State of the system module: the clock, recent block hashes, the beacon and the price of weight."""

from __future__ import annotations

from consensus.state.reader import StateReader
from consensus.state.storage import StorageMap, StorageValue
from proto_specs.codec import U16, U32, U64, record
from proto_specs.types.common import Balance, Hash32


@record
class SystemParams:
    """Limits and prices of blocks. Weight is in microseconds of the reference machine.

    Of a block, `reserved_permille` is kept for verdicts and settlements (space.py), and the work that is due at its
    start takes up to `due_permille`.
    """

    block_weight_max: U64
    block_bytes_max: U32
    fee_base: Balance
    byte_price: Balance
    weight_price_min: Balance
    weight_price_max: Balance
    fullness_target_permille: U16
    weight_price_change_denominator: U16
    reserved_permille: U16
    due_permille: U16


@record
class Now:
    """The block being executed, or the last one executed."""

    height: U64
    time_ms: U64


@record
class BlockInfo:
    """A past block, kept for `MORTALITY_BLOCKS_MAX` blocks."""

    hash: Hash32
    time_ms: U64


params: StorageValue[SystemParams] = StorageValue("system.params", SystemParams)
now: StorageValue[Now] = StorageValue("system.now", Now)
beacon: StorageValue[bytes] = StorageValue("system.beacon", Hash32)
weight_price: StorageValue[int] = StorageValue("system.weight_price", Balance)
blocks: StorageMap[BlockInfo] = StorageMap("system.block", (U64,), BlockInfo)


def read_params(state: StateReader) -> SystemParams:
    """The module's parameters."""
    return params.read(state)


def read_now(state: StateReader) -> Now:
    """Height and time of the last executed block."""
    return now.read(state)


def read_weight_price(state: StateReader) -> int:
    """nmyl per unit of weight in the next block."""
    return weight_price.read(state)


def read_block_info(state: StateReader, height: int) -> BlockInfo | None:
    """Hash and time of a recent block below the last executed one; None when pruned or unknown."""
    return blocks.read(state, height)
