"""What a transaction pays: base + bytes x byte price + weight x weight price, all integers (fees.md)."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.runtime.system.state import SystemParams, read_params, read_weight_price
from consensus.runtime.weights import compute_weight
from consensus.state.reader import StateReader
from proto_specs.codec import encode
from proto_specs.types.chain import Transaction


@dataclass(frozen=True, slots=True)
class FeeInfo:
    """A transaction's size, weight, fee and tip: what it pays in the next block is `fee + tip` nmyl."""

    size_bytes: int
    weight: int
    fee: int
    tip: int


def compute_fee(params: SystemParams, weight_price: int, bytes_: int, weight: int) -> int:
    """The fee in nmyl, without tip."""
    return params.fee_base + bytes_ * params.byte_price + weight * weight_price


def query_fee(state: StateReader, transaction: Transaction) -> FeeInfo:
    """The fee of the transaction in the next block. A signature of zeros weighs as much as a real one."""
    size = len(encode(transaction))
    weight = compute_weight(transaction)
    fee = compute_fee(read_params(state), read_weight_price(state), size, weight)
    return FeeInfo(size, weight, fee, transaction.body.tip)
