"""Inputs of the core through the log and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.bft.inputs import BlockBuilt, BlockValidated, Input, ProposalReceived, TimeoutElapsed, VoteReceived
from consensus.bft.timeouts import Step, Timeout
from node.replica.wal import Wal, WalDamaged
from node.replica.wal_records import decode_input, encode_input, read_inputs
from proto_specs.types.chain import Proposal, Vote, VoteKind
from tests.unit.node.world import ALICE, World


@pytest.fixture
def inputs(world: World) -> list[Input]:
    block, key = world.build([world.transfer(0)]).block, ALICE.consensus_key.public_key
    return [
        BlockBuilt(7, 2, block),
        ProposalReceived(Proposal(7, 2, None, block, key, bytes(64))),
        ProposalReceived(Proposal(7, 3, 2, block, key, bytes(64))),
        BlockValidated(bytes(32), True),
        BlockValidated(bytes(32), False),
        VoteReceived(Vote(VoteKind.PRECOMMIT, 7, 2, None, key, bytes(64))),
        TimeoutElapsed(Timeout(Step.PREVOTE, 7, 2)),
    ]


def test_each_kind_comes_back_with_its_height(inputs: list[Input], tmp_path: Path) -> None:
    wal = Wal(tmp_path / "wal")
    for one in inputs:
        assert decode_input(encode_input(7, one)) == (7, one)
        wal.append(encode_input(7, one))
    wal.close()
    assert read_inputs(tmp_path / "wal") == [(7, one) for one in inputs]


@pytest.mark.parametrize("payload", [b"junk", b"\x92\x07\x93\x05\x09\x00"])
def test_a_whole_record_of_another_version_stops_the_node(tmp_path: Path, payload: bytes) -> None:
    wal = Wal(tmp_path / "wal")
    wal.append(payload)
    wal.close()
    with pytest.raises(WalDamaged, match="move the file away"):
        read_inputs(tmp_path / "wal")
