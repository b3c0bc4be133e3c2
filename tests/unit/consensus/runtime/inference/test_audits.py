"""Audits: who is drawn, what a pass mints, what nobody can gain without capacity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.balances.state import read_issuance
from consensus.runtime.inference import audits, errors
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import AuditDrawn, AuditScored, CommitteeEmpty, VerifierPaid
from consensus.runtime.inference.state import WorkerStatus
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.state import compute_epoch_end
from consensus.state.overlay import Overlay
from genesis.dev import get_dev_identity
from proto_specs.types import calls
from proto_specs.types.calls import Outcome
from proto_specs.types.common import NMYL_PER_MYL
from tests.unit.consensus.runtime.chain import compute_beacon
from tests.unit.consensus.runtime.inference import inference_world
from tests.unit.consensus.runtime.inference.inference_world import World

MYL = NMYL_PER_MYL
EMISSION = 5 * MYL
FOR_WORKERS, FOR_AUDITS = 4 * MYL, 1 * MYL
"""800 and 200 permille of it: nothing is left for producers, so that issuance moves with audits alone."""


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A world with emission; `params` are the inference module's."""
    bare = inference_world.build_spec

    def build_spec(validators: tuple[str, ...] = ("alice",), **params: Any) -> Any:
        spec = bare(validators, **params)
        emission = {"emission_per_epoch": EMISSION, "worker_emission_permille": 800, "audit_emission_permille": 200}
        changed = replace(spec.params.staking, **emission)
        return replace(spec, params=replace(spec.params, staking=changed))

    monkeypatch.setattr(inference_world, "build_spec", build_spec)

    def make(**params: Any) -> World:
        return World(**{"audits_per_epoch": 8, "audit_score_step_permille": 250, **params})

    return make


def edit(world: World, change: Callable[[Overlay], None]) -> None:
    """Write into the state as no call does."""
    overlay = Overlay(world.chain.state)
    change(overlay)
    world.chain.state.apply(overlay.changes())


def go_to_draw(world: World) -> list[AuditDrawn]:
    """To the block in which the audits of the running epoch are drawn."""
    chain = world.chain
    end = compute_epoch_end(chain.spec.params.staking, chain.height + 1)
    events = chain.skip(end + 2 - chain.height)
    return [one for one in events if isinstance(one, AuditDrawn)]


def judge(world: World, audit: AuditDrawn, outcome: int) -> AuditScored:
    receipt = world.judge(audit.audit, world.verifiers[0], outcome)
    (scored,) = [one for one in receipt.events if isinstance(one, AuditScored)]
    return scored


def test_a_passed_audit_mints_the_workers_part_by_its_score_and_pays_the_committee(build: Any) -> None:
    """Three workers of equal bond and layers: each one's part is a third of 4 MYL, the odd unit goes to the first."""
    world = build()
    drawn = go_to_draw(world)
    assert {one.worker for one in drawn} == {one.worker_key.public_key for one in world.workers}
    assert sorted(one.reward for one in drawn) == [1_333_333_333, 1_333_333_333, 1_333_333_334]
    first, chain = drawn[0], world.chain
    operator = next(one for one in world.workers if one.worker_key.public_key == first.worker)
    before, issued = chain.free(operator), read_issuance(chain.state)
    commit, reveal = world.verdict(first.audit, world.verifiers[0], Outcome.PASS)
    fees = chain.expect_ok(world.verifiers[0], commit).fee
    receipt = chain.expect_ok(world.verifiers[0], reveal)
    (scored,) = [one for one in receipt.events if isinstance(one, AuditScored)]
    (paid,) = [one for one in receipt.events if isinstance(one, VerifierPaid)]
    assert (scored.outcome, scored.score_permille, scored.operator) == (Outcome.PASS, 250, operator.account)
    assert scored.reward == first.reward * 250 // 1000
    assert chain.free(operator) == before + scored.reward
    assert paid.amount == FOR_AUDITS // 3 + (first == min(drawn, key=lambda one: drawn.index(one)))
    assert read_issuance(chain.state) == issued + scored.reward + paid.amount - fees - receipt.fee


