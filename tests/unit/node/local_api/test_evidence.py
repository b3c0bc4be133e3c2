"""Evidence handed in over RPC: parsed at the edge, judged by the chain, passed on once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.bft.evidence import get_accused
from genesis.dev import get_dev_identity
from node.local_api.methods.all import NodeView, call_method
from node.local_api.wire.errors import INVALID_PARAMS, ApiError
from node.p2p.acceptance import Acceptance
from node.replica.evidence import EvidencePool
from proto_specs.codec import encode
from proto_specs.hashing import Tag
from proto_specs.types.chain import Evidence, FalseVote, Vote, VoteKind, compute_block_hash, compute_vote_bytes
from tests.unit.node.world import World

HEIGHT = 2


def make_evidence(world: World) -> FalseVote:
    """Alice's precommit for a header that follows another parent."""
    key = get_dev_identity("alice").consensus_key
    block = world.store.get_block(HEIGHT)
    assert block is not None
    header = replace(block.header, parent_hash=bytes(32))
    block_hash = compute_block_hash(header)
    payload = compute_vote_bytes(world.genesis.hash, VoteKind.PRECOMMIT, HEIGHT, 0, block_hash)
    vote = Vote(VoteKind.PRECOMMIT, HEIGHT, 0, block_hash, key.public_key, key.sign(Tag.VOTE_SIGN, payload))
    return FalseVote(vote, header)


def test_evidence_is_taken_once_and_waits_for_a_block(world: World) -> None:
    for _ in range(4):
        world.add_block()
    pool = EvidencePool(world.store)
    now_ms = world.head.time_ms + 1_000

    def report(evidence: Evidence) -> bool:
        return pool.add(evidence, now_ms) is Acceptance.ACCEPT

    view = NodeView(world.genesis.spec, world.store, world.pool, lambda: now_ms, report=report)
    evidence = make_evidence(world)
    data = f"0x{encode(evidence, Evidence).hex()}"
    assert call_method(view, "author_submitEvidence", [data]) is True
    assert call_method(view, "author_submitEvidence", [data]) is False
    assert [get_accused(one) for one in pool.select(now_ms)] == [evidence.vote.validator]


@pytest.mark.parametrize("data", ["0x", "0x00", "0x" + "ff" * 40, "0x" + "00" * 5_000, 7])
def test_what_is_no_evidence_is_refused_at_the_edge(world: World, data: object) -> None:
    view = NodeView(world.genesis.spec, world.store, world.pool, lambda: 0)
    with pytest.raises(ApiError) as refused:
        call_method(view, "author_submitEvidence", [data])
    assert refused.value.code == INVALID_PARAMS
