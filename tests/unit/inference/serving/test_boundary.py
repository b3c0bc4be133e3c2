"""The log of a boundary: positions without gaps, windows of 32, leaves in order, nothing after the last one."""

from __future__ import annotations

import pytest

from inference.serving.boundary import BoundaryError, BoundaryLog
from inference.serving.leaves import accept_countersign, countersign_leaf, sign_next_leaf
from proto_specs.ed25519 import SigningKey
from proto_specs.merkle import compute_root
from proto_specs.types.manifest import WireDtype
from proto_specs.types.request import FIRST_PREVIOUS, compute_leaf_hash, compute_payload_hash
from proto_specs.types.wire import OutputLeaf

REQUEST = b"r" * 32
SENDER, RECEIVER = SigningKey.from_seed(b"s" * 32), SigningKey.from_seed(b"t" * 32)


def make_log(positions: int = 0) -> BoundaryLog:
    log = BoundaryLog(REQUEST, 1, 4, WireDtype.FP32)
    for start in range(positions):
        log.append(start, 1, bytes([start % 256]) * 16)
    return log


@pytest.mark.parametrize(("start", "count"), [(1, 1), (0, 0), (0, 33), (0, 255)])
def test_gaps_and_straddling_rows_are_refused(start: int, count: int) -> None:
    log = make_log()
    with pytest.raises(BoundaryError):
        log.append(start, count, b"")
    assert log.positions == 0
    assert log.windows == 0


def test_rows_that_straddle_two_windows_are_refused_and_cut_ones_are_not() -> None:
    log = make_log(30)
    with pytest.raises(BoundaryError, match="straddle"):
        log.append(30, 3, bytes(48))
    log.append(30, 2, bytes(32))
    log.append(32, 1, bytes(16))
    assert (log.get_count(0), log.get_count(1), log.get_count(2)) == (32, 1, 0)


def test_leaves_chain_and_hash_the_exact_bytes() -> None:
    log = make_log(40)
    first, second = sign_next_leaf(log, SENDER).leaf, sign_next_leaf(log, SENDER).leaf
    assert first.payload_hash == compute_payload_hash(b"".join(bytes([at]) * 16 for at in range(32)))
    assert (first.previous, second.previous) == (FIRST_PREVIOUS, compute_leaf_hash(first))
    assert (second.window, second.start, second.count) == (1, 32, 8)
    assert log.compute_root() == compute_root([compute_leaf_hash(first), compute_leaf_hash(second)])


def test_nothing_comes_after_a_partial_leaf() -> None:
    log = make_log(5)
    sign_next_leaf(log, SENDER)
    with pytest.raises(BoundaryError, match="last leaf"):
        log.append(5, 1, bytes(16))


def test_both_sides_sign_the_same_leaf() -> None:
    sent, received = make_log(32), make_log(32)
    leaf = sign_next_leaf(sent, SENDER)
    answer = countersign_leaf(received, leaf, SENDER.public_key, RECEIVER)
    accept_countersign(sent, 1, answer, RECEIVER.public_key)
    assert sent.get_signed() == received.get_signed()


def test_a_receiver_refuses_other_bytes_and_other_signers() -> None:
    sent, received = make_log(32), make_log(31)
    received.append(31, 1, bytes(16))
    leaf = sign_next_leaf(sent, SENDER)
    with pytest.raises(BoundaryError, match="does not cover"):
        countersign_leaf(received, leaf, SENDER.public_key, RECEIVER)
    same = make_log(32)
    with pytest.raises(BoundaryError, match="not signed by the sender"):
        countersign_leaf(same, OutputLeaf(leaf.leaf, bytes(64)), SENDER.public_key, RECEIVER)
    assert (same.leaves, same.signed) == (0, 0)


def test_a_countersignature_is_taken_once_and_in_order() -> None:
    sent, received = make_log(64), make_log(64)
    leaves = [sign_next_leaf(sent, SENDER), sign_next_leaf(sent, SENDER)]
    first, second = (countersign_leaf(received, leaf, SENDER.public_key, RECEIVER) for leaf in leaves)
    with pytest.raises(BoundaryError, match="not due"):
        accept_countersign(sent, 1, second, RECEIVER.public_key)
    accept_countersign(sent, 1, first, RECEIVER.public_key)
    with pytest.raises(BoundaryError, match="not due"):
        accept_countersign(sent, 1, first, RECEIVER.public_key)
    with pytest.raises(BoundaryError, match="receiver"):
        accept_countersign(sent, 1, second, SENDER.public_key)
    accept_countersign(sent, 1, second, RECEIVER.public_key)


def test_a_cut_log_is_as_if_it_had_ended_there() -> None:
    cut, short = make_log(70), make_log(64)
    for log in (cut, short):
        sign_next_leaf(log, SENDER)
        sign_next_leaf(log, SENDER)
    cut.cut(2)
    assert (cut.positions, cut.windows, cut.leaves) == (64, 2, 2)
    assert cut.compute_root() == short.compute_root()
