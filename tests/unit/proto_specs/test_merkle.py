"""The Merkle tree against RFC 6962's recursive definition; proofs of every item, and of nothing else."""

from __future__ import annotations

import hashlib

import pytest

from proto_specs.hashing import Tag, hash_tagged
from proto_specs.merkle import EMPTY_ROOT, compute_proof, compute_root, is_proof_valid

COUNT_MAX = 40


def make_items(count: int) -> list[bytes]:
    """Items of different lengths, the empty one among them."""
    return [hashlib.sha256(bytes([number])).digest()[: number % 33] for number in range(count)]


def define_root(items: list[bytes]) -> bytes:
    """RFC 6962 section 2.1: split at the largest power of two below the count."""
    if not items:
        return bytes(32)
    if len(items) == 1:
        return hash_tagged(Tag.MERKLE_LEAF, items[0])
    split = 1 << (len(items) - 1).bit_length() - 1
    return hash_tagged(Tag.MERKLE_NODE, define_root(items[:split]) + define_root(items[split:]))


def get_shape(index: int, count: int) -> list[bool]:
    """On which side the sibling is, from leaf to root: all that a proof says of index and count."""
    sides: list[bool] = []
    while count > 1:
        if index ^ 1 < count:
            sides.append(bool(index & 1))
        index, count = index >> 1, (count + 1) >> 1
    return sides


@pytest.mark.parametrize("count", range(COUNT_MAX + 1))
def test_roots_are_as_defined(count: int) -> None:
    assert compute_root(make_items(count)) == define_root(make_items(count))


@pytest.mark.parametrize("count", range(1, COUNT_MAX + 1))
def test_every_item_is_proved_at_its_place_only(count: int) -> None:
    items = make_items(count)
    root = compute_root(items)
    for index, item in enumerate(items):
        proof = compute_proof(items, index)
        assert len(proof) <= (count - 1).bit_length()
        for claimed in range(-1, count + 2):
            assert is_proof_valid(root, item, claimed, count, proof) is (claimed == index)
        assert not is_proof_valid(root, item + b"x", index, count, proof)
        assert not is_proof_valid(root, item, index, count, (*proof, bytes(32)))
        assert not is_proof_valid(root, item, index, count, (bytes(32), *proof))
        for left_out in range(len(proof)):
            assert not is_proof_valid(root, item, index, count, proof[:left_out] + proof[left_out + 1 :])
        if len(proof) > 1:
            assert not is_proof_valid(root, item, index, count, proof[::-1])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 8, 11, 40])
def test_every_flipped_bit_is_refused(count: int) -> None:
    items = [hashlib.sha256(bytes([number])).digest() for number in range(count)]
    root = compute_root(items)
    for index in {0, count // 2, count - 1}:
        proof = compute_proof(items, index)
        for part in range(len(proof) + 2):
            parts = [root, items[index], *proof]
            for bit in range(256):
                flipped = bytearray(parts[part])
                flipped[bit // 8] ^= 1 << bit % 8
                parts[part] = bytes(flipped)
                assert not is_proof_valid(parts[0], parts[1], index, count, parts[2:])
                parts[part] = [root, items[index], *proof][part]


@pytest.mark.parametrize("count", range(1, 20))
def test_another_count_is_refused_unless_the_path_is_the_same(count: int) -> None:
    """The root does not bind the count: it has to be known. What passes otherwise has the very same path."""
    items = make_items(count)
    root = compute_root(items)
    for index, item in enumerate(items):
        proof = compute_proof(items, index)
        for other_count in range(21):
            for other_index in range(other_count):
                is_same_path = get_shape(other_index, other_count) == get_shape(index, count)
                assert is_proof_valid(root, item, other_index, other_count, proof) is is_same_path


def test_a_node_is_no_leaf() -> None:
    items = make_items(4)
    left, right = (compute_root(items[:2]), compute_root(items[2:]))
    assert compute_root([left, right]) != compute_root(items)
    assert not is_proof_valid(compute_root(items), left + right, 0, 1, ())


def test_order_and_repetition_count() -> None:
    one, two, three = b"1", b"2", b"3"
    lists = [[one, two], [two, one], [one], [one, one], [one, two, three], [one, two, three, three], []]
    assert len({compute_root(items) for items in lists}) == len(lists)


def test_nothing_has_the_zero_root_and_nothing_is_in_it() -> None:
    assert compute_root([]) == EMPTY_ROOT == bytes(32)
    assert not is_proof_valid(EMPTY_ROOT, b"", 0, 0, ())
    assert not is_proof_valid(EMPTY_ROOT, b"", 0, 1, ())


def test_a_huge_count_takes_no_time() -> None:
    assert not is_proof_valid(EMPTY_ROOT, b"", 0, 1 << 64, ())
    assert not is_proof_valid(EMPTY_ROOT, b"", (1 << 64) - 1, 1 << 64, (bytes(32),) * 64)


def test_a_proof_is_of_an_item_of_the_list() -> None:
    for index in (-1, 2):
        with pytest.raises(AssertionError):
            compute_proof([b"a", b"b"], index)
