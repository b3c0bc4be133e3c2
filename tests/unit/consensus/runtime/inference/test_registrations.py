"""Models, workers, verifiers and sessions: every call's success, and every error with nothing left behind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.manifests import build_manifest
from consensus.runtime.balances.errors import InsufficientBalance
from consensus.runtime.balances.state import HoldReason, read_hold
from consensus.runtime.inference import errors, queries
from consensus.runtime.inference.events import SessionClosed, WorkerReleased
from consensus.runtime.inference.state import SessionStatus, WorkerStatus
from genesis.dev import get_dev_identity
from proto_specs.codec import encode
from proto_specs.types import calls
from proto_specs.types.manifest import compute_model_id
from tests.unit.consensus.runtime.inference.inference_world import BOND, DEPOSIT, LAYERS, PRICE, World

EVE = get_dev_identity("eve")


@pytest.fixture(name="world")
def fixture_world() -> World:
    return World()


def test_a_model_is_registered_once_by_anyone(world: World) -> None:
    manifest = build_manifest(3, name="other")
    receipt = world.chain.expect_ok(EVE, calls.RegisterModel(encode(manifest)))
    model = compute_model_id(manifest)
    assert receipt.events[0].model == model
    assert queries.read_manifest(world.chain.state, model) == manifest
    listed = dict(queries.list_models(world.chain.state))
    assert set(listed) == {world.model, model}
    assert (listed[model].layers, listed[model].owner) == (3, EVE.account)
    world.chain.expect_error(world.client, calls.RegisterModel(encode(manifest)), errors.ModelExists)


def test_a_manifest_must_be_canonical_and_consistent(world: World) -> None:
    good = encode(build_manifest(LAYERS))
    thresholds = [encode(build_manifest(LAYERS, thresholds=one)) for one in ((5,), (5,) * LAYERS + (5,), (0,) * LAYERS)]
    for bad in (b"", good + b"\0", good[:-1], encode(build_manifest(LAYERS, eos_tokens=())), *thresholds):
        world.chain.expect_error(EVE, calls.RegisterModel(bad), errors.BadManifest)


def test_a_worker_bonds_and_is_found(world: World) -> None:
    receipt = world.chain.expect_ok(EVE, world.register_worker(EVE, 0, LAYERS))
    assert receipt.events[0].worker == EVE.worker_key.public_key
    assert read_hold(world.chain.state, EVE.account, HoldReason.WORKER_BOND) == BOND
    listed = dict(queries.list_workers(world.chain.state, world.model))
    assert len(listed) == 4
    assert listed[EVE.worker_key.public_key].operator == EVE.account
    mine = queries.list_workers_of(world.chain.state, EVE.account)
    assert [key for key, _ in mine] == [EVE.worker_key.public_key]


def test_worker_registration_is_checked(world: World) -> None:
    expect, register = world.chain.expect_error, world.register_worker
    expect(EVE, register(EVE, 0, 2, model=bytes(32)), errors.UnknownModel)
    for start, end in ((0, 0), (3, 2), (0, LAYERS + 1)):
        expect(EVE, register(EVE, start, end), errors.BadRange)
    expect(EVE, register(EVE, 0, 2, prefill_price=0), errors.ZeroPrice)
    expect(EVE, register(EVE, 0, 2, decode_price=0), errors.ZeroPrice)
    least = world.chain.spec.params.inference.worker_bond_min
    expect(EVE, register(EVE, 0, 2, bond=least - 1), errors.BondTooLow)
    expect(EVE, register(EVE, 0, 2, bond=1 << 63), InsufficientBalance)
    expect(EVE, register(EVE, 0, 2, key_proof=bytes(64)), errors.BadWorkerKeyProof)
    bob = world.workers[0]
    expect(EVE, replace(register(bob, 0, 2), key_proof=register(EVE, 0, 2).key_proof), errors.WorkerExists)
    stolen = replace(register(EVE, 0, 2), key_proof=register(bob, 0, 2).key_proof)
    expect(EVE, stolen, errors.BadWorkerKeyProof)
    expect(get_dev_identity("ferdie"), register(EVE, 0, 2), errors.BadWorkerKeyProof)


def test_a_worker_moves_and_retires(world: World) -> None:
    bob, key = world.workers[0], world.workers[0].worker_key.public_key
    world.chain.expect_ok(bob, calls.UpdateWorker(key, "peer", ("/ip4/10.0.0.1/tcp/2",), PRICE // 2, PRICE))
    worker = queries.read_worker(world.chain.state, key)
    assert worker is not None
    assert (worker.peer_id, worker.addresses) == ("peer", ("/ip4/10.0.0.1/tcp/2",))
    before = world.chain.free(bob)
    receipt = world.chain.expect_ok(bob, calls.RetireWorker(key))
    unbonding = world.chain.spec.params.inference.worker_unbonding_blocks
    assert not [one for one in world.chain.skip(unbonding - 1) if isinstance(one, WorkerReleased)]
    released = [one for one in world.chain.skip(1) if isinstance(one, WorkerReleased)]
    assert released == [WorkerReleased(key, bob.account, BOND)]
    assert world.chain.free(bob) == before - receipt.fee + BOND
    gone = queries.read_worker(world.chain.state, key)
    assert gone is not None
    assert gone.status == WorkerStatus.RELEASED
    assert key not in dict(queries.list_workers(world.chain.state, world.model))
    world.chain.expect_error(bob, world.register_worker(bob, 0, 2), errors.WorkerExists)


def test_only_the_operator_changes_an_active_worker(world: World) -> None:
    key = world.workers[0].worker_key.public_key
    for call in (calls.UpdateWorker(key, "peer", (), 1, 1), calls.RetireWorker(key)):
        world.chain.expect_error(EVE, call, errors.NotOperator)
        world.chain.expect_error(EVE, replace(call, worker_key=bytes(32)), errors.UnknownWorker)
    world.chain.expect_ok(world.workers[0], calls.RetireWorker(key))
    world.chain.expect_error(world.workers[0], calls.RetireWorker(key), errors.WorkerNotActive)
    world.chain.expect_error(world.workers[0], calls.UpdateWorker(key, "peer", (), 1, 1), errors.WorkerNotActive)


def test_a_bond_waits_for_unresolved_stages() -> None:
    world = World(commit_blocks=40, reveal_blocks=50, worker_unbonding_blocks=100)
    bob = world.workers[0]
    world.chain.expect_ok(bob, calls.RetireWorker(bob.worker_key.public_key))
    world.chain.skip(90)
    drawn = world.settle_and_draw(world.settle())
    assert not [one for one in world.chain.skip(20) if isinstance(one, WorkerReleased)]
    events = world.judge(drawn[0].challenge, world.verifiers[0], calls.Outcome.PASS).events
    assert [one.worker for one in events if isinstance(one, WorkerReleased)] == [bob.worker_key.public_key]


def test_verifiers_are_elected_operators(world: World) -> None:
    alice = world.verifiers[0]
    assert queries.list_verifiers(world.chain.state, world.model) == [alice.account]
    world.chain.expect_error(alice, calls.RegisterVerifier(world.model), errors.AlreadyVerifier)
    world.chain.expect_error(alice, calls.RegisterVerifier(bytes(32)), errors.UnknownModel)
    world.chain.expect_error(EVE, calls.RegisterVerifier(world.model), errors.OperatorNotElected)


def test_a_session_escrows_its_deposit(world: World) -> None:
    held = read_hold(world.chain.state, world.client.account, HoldReason.ESCROW)
    session_id = world.open_session(deposit=5_000_000)
    assert read_hold(world.chain.state, world.client.account, HoldReason.ESCROW) == held + 5_000_000
    session = queries.read_session(world.chain.state, session_id)
    assert session is not None
    assert (session.escrow, session.status) == (5_000_000, SessionStatus.OPEN)
    mine = dict(queries.list_sessions(world.chain.state, world.client.account))
    assert set(mine) == {world.session, session_id}


def test_session_opening_is_checked(world: World) -> None:
    call = calls.OpenSession(world.model, world.session_key.public_key, PRICE, DEPOSIT, 1)
    expect = world.chain.expect_error
    expect(world.client, replace(call, model=bytes(32)), errors.UnknownModel)
    expect(world.client, replace(call, requests_max=0), errors.NoRequests)
    least = world.chain.spec.params.inference.session_deposit_min
    expect(world.client, replace(call, deposit=least - 1), errors.DepositTooLow)
    expect(world.client, replace(call, deposit=1 << 63), InsufficientBalance)


def test_closing_takes_its_notice_and_returns_the_rest(world: World) -> None:
    before = world.chain.free(world.client)
    receipt = world.chain.expect_ok(world.client, calls.CloseSession(world.session))
    assert receipt.events[0].close_height == world.chain.height + 10
    assert not [one for one in world.chain.skip(9) if isinstance(one, SessionClosed)]
    (closed,) = [one for one in world.chain.skip(1) if isinstance(one, SessionClosed)]
    assert closed.refund == DEPOSIT
    assert world.chain.free(world.client) == before - receipt.fee + DEPOSIT
    world.chain.expect_error(world.client, calls.CloseSession(world.session), errors.SessionNotOpen)


def test_closing_is_the_client_s_alone_and_once(world: World) -> None:
    world.chain.expect_error(EVE, calls.CloseSession(world.session), errors.NotClient)
    world.chain.expect_error(EVE, calls.CloseSession(bytes(32)), errors.UnknownSession)
    world.chain.expect_ok(world.client, calls.CloseSession(world.session))
    world.chain.expect_error(world.client, calls.CloseSession(world.session), errors.SessionNotOpen)


def test_a_forgotten_session_expires_by_itself() -> None:
    world = World(session_expiry_blocks=15)
    (closed,) = [one for one in world.chain.skip(15) if isinstance(one, SessionClosed)]
    assert (closed.session, closed.refund) == (world.session, DEPOSIT)


def test_notice_never_outlives_expiry() -> None:
    world = World(session_expiry_blocks=8)
    opened = world.chain.height
    receipt = world.chain.expect_ok(world.client, calls.CloseSession(world.session))
    assert receipt.events[0].close_height == opened + 8
