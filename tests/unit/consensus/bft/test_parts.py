"""Proposals in parts: in any order the block comes out once; who lies about a part is told from who relays it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.bft.evidence import make_duplicate_proposal
from consensus.bft.parts import HEADS_PER_ROUND_MAX, PartAssembly, PartError
from proto_specs.ed25519 import SigningKey
from proto_specs.hashing import Tag
from proto_specs.limits import PART_BYTES, PARTS_MAX
from proto_specs.merkle import compute_proof, compute_root
from proto_specs.types.calls import Remark
from proto_specs.types.chain import (
    Block,
    Proposal,
    Transaction,
    TransactionBody,
    compute_body_root,
    compute_proposal_bytes,
    get_proposal_head,
    is_proposal_head_signed,
)
from proto_specs.types.gossip import ProposalPart, is_part_in_place, split_proposal
from tests.unit.consensus.bft.builders import make_block

GENESIS = bytes(32)
KEY = SigningKey.from_seed(b"\7" * 32)
HEIGHT = 5


def make_large_block(size: int) -> Block:
    """A block of about `size` bytes."""
    call = Remark(bytes(1_000))
    one = Transaction(TransactionBody(bytes(32), 0, call, 0, 0, 0), bytes(64))
    block = make_block(HEIGHT, KEY.public_key)
    transactions = (one,) * max(1, size // 1_000)
    header = replace(block.header, body_root=compute_body_root((), transactions))
    return replace(block, header=header, transactions=transactions)


def propose(block: Block, round_: int = 0) -> Proposal:
    payload = compute_proposal_bytes(GENESIS, HEIGHT, round_, None, block)
    return Proposal(HEIGHT, round_, None, block, KEY.public_key, KEY.sign(Tag.PROPOSAL_SIGN, payload))


LARGE = propose(make_large_block(300_000))
PARTS = split_proposal(LARGE)


def test_a_large_block_is_several_parts_under_one_signature() -> None:
    assert len(PARTS) > 4
    assert all(len(part.data) == PART_BYTES for part in PARTS[:-1])
    assert all(is_part_in_place(part) for part in PARTS)
    assert {part.head for part in PARTS} == {get_proposal_head(LARGE)}
    assert is_proposal_head_signed(PARTS[0].head, GENESIS)


@given(
    order=st.lists(st.sampled_from(range(len(PARTS))), max_size=20).flatmap(
        lambda extra: st.permutations([*range(len(PARTS)), *extra])
    )
)
def test_any_order_and_any_repeats_give_the_proposal_once(order: list[int]) -> None:
    assembly = PartAssembly(HEIGHT)
    made = [found for index in order if (found := assembly.add(PARTS[index])) is not None]
    assert made == [LARGE]
    assert assembly.knows(PARTS[0].head)


@pytest.mark.parametrize(
    "part",
    [
        replace(PARTS[0], data=b"x" + PARTS[0].data[1:]),
        replace(PARTS[0], index=1),
        replace(PARTS[0], index=len(PARTS)),
        replace(PARTS[0], proof=PARTS[0].proof[1:]),
        replace(PARTS[0], proof=(*PARTS[0].proof, bytes(32))),
        replace(PARTS[0], head=replace(PARTS[0].head, parts_count=0)),
        replace(PARTS[0], head=replace(PARTS[0].head, parts_count=PARTS_MAX + 1)),
    ],
)
def test_a_part_out_of_place_is_refused_and_does_no_harm(part: ProposalPart) -> None:
    assembly = PartAssembly(HEIGHT)
    with pytest.raises(PartError):
        assembly.add(part)
    assert [found for one in PARTS if (found := assembly.add(one)) is not None] == [LARGE]


def split_bytes(data: bytes, block_hash: bytes) -> ProposalPart:
    """What a lying proposer sends: one part, in place, of anything."""
    head = replace(PARTS[0].head, block_hash=block_hash, parts_root=compute_root([data]), parts_count=1)
    return ProposalPart(head, 0, data, compute_proof([data], 0))


def test_parts_that_make_no_block_or_another_one_are_their_proposers_fault() -> None:
    assembly = PartAssembly(HEIGHT)
    with pytest.raises(PartError, match="make no block"):
        assembly.add(split_bytes(b"\x93", bytes(32)))
    other = split_proposal(propose(make_large_block(1)))[0]
    with pytest.raises(PartError, match="another block"):
        assembly.add(split_bytes(other.data, bytes(32)))


def test_a_proposer_fills_no_memory_with_heads() -> None:
    """Each head is signed, and yet no more than two of a round are held."""
    assembly = PartAssembly(HEIGHT)
    for number in range(10):
        head = replace(PARTS[0].head, valid_round=number)
        assert assembly.add(replace(PARTS[0], head=head)) is None
    assert len(assembly.list_heads(0, KEY.public_key)) == HEADS_PER_ROUND_MAX
    assert not assembly.has_room(replace(PARTS[0].head, valid_round=9))
    assert assembly.has_room(replace(PARTS[0].head, valid_round=1))


def test_a_second_head_is_evidence_and_one_that_says_the_same_again_is_none() -> None:
    """Were the same under another signature given a place, the second one that says something else had none."""
    assembly = PartAssembly(HEIGHT)
    assembly.add(PARTS[0])
    head = PARTS[0].head
    for again in (head, replace(head, signature=bytes(64))):
        assembly.add(replace(PARTS[0], head=again))
        assert assembly.find_evidence(again) is None
    other = split_proposal(propose(make_large_block(1)))[0]
    assembly.add(other)
    assert assembly.find_evidence(other.head) == make_duplicate_proposal(head, other.head)
    assert assembly.find_evidence(replace(head, round=1)) is None
