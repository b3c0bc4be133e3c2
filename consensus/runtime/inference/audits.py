"""Audits: the beacon draws windows that no client ordered; workers prove capacity and earn emission (DESIGN 5.7).

An epoch's end plans how many nmyl its workers and its audits may earn. Two blocks later that block's beacon draws the
workers to audit and derives the inputs, so the work could not be computed or bought in advance. Verdicts work as for
any challenge. A passed audit mints the worker's part, and its committee shares the audit's part; the rest is not
minted. Only audited workers earn: each worker's expected share, without a walk over all workers.

Incentives: a worker without capacity fails and its score falls. A second key that splits a bond has no more weight
than one key with the whole bond, as long as the whole is not above what its layers account for: one machine can answer
for several keys, so `capacity_bond_per_layer` belongs above what workers bond. A worker that joins after an epoch's end
cannot move the draw: its range is fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from consensus.runtime.arithmetic import PERMILLE, compute_equal_shares, compute_permille, compute_shares
from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import read_issuance
from consensus.runtime.context import Environment
from consensus.runtime.inference import benches, draws, roster, seats, worker_rewards
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import AuditDrawn, AuditScored, CommitteeEmpty, VerifierPaid
from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.inference.state import DRAW_DELAY_BLOCKS, Audit, AuditPlan, DueKind, Worker, WorkerStatus
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.emission import compute_emission_parts
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.calls import Outcome
from proto_specs.types.chain import Validator
from proto_specs.types.verdict import compute_challenge_id


def finalize(env: Environment) -> None:
    """At an epoch's last block, fix how much its workers can earn and the number of workers in the draw."""
    params = staking.read_params(env.state)
    if not staking.is_epoch_end(params, env.block.height):
        return
    workers = inference.roster_size.read(env.state)
    if not workers or not inference.params.read(env.state).audits_per_epoch:
        return
    epoch = staking.compute_epoch(params, env.block.height)
    parts = compute_emission_parts(params, epoch, read_issuance(env.state))
    subject = compute_plan_id(epoch)
    inference.audit_plans.write(env.state, subject, AuditPlan(epoch, workers, parts.workers, parts.audits))
    inference.due.add(env.state, env.block.height + DRAW_DELAY_BLOCKS, DueKind.AUDIT_DRAW, subject)


def draw_audits(env: Environment, plan_id: bytes) -> None:
    """Open the audits of an epoch with this block's beacon."""
    state = env.state
    plan = inference.audit_plans.read(state, plan_id)
    assert plan is not None, "a plan waits for its draw"
    inference.audit_plans.delete(state, plan_id)
    params = inference.params.read(state)
    drawn: list[tuple[bytes, Worker, list[Validator]]] = []
    for key in list_drawn(env, plan, params.audits_per_epoch):
        worker = inference.workers.read(state, key)
        assert worker is not None, "a worker outlives what is open of it"
        if worker.status != WorkerStatus.ACTIVE or env.block.height < inference.read_jail(state, worker.operator):
            continue
        if worker.active_since > env.block.height - DRAW_DELAY_BLOCKS:
            continue  # it came after the epoch's end and took over the number of a worker that left
        registered = benches.list_eligible(state, worker.model, set())
        eligible = seats.keep_free(state, benches.list_bench(params, registered, {worker.operator}))
        if eligible:
            drawn.append((key, worker, eligible))
        else:
            env.emit(CommitteeEmpty(plan_id, 0, key))
    rewards = compute_rewards(params, plan.for_workers, [worker for _, worker, _ in drawn])
    bounties = compute_equal_shares(plan.for_verifiers, len(drawn)) if drawn else []
    for (key, worker, eligible), reward, bounty in zip(drawn, rewards, bounties, strict=True):
        _open_audit(env, Audit(key, plan.epoch, reward, bounty), worker, eligible)


def list_drawn(env: Environment, plan: AuditPlan, count: int) -> list[bytes]:
    """The distinct workers that up to `count` draws select. A draw whose number is vacant selects no worker."""
    found: dict[bytes, None] = {}
    for number in compute_numbers(env.block.beacon, plan.workers, count):
        worker = roster.get(env.state, number)
        if worker is not None:
            found[worker] = None
    return list(found)


def compute_numbers(beacon: bytes, workers: int, count: int) -> list[int]:
    """Draw i takes number H(DRAW, beacon || "audit" || i) mod workers: a 256-bit big-endian integer, i as one byte."""
    return [
        int.from_bytes(hash_tagged(Tag.DRAW, beacon + b"audit" + bytes([index])), "big") % workers
        for index in range(count)
    ]