def test_the_score_rises_with_passes_and_falls_with_fails(build: Any) -> None:
    world = build()
    scores = []
    for outcome in (Outcome.PASS, Outcome.PASS, Outcome.FAIL, Outcome.UNAVAILABLE):
        scores += [judge(world, one, outcome).score_permille for one in go_to_draw(world)[:1]]
    assert audits.compute_score(250, 250, is_passed=True) == 438
    assert audits.compute_score(438, 250, is_passed=False) == 328
    for score, is_passed in ((999, True), (1, False)):
        assert audits.compute_score(score, 1, is_passed=is_passed) == (1000 if is_passed else 0), (
            "both ends are reached"
        )
    assert scores[0] == 250
    assert scores[-1] <= max(scores)


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.UNAVAILABLE])
def test_a_worker_without_capacity_earns_nothing_and_loses_no_bond(build: Any, outcome: Outcome) -> None:
    world = build()
    audit = go_to_draw(world)[0]
    worker = inference.workers.read(world.chain.state, audit.worker)
    scored = judge(world, audit, outcome)
    assert (scored.reward, scored.score_permille) == (0, 0)
    assert inference.workers.read(world.chain.state, audit.worker) == worker


def test_the_id_of_an_audit_is_that_of_the_page(build: Any) -> None:
    world = build()
    drawn = go_to_draw(world)
    beacon, epoch = compute_beacon(world.chain.height), drawn[0].epoch
    assert [one.audit for one in drawn] == [audits.compute_audit_id(beacon, epoch, one.worker) for one in drawn]


def test_silence_mints_nothing(build: Any) -> None:
    """Nobody judges: the audit ends at its deadline, the score stays, and the emission is not minted later either."""
    world = build(committee_size=1)
    drawn = go_to_draw(world)
    issued = read_issuance(world.chain.state)
    events = world.chain.skip(drawn[0].reveal_deadline - world.chain.height)
    scored = [one for one in events if isinstance(one, AuditScored)]
    assert [one.outcome for one in scored] == [Outcome.INCONCLUSIVE] * 3
    assert read_issuance(world.chain.state) == issued
    assert list(inference.scores.iterate(world.chain.state)) == []


def test_a_bond_beyond_what_the_layers_account_for_weighs_nothing(build: Any) -> None:
    """The attack: a large bond on one layer. And many keys on one bond: they have no more weight than one."""
    world = build(capacity_bond_per_layer=10 * MYL)
    params = inference.params.read(world.chain.state)
    worker = inference.workers.read(world.chain.state, world.workers[0].worker_key.public_key)
    assert worker is not None
    assert worker.bond == 1_000 * MYL
    assert audits.compute_capacity(params, worker) == 2 * 10 * MYL
    halves = [replace(worker, bond=5 * MYL, start=0, end=2)] * 2
    whole = replace(worker, bond=10 * MYL, start=0, end=2)
    assert sum(audits.compute_capacity(params, one) for one in halves) == audits.compute_capacity(params, whole)


def test_who_retires_or_is_jailed_is_not_drawn(build: Any) -> None:
    world = build()
    gone, jailed, left = world.workers
    world.chain.expect_ok(gone, calls.RetireWorker(gone.worker_key.public_key))
    edit(world, lambda state: inference.jails.write(state, jailed.account, 1_000_000))
    assert [one.worker for one in go_to_draw(world)] == [left.worker_key.public_key]


def test_who_joins_after_the_epochs_end_cannot_move_the_draw(build: Any) -> None:
    """The attack: whoever proposes the drawing block registers workers in the one before until the draw suits it."""
    drawn = []
    for is_attacked in (False, True):
        world = build(audits_per_epoch=1)
        chain = world.chain
        end = compute_epoch_end(chain.spec.params.staking, chain.height + 1)
        chain.skip(end - chain.height)
        if is_attacked:
            eve = get_dev_identity("eve")
            events = list(chain.expect_ok(eve, world.register_worker(eve, 0, 2)).events)
        else:
            events = chain.skip(1)
        events = [*events, *chain.skip(1)]
        drawn.append([one.worker for one in events if isinstance(one, AuditDrawn)])
    assert drawn[0] == drawn[1] != []


