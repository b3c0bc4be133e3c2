"""What a node's log says of elections and jails."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.runtime.receipts import BlockEvents
from consensus.runtime.staking.events import EpochEnded, ValidatorJailed
from node.full.notices import get_elected, list_notices
from node.store.records import FinalizedBlock
from proto_specs.ss58 import encode_address
from proto_specs.types.chain import Validator, ValidatorSet
from tests.unit.node.world import ALICE, BOB, World


@pytest.fixture
def block(tmp_path: Path) -> FinalizedBlock:
    """Block 1 of a chain where bob takes alice's place."""
    made = World(tmp_path / "db").add_block()
    members = ValidatorSet((Validator(BOB.consensus_key.public_key, BOB.account, 10),))
    jailed = ValidatorJailed(ALICE.account, signed=3, blocks=30, amount=5, until=99)
    events = BlockEvents((), (jailed, EpochEnded(0, 7, 1, 10)))
    return replace(
        made,
        executed=replace(made.executed, events=events),
        head=replace(made.head, validators=members),
    )


def test_a_jailed_validator_reads_it_as_a_warning(block: FinalizedBlock) -> None:
    alice, bob = (encode_address(one.account, 42) for one in (ALICE, BOB))
    assert get_elected(block) == {BOB.account}
    told = list_notices(block, frozenset({ALICE.account}), ALICE.account, 42)
    assert told == [
        (
            logging.WARNING,
            f"block 1: {alice} (this node) is jailed until block 99: "
            "it signed 3 of 30 blocks, and loses 5 nmyl of stake",
        ),
        (logging.INFO, "block 1: epoch 0 ended, 1 validators"),
        (logging.INFO, f"block 1: {bob} is elected"),
        (logging.WARNING, f"block 1: {alice} (this node) is not elected any more"),
    ]


def test_for_others_it_is_news(block: FinalizedBlock) -> None:
    told = list_notices(block, frozenset({ALICE.account}), None, 42)
    assert {level for level, _ in told} == {logging.INFO}
    assert "(this node)" not in str(told)


def test_a_block_without_news_says_nothing(tmp_path: Path) -> None:
    made = World(tmp_path / "db").add_block()
    assert list_notices(made, get_elected(made), ALICE.account, 42) == []
