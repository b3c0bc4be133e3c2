"""The tables of voting: whole, and walked by real nodes through every pair that is not a bug of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from node.chain.bus import BlockBus
from node.replica import voting as voting_module
from node.replica import voting_messages as messages_module
from node.replica.evidence import EvidencePool
from node.replica.tip import ChainTip
from node.replica.voting import Voting
from node.replica.voting_phases import (
    HEIGHT_TABLE,
    SIGNING_TABLE,
    WORK_TABLE,
    HeightEvent,
    HeightPhase,
    SigningEvent,
    SigningPhase,
    VotingRefusal,
    WorkEvent,
    WorkPhase,
    advance_voting,
)
from node.signer.signer import Signer
from node.sim.consensus.run import simulate
from node.store.chain_store import ChainStore
from proto_specs.types.chain import Vote, VoteKind
from tests.unit.node.chain.disk import Validator
from tests.unit.node.replica.scripted import ScriptedWorld
from tests.unit.node.world import ALICE

Table = Mapping[Any, Mapping[Any, Any]]
Pair = tuple[Enum, Enum]

INTERVAL_MS = 1_000
TABLES: dict[str, tuple[Table, type[Enum], type[Enum], Enum]] = {
    "height": (HEIGHT_TABLE, HeightPhase, HeightEvent, HeightPhase.UNBEGUN),
    "work": (WORK_TABLE, WorkPhase, WorkEvent, WorkPhase.FREE),
    "signing": (SIGNING_TABLE, SigningPhase, SigningEvent, SigningPhase.SPEAKING),
}
PAIRS: dict[Pair, Any] = {
    (phase, event): found
    for table, *_ in TABLES.values()
    for phase, row in table.items()
    for event, found in row.items()
}
LIVE_PAIRS = {pair for pair, found in PAIRS.items() if found is not VotingRefusal.NEVER}
BUGS = sorted(set(PAIRS) - LIVE_PAIRS, key=str)
FOREIGN_VOTE = Vote(VoteKind.PREVOTE, 1, 9, None, ALICE.consensus_key.public_key, bytes(64))


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> set[Pair]:
    """The pairs that voting looks up while the test runs."""
    seen: set[Pair] = set()

    def record(table: Table, phase: Enum, event: Enum) -> Any:
        seen.add((phase, event))
        return advance_voting(table, phase, event)  # type: ignore[type-var]

    for module in (voting_module, messages_module):
        monkeypatch.setattr(module, "advance_voting", record)
    return seen


@contextmanager
def run_alone(base: Path) -> Iterator[tuple[Voting, ScriptedWorld]]:
    """Alice's voting on a real disk in a world of jumping time, not yet begun."""
    base.mkdir()
    validator = Validator(base)
    store = ChainStore(base / "db", validator.genesis)
    signer = Signer(base / "signer.json", ALICE.consensus_key, validator.genesis.hash)
    parts, world = validator.make_parts(store, signer, BlockBus()), ScriptedWorld()
    tip = ChainTip(store, parts.pool, world, parts.on_finalized)
    evidence = EvidencePool(store)
    try:
        yield (
            Voting(store.genesis_hash, tip, evidence, signer, parts.wal, world, parts.timeouts, INTERVAL_MS),
            world,
        )
    finally:
        parts.wal.close()
        signer.close()
        store.close()


def stand_down(voting: Voting) -> None:
    voting.stand_down(FOREIGN_VOTE)


def fall_behind(voting: Voting) -> None:
    voting.set_silent(True)


def catch_up(voting: Voting) -> None:
    voting.set_silent(False)


@pytest.mark.parametrize("name", TABLES)
def test_every_pair_is_in_its_table(name: str) -> None:
    table, phases, events, _ = TABLES[name]
    assert set(table) == set(phases)
    for phase, row in table.items():
        assert set(row) == set(events), phase


@pytest.mark.parametrize("name", TABLES)
def test_every_phase_is_reached_from_the_first(name: str) -> None:
    table, phases, _, first = TABLES[name]
    reached = {first}
    while more := {to for one in reached for to in table[one].values() if isinstance(to, phases)} - reached:
        reached |= more
    assert reached == set(phases)


@pytest.mark.parametrize("pair", BUGS, ids=lambda pair: f"{pair[0].name}-{pair[1].name}")
def test_what_no_input_leads_to_is_a_bug_of_ours(pair: Pair) -> None:
    table = next(table for table, phases, *_ in TABLES.values() if isinstance(pair[0], phases))
    with pytest.raises(AssertionError, match=pair[1].name):
        advance_voting(table, *pair)  # type: ignore[type-var]


def test_real_nodes_take_every_pair_of_the_tables(taken: set[Pair], tmp_path: Path) -> None:
    """Simulated ones begin, fall behind, adopt and decide; one that stands down does it alone, on a disk of its own."""
    for seed in range(3):
        assert simulate(seed, 4, 20).violations == ()
    walks = {"speaking": (stand_down, stand_down, fall_behind, catch_up), "silent": (fall_behind, stand_down)}
    for name, walk in walks.items():
        with run_alone(tmp_path / name) as (voting, _):
            for step in walk:
                step(voting)
    assert LIVE_PAIRS - taken == set()
    assert taken - LIVE_PAIRS == set()


def test_what_a_silent_node_would_say_is_said_when_it_has_caught_up(tmp_path: Path) -> None:
    with run_alone(tmp_path / "node") as (voting, world):
        voting.set_silent(True)
        voting.begin([])
        world.run(50)
        assert voting.is_deciding
        assert world.published == []
        voting.set_silent(False)
        assert world.published, "the proposal was kept"
        world.run(100)
        assert not voting.is_deciding, "the block came of what was kept, and the rest after it is not over"
        world.run(3_000)
        assert max(one.height for one in world.published if isinstance(one, Vote)) > 1


@pytest.mark.parametrize("is_behind", [False, True])
def test_a_node_that_has_stood_down_signs_nothing_caught_up_or_not(tmp_path: Path, is_behind: bool) -> None:
    with run_alone(tmp_path / "node") as (voting, world):
        voting.set_silent(is_behind)
        voting.stand_down(FOREIGN_VOTE)
        voting.begin([])
        world.run(2_000)
        voting.set_silent(True)
        voting.set_silent(False)
        world.run(4_000)
        assert voting.is_deciding
        assert world.published == []
