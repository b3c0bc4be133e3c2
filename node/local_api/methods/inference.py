"""JSON-RPC methods of the inference module: models, workers, sessions, requests, challenges. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from consensus.runtime.inference import queries
from consensus.runtime.inference.committee_state import Standing, VerificationDeposit, WithheldRecord
from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.inference.state import Model, Request, Session, Worker
from node.local_api.methods.params import Params
from node.local_api.methods.schemas import (
    ACCOUNT,
    ARRAY,
    CHALLENGE,
    HASH,
    INTEGER,
    MODEL,
    OBJECT,
    REQUEST,
    SESSION,
    WORKER,
    list_of,
    or_null,
    schema_of,
)
from node.local_api.methods.table import NodeView, method, show_bytes
from proto_specs.types.chain import Validator
from proto_specs.types.manifest import Manifest


def _show_listed(view: NodeView, id_name: str, found: Iterable[tuple[bytes, Any]]) -> list[Any]:
    """Records of a list, each with its id beside its fields."""
    return [{id_name: show_bytes(key), **view.show(one)} for key, one in found]


@method("inference_params", gives=schema_of(InferenceParams))
def inference_params(view: NodeView, params: Params) -> Any:
    """Parameters of the inference module."""
    params.finish()
    return view.show(queries.read_params(view.store))


@method("inference_models", gives=list_of(schema_of(Model, model=HASH)), is_bulky=True)
def inference_models(view: NodeView, params: Params) -> Any:
    """Registered models: id, owner, height, and what a client chooses by; inference_model has the manifest."""
    params.finish()
    return _show_listed(view, "model", queries.list_models(view.store.view()))


@method("inference_model", takes=(MODEL,), gives=or_null(schema_of(Manifest)))
def inference_model(view: NodeView, params: Params) -> Any:
    """The manifest of a model; null when it is not registered."""
    model = params.take_hash("model")
    params.finish()
    return view.show(queries.read_manifest(view.store, model))


@method("inference_workers", takes=(MODEL,), gives=list_of(schema_of(Worker, worker=HASH)), is_bulky=True)
def inference_workers(view: NodeView, params: Params) -> Any:
    """Bonded workers of a model."""
    model = params.take_hash("model")
    params.finish()
    return _show_listed(view, "worker", queries.list_workers(view.store.view(), model))


@method("inference_worker", takes=(WORKER,), gives=or_null(schema_of(Worker)))
def inference_worker(view: NodeView, params: Params) -> Any:
    """A worker by its key; null when there is none."""
    worker = params.take_hash("worker")
    params.finish()
    return view.show(queries.read_worker(view.store, worker))


@method("inference_verifiers", takes=(MODEL,), gives=list_of(schema_of(Validator)), is_bulky=True)
def inference_verifiers(view: NodeView, params: Params) -> Any:
    """Validators of the elected set that are registered to verify a model."""
    model = params.take_hash("model")
    params.finish()
    from_account = {member.operator: member for member in view.store.get_head().validators.members}
    found = queries.list_verifiers(view.store.view(), model)
    return [view.show(from_account[one]) for one in found if one in from_account]


@method("inference_session", takes=(SESSION,), gives=or_null(schema_of(Session)))
def inference_session(view: NodeView, params: Params) -> Any:
    """A session by its id; null when there is none."""
    session = params.take_hash("session")
    params.finish()
    return view.show(queries.read_session(view.store, session))


@method("inference_sessions", takes=(ACCOUNT,), gives=list_of(schema_of(Session, session=HASH)), is_bulky=True)
def inference_sessions(view: NodeView, params: Params) -> Any:
    """Sessions of a client's account."""
    account = params.take_account("account")
    params.finish()
    return _show_listed(view, "session", queries.list_sessions(view.store.view(), account))


@method("inference_requests", takes=(SESSION,), gives=list_of(ARRAY), is_bulky=True)
def inference_requests(view: NodeView, params: Params) -> Any:
    """Settled requests of a session, as [sequence, request id]."""
    session = params.take_hash("session")
    params.finish()
    return [[sequence, show_bytes(request)] for sequence, request in queries.list_requests(view.store.view(), session)]


@method("inference_request", takes=(REQUEST,), gives=or_null(schema_of(Request)))
def inference_request(view: NodeView, params: Params) -> Any:
    """A settled request by its id; null when there is none."""
    request = params.take_hash("request")
    params.finish()
    return view.show(queries.read_request(view.store, request))


@method("inference_challenge", takes=(CHALLENGE,), gives=or_null(OBJECT), is_bulky=True)
def inference_challenge(view: NodeView, params: Params) -> Any:
    """A challenge by its id, with its reveals; null when there is none."""
    challenge = params.take_hash("challenge")
    params.finish()
    state = view.store.view()
    found = queries.read_challenge(state, challenge)
    if found is None:
        return None
    reveals = queries.read_reveals(state, challenge)
    return {**view.show(found), "reveals": [view.show(one) for one in reveals.values()]}


@method("inference_challenges", takes=(ACCOUNT,), gives=list_of(OBJECT), is_bulky=True)
def inference_challenges(view: NodeView, params: Params) -> Any:
    """Challenges that wait for a verifier's account."""
    account = params.take_account("account")
    params.finish()
    return _show_listed(view, "challenge", queries.list_open_challenges(view.store.view(), account))


@method("inference_standing", takes=(ACCOUNT,), gives=schema_of(Standing, silences=INTEGER, seats=INTEGER))
def inference_standing(view: NodeView, params: Params) -> Any:
    """A verifier's points and counts, what it was charged in `epoch`, how often it was silent, and its open seats."""
    account = params.take_account("account")
    params.finish()
    state = view.store
    silences, seats = queries.count_silences(state, account), queries.count_seats(state, account)
    return {"silences": silences, "seats": seats, **view.show(queries.read_standing(state, account))}


@method("inference_conduct", takes=(ACCOUNT,), gives=schema_of(WithheldRecord, jailed_until=INTEGER))
def inference_conduct(view: NodeView, params: Params) -> Any:
    """What an operator's withheld stages still count for, and the block from which its workers are paid again."""
    account = params.take_account("account")
    params.finish()
    jailed_until = queries.read_jail(view.store, account)
    return {"jailed_until": jailed_until, **view.show(queries.read_conduct(view.store, account))}


@method("inference_deposit", takes=(REQUEST,), gives=or_null(schema_of(VerificationDeposit)))
def inference_deposit(view: NodeView, params: Params) -> Any:
    """What the settler of a request has deposited for its open stages; null when nothing is left."""
    request = params.take_hash("request")
    params.finish()
    return view.show(queries.read_verification_deposit(view.store, request))