def compute_rewards(params: InferenceParams, total: int, workers: Sequence[Worker]) -> list[int]:
    """What audited workers get at a full score: by their capacity's part of what their layers account for in all.

    What their bonds lack of that is one more claimant, whose share is not minted. So a reward grows with the worker's
    own bond alone, and a bond that is split over keys earns no more than in one piece.
    """
    weights = [compute_capacity(params, worker) for worker in workers]
    whole = sum(params.capacity_bond_per_layer * (worker.end - worker.start) for worker in workers)
    return compute_shares(total, [*weights, whole - sum(weights)])[:-1]


def compute_capacity(params: InferenceParams, worker: Worker) -> int:
    """The part of a worker's bond, in nmyl, that counts for its layers."""
    return min(worker.bond, params.capacity_bond_per_layer * (worker.end - worker.start))


def compute_plan_id(epoch: int) -> bytes:
    """The id under which an epoch's plan falls due."""
    return epoch.to_bytes(32, "big")


def compute_audit_id(beacon: bytes, epoch: int, worker: bytes) -> bytes:
    """The challenge of an audit: of stage 0 of H(DRAW, beacon || epoch || worker), the epoch in 8 bytes, big-endian."""
    return compute_challenge_id(_compute_subject(beacon, epoch, worker), 0)


def compute_score(score: int, step_permille: int, *, is_passed: bool) -> int:
    """A pass moves the score a step towards 1000, a fail towards 0; the step is rounded up so that both are reached."""
    way = PERMILLE - score if is_passed else score
    moved = -(-way * step_permille // PERMILLE)
    return score + moved if is_passed else score - moved


def resolve(env: Environment, audit_id: bytes, audit: Audit, outcome: Outcome, carriers: tuple[bytes, ...]) -> None:
    """Move the score, mint the reward, schedule deletion. A failed audit costs no bond, since it harmed no client."""
    state, params = env.state, inference.params.read(env.state)
    worker = inference.workers.read(state, audit.worker)
    assert worker is not None, "a worker outlives what is open of it"
    inference.open_audits.remove(state, audit.worker, audit_id)
    score = inference.scores.read(state, audit.worker) or 0
    reward = 0
    if outcome != Outcome.INCONCLUSIVE:
        score = compute_score(score, params.audit_score_step_permille, is_passed=outcome == Outcome.PASS)
        inference.scores.write(state, audit.worker, score)
    if outcome == Outcome.PASS:
        amount = compute_permille(audit.reward, score)
        reward = worker_rewards.mint_for_worker(env, worker.operator, worker.bond, amount)
        inference.workers.write(state, audit.worker, replace(worker, earned=worker.earned + reward))
    if carriers:
        for verifier, amount in zip(carriers, compute_equal_shares(audit.bounty, len(carriers)), strict=True):
            env.emit(VerifierPaid(audit_id, verifier, _mint(env, verifier, amount)))
    env.emit(AuditScored(audit_id, audit.worker, worker.operator, outcome, score, reward))
    inference.due.add(state, env.block.height + params.retention_blocks, DueKind.FORGET_AUDIT, audit_id)


def forget(env: Environment, audit_id: bytes) -> None:
    """Drop a resolved audit with its challenge."""
    draws.drop_challenge(env, audit_id)
    inference.audits.delete(env.state, audit_id)


def _mint(env: Environment, who: bytes, amount: int) -> int:
    """Mint within the cap on issuance; returns the nmyl."""
    minted = worker_rewards.compute_mintable(env, amount)
    ledger.mint(env.state, who, minted)
    return minted


def _compute_subject(beacon: bytes, epoch: int, worker: bytes) -> bytes:
    return hash_tagged(Tag.DRAW, beacon + epoch.to_bytes(8, "big") + worker)


def _open_audit(env: Environment, audit: Audit, worker: Worker, eligible: list[Validator]) -> None:
    subject = _compute_subject(env.block.beacon, audit.epoch, audit.worker)
    audit_id, challenge = draws.open_challenge(env, subject, 0, 0, audit.worker, worker.model, eligible)
    inference.audits.write(env.state, audit_id, audit)
    inference.open_audits.add(env.state, audit.worker, audit_id)
    env.emit(
        AuditDrawn(
            audit=audit_id,
            worker=audit.worker,
            epoch=audit.epoch,
            reward=audit.reward,
            committee=tuple(member.verifier for member in challenge.committee),
            commit_deadline=challenge.commit_deadline,
            reveal_deadline=challenge.reveal_deadline,
        )
    )
