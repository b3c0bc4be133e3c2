"""Registrations of models, workers and verifiers. Serving and verifying need them before any request."""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.context import Environment
from consensus.runtime.inference import absence, asks, oblivion, roster
from consensus.runtime.inference import committee_state as committees
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.committee_events import VerifierLeaving, VerifierLeft
from consensus.runtime.inference.errors import (
    AlreadyLeaving,
    AlreadyVerifier,
    BadManifest,
    BadRange,
    BadWorkerKeyProof,
    BondTooLow,
    ModelExists,
    NotVerifier,
    OperatorNotElected,
    UnknownModel,
    WorkerExists,
    ZeroPrice,
)
from consensus.runtime.inference.events import (
    ModelRegistered,
    VerifierRegistered,
    WorkerRegistered,
    WorkerRetired,
    WorkerUpdated,
)
from consensus.runtime.inference.state import DueKind, WorkerStatus
from consensus.runtime.staking.state import read_validators
from proto_specs.codec import decode
from proto_specs.ed25519 import is_signature_valid
from proto_specs.errors import DecodeError
from proto_specs.hashing import Tag
from proto_specs.limits import MANIFEST_BYTES_MAX
from proto_specs.order_rules import make_bounds
from proto_specs.types.calls import (
    RegisterModel,
    RegisterVerifier,
    RegisterWorker,
    RetireWorker,
    UnregisterVerifier,
    UpdateWorker,
)
from proto_specs.types.manifest import Manifest, compute_model_id, validate_manifest


def register_model(env: Environment, signer: bytes, call: RegisterModel) -> None:
    """Put a manifest on chain. Any account may, at the price of its bytes. Raises BadManifest, ModelExists."""
    try:
        manifest = decode(Manifest, call.manifest, MANIFEST_BYTES_MAX)
        validate_manifest(manifest)
    except DecodeError as error:
        raise BadManifest(str(error)) from error
    model = compute_model_id(manifest)
    if inference.models.read(env.state, model) is not None:
        raise ModelExists(f"model {model.hex()} is registered")
    bounds = make_bounds(manifest)
    summary = inference.Model(
        owner=signer,
        height=env.block.height,
        layers=bounds.layers,
        service_class=bounds.service_class,
        threshold_ppb=manifest.profile.threshold_ppb,
        vocab=bounds.vocab,
        context_max=bounds.context_max,
        row_bytes=bounds.row_bytes,
        thresholds=manifest.thresholds,
    )
    inference.models.write(env.state, model, summary)
    inference.manifests.write(env.state, model, manifest)
    env.emit(ModelRegistered(model, signer))


def register_worker(env: Environment, signer: bytes, call: RegisterWorker) -> None:
    """Bond a worker for layers [start, end).

    Raises UnknownModel, BadRange, ZeroPrice, BondTooLow, WorkerExists, BadWorkerKeyProof, InsufficientBalance.
    """
    state = env.state
    model = inference.models.read(state, call.model)
    if model is None:
        raise UnknownModel(f"no model {call.model.hex()}")
    if not call.start < call.end <= model.layers:
        raise BadRange(f"[{call.start}, {call.end}) of {model.layers} layers")
    _check_prices(call)
    least = inference.params.read(state).worker_bond_min
    if call.bond < least:
        raise BondTooLow(f"a worker bonds at least {least} nmyl")
    if inference.workers.read(state, call.worker_key) is not None:
        raise WorkerExists("each worker key is registered once")
    if not is_signature_valid(call.worker_key, Tag.KEY_PROOF_SIGN, signer, call.key_proof):
        raise BadWorkerKeyProof("the worker key has to sign the operator's account")
    ledger.hold(state, signer, HoldReason.WORKER_BOND, call.bond)
    worker = inference.Worker(
        operator=signer,
        model=call.model,
        start=call.start,
        end=call.end,
        status=WorkerStatus.ACTIVE,
        bond=call.bond,
        unresolved=0,
        open_stages=0,
        release_height=0,
        peer_id=call.peer_id,
        addresses=call.addresses,
        prefill_price=call.prefill_price,
        decode_price=call.decode_price,
        active_since=env.block.height,
        earned=0,
        passes=0,
        fails=0,
        unavailable=0,
        jailed_until=0,
        prefill_floor=0,
        decode_floor=0,
        floor_until=0,
        proven=0,
    )
    inference.workers.write(state, call.worker_key, worker)
    inference.workers_by_model.add(state, call.model, call.worker_key)
    inference.workers_by_operator.add(state, signer, call.worker_key)
    roster.enlist(state, call.worker_key)
    env.emit(WorkerRegistered(call.worker_key, signer, call.model, call.start, call.end, call.bond))