def test_a_newcomer_that_takes_a_leavers_number_is_not_drawn(build: Any) -> None:
    """The attack: after the epoch's end, register a new key and retire an old one, whose number the new one gets."""
    world = build(audits_per_epoch=64)
    chain, gone, eve = world.chain, world.workers[0], get_dev_identity("eve")
    end = compute_epoch_end(chain.spec.params.staking, chain.height + 1)
    chain.skip(end - chain.height)
    newcomer = eve.worker_key.public_key
    joining, leaving = world.register_worker(eve, 0, 2), calls.RetireWorker(gone.worker_key.public_key)
    receipts = chain.block((chain.sign(eve, joining), chain.sign(gone, leaving))).receipts
    assert [one.error for one in receipts] == [None, None]
    assert inference.roster_numbers.read(chain.state, newcomer) == 0, "it has the number of who left"
    drawn = {one.worker for one in chain.skip(1) if isinstance(one, AuditDrawn)}
    assert drawn == {one.worker_key.public_key for one in world.workers[1:]}


def test_a_worker_whose_model_nobody_verifies_is_not_audited(build: Any) -> None:
    world = build()
    edit(world, lambda state: inference.verifiers.remove(state, world.model, world.verifiers[0].account))
    chain = world.chain
    end = compute_epoch_end(chain.spec.params.staking, chain.height + 1)
    events = chain.skip(end + 2 - chain.height)
    assert sum(isinstance(one, CommitteeEmpty) for one in events) == 3
    assert not any(isinstance(one, AuditDrawn) for one in events)


def test_nobody_judges_its_own_worker(build: Any) -> None:
    """The attack: a validator that runs a worker draws itself as the committee."""
    world = build()
    alice = get_dev_identity("alice")
    world.chain.expect_ok(alice, world.register_worker(alice, 0, 2))
    assert alice.worker_key.public_key not in {one.worker for one in go_to_draw(world)}


def test_the_cap_on_issuance_holds(build: Any) -> None:
    world = build()
    audit = go_to_draw(world)[0]
    chain = world.chain
    params = replace(staking.read_params(chain.state), issuance_max=read_issuance(chain.state))
    edit(world, lambda state: staking.params.write(state, params))
    issued = read_issuance(chain.state)
    assert judge(world, audit, Outcome.PASS).reward < audit.reward * 250 // 1000
    assert read_issuance(chain.state) <= issued


def test_nobody_moves_out_of_an_audit(build: Any) -> None:
    """The verdict is on the layers that the worker holds: with others it could not be reached."""
    world = build()
    audit = go_to_draw(world)[0]
    who = next(one for one in world.workers if one.worker_key.public_key == audit.worker)
    held = inference.workers.read(world.chain.state, audit.worker)
    call = calls.MoveWorker(audit.worker, 0, 1 if held.end != 1 else 2)
    world.chain.expect_error(who, call, errors.AuditOpen)
    judge(world, audit, Outcome.PASS)
    world.chain.expect_ok(who, call)


def test_an_audit_is_forgotten_whole(build: Any) -> None:
    world = build(retention_blocks=100)
    drawn = go_to_draw(world)
    for one in drawn:
        judge(world, one, Outcome.PASS)
    chain = world.chain
    known = {one.audit for one in drawn}
    params = replace(inference.params.read(chain.state), audits_per_epoch=0)
    edit(world, lambda state: inference.params.write(state, params))
    chain.skip(101)
    assert not known & {key for (key,), _ in inference.challenges.iterate(chain.state)}
    assert not known & {key for (key,), _ in inference.audits.iterate(chain.state)}
    assert not known & {key[0] for key, _ in inference.reveals.iterate(chain.state)}
    assert inference.workers.read(chain.state, drawn[0].worker).status == WorkerStatus.ACTIVE  # type: ignore[union-attr]