def update_worker(env: Environment, signer: bytes, call: UpdateWorker) -> None:
    """Change a worker's addresses and prices; an absent one is back. Raises ZeroPrice, and as `read_own_worker`."""
    _check_prices(call)
    height, notice_blocks = env.block.height, inference.params.read(env.state).session_notice_blocks
    worker = absence.read_own_worker(env, signer, call.worker_key, WorkerStatus.ACTIVE, WorkerStatus.ABSENT)
    worker = absence.readmit(env, call.worker_key, worker)
    moved = replace(worker, peer_id=call.peer_id, addresses=call.addresses)
    if (call.prefill_price, call.decode_price) != (worker.prefill_price, worker.decode_price):
        moved = asks.change_ask(moved, call.prefill_price, call.decode_price, height, notice_blocks)
    inference.workers.write(env.state, call.worker_key, moved)
    env.emit(WorkerUpdated(call.worker_key, signer, call.prefill_price, call.decode_price))


def retire_worker(env: Environment, signer: bytes, call: RetireWorker) -> None:
    """Retire a worker. Served requests can still be settled, and the bond answers for them until it is released.

    Raises as `read_own_worker`.
    """
    worker = absence.read_own_worker(env, signer, call.worker_key, WorkerStatus.ACTIVE, WorkerStatus.ABSENT)
    height = env.block.height + inference.params.read(env.state).worker_unbonding_blocks
    retiring = replace(worker, status=WorkerStatus.RETIRING, release_height=height)
    inference.workers.write(env.state, call.worker_key, retiring)
    roster.strike(env.state, call.worker_key)
    absence.forget_reports(env.state, call.worker_key)
    inference.due.add(env.state, height, DueKind.WORKER_RELEASE, call.worker_key)
    env.emit(WorkerRetired(call.worker_key, signer, height))


def register_verifier(env: Environment, signer: bytes, call: RegisterVerifier) -> None:
    """Join the verifiers of a model, or stay among them. Raises UnknownModel, OperatorNotElected, AlreadyVerifier."""
    if inference.models.read(env.state, call.model) is None:
        raise UnknownModel(f"no model {call.model.hex()}")
    if all(member.operator != signer for member in read_validators(env.state).members):
        raise OperatorNotElected("only operators of elected validators verify")
    is_leaving = committees.leaving_verifiers.read(env.state, call.model, signer) is not None
    if inference.verifiers.contains(env.state, call.model, signer) and not is_leaving:
        raise AlreadyVerifier("registered for this model already")
    committees.leaving_verifiers.delete(env.state, call.model, signer)
    oblivion.add_verifier(env, call.model, signer)
    env.emit(VerifierRegistered(call.model, signer))


def unregister_verifier(env: Environment, signer: bytes, call: UnregisterVerifier) -> None:
    """Leave the verifiers of a model after the notice. Who is not elected may, too. Raises NotVerifier, AlreadyLeaving.

    Until then it is drawn: nobody leaves a committee that it sees coming. Seats that it has by then it keeps.
    """
    if not inference.verifiers.contains(env.state, call.model, signer):
        raise NotVerifier(f"not registered for model {call.model.hex()}")
    if committees.leaving_verifiers.read(env.state, call.model, signer) is not None:
        raise AlreadyLeaving("unregistered already, wait for the notice to end")
    height = env.block.height + inference.params.read(env.state).verifier_notice_blocks
    committees.leaving_verifiers.write(env.state, call.model, signer, height)
    inference.due.add(env.state, height, DueKind.VERIFIER_LEAVE, call.model)
    env.emit(VerifierLeaving(call.model, signer, height))


def finish_leaving(env: Environment, model: bytes) -> None:
    """Drop the verifiers whose notice is over."""
    for (_, who), height in list(committees.leaving_verifiers.iterate(env.state, model)):
        if height <= env.block.height:
            committees.leaving_verifiers.delete(env.state, model, who)
            oblivion.remove_verifier(env, model, who)
            env.emit(VerifierLeft(model, who))


def _check_prices(call: RegisterWorker | UpdateWorker) -> None:
    if not (call.prefill_price and call.decode_price):
        raise ZeroPrice("prefill and decode cost at least 1 nmyl per layer and token")
