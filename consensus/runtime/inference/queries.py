"""Read access to the module's state for RPC, the verification duty, workers and clients."""

from __future__ import annotations

from collections.abc import Iterable

from consensus.runtime.inference import committee_state as committees
from consensus.runtime.inference import partial, seats, sequences, timing
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.committee_state import Standing, VerificationDeposit, WithheldRecord
from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.inference.state import Challenge, Model, Request, Reveal, Session, Worker
from consensus.state.reader import StateReader
from proto_specs.types.manifest import Manifest


def read_params(state: StateReader) -> InferenceParams:
    """The module's parameters."""
    return inference.params.read(state)


def read_manifest(state: StateReader, model: bytes) -> Manifest | None:
    """The whole manifest of a model; None when there is none."""
    return inference.manifests.read(state, model)


def list_models(state: StateReader) -> list[tuple[bytes, Model]]:
    """(id, model) of every registered model, by id."""
    return [(key[0], model) for key, model in inference.models.iterate(state)]


def read_worker(state: StateReader, worker: bytes) -> Worker | None:
    """A worker by its key, also after it left; None when it never registered."""
    return inference.workers.read(state, worker)


def list_workers(state: StateReader, model: bytes) -> list[tuple[bytes, Worker]]:
    """(key, worker) of a model's workers that still have a bond, by key; see `Worker.status`."""
    return _load_workers(state, [key for _, key in inference.workers_by_model.iterate(state, model)])


def list_workers_of(state: StateReader, operator: bytes) -> list[tuple[bytes, Worker]]:
    """(key, worker) of all workers an account ever registered, by key."""
    return _load_workers(state, [key for _, key in inference.workers_by_operator.iterate(state, operator)])


def read_jail(state: StateReader, operator: bytes) -> int:
    """The block from which an operator's workers are paid again; 0 when it was never jailed."""
    return inference.read_jail(state, operator)


def read_conduct(state: StateReader, operator: bytes) -> WithheldRecord:
    """What an operator's withheld stages still count for: strikes to the next jail, terms that lengthen it."""
    return committees.read_conduct(state, operator)


def list_absence_reports(state: StateReader, worker: bytes) -> dict[bytes, int]:
    """By verifier, the block from which its report that the worker is absent counts no more."""
    return {key[1]: until for key, until in inference.absence_reports.iterate(state, worker)}


def list_verifiers(state: StateReader, model: bytes) -> list[bytes]:
    """Accounts that registered as verifiers of a model, elected now or not."""
    return [account for _, account in inference.verifiers.iterate(state, model)]


def read_standing(state: StateReader, verifier: bytes) -> Standing:
    """A verifier's points, counts of verdicts carried and missed, and what it was charged in its last epoch."""
    return committees.read_standing(state, verifier)


def count_silences(state: StateReader, verifier: bytes) -> int:
    """How often a verifier revealed nothing."""
    return inference.silences.read(state, verifier) or 0


def count_seats(state: StateReader, verifier: bytes) -> int:
    """Challenges that wait for a verifier; at `open_challenges_max` it gets no more."""
    return seats.count(state, verifier)


def read_verification_deposit(state: StateReader, request: bytes) -> VerificationDeposit | None:
    """What the settler of a request has deposited for stages that are open; None when nothing is left."""
    return committees.deposits.read(state, request)


def read_session(state: StateReader, session: bytes) -> Session | None:
    """A session by its id; None when there is none."""
    return inference.sessions.read(state, session)


def list_sessions(state: StateReader, client: bytes) -> list[tuple[bytes, Session]]:
    """(id, session) of a client's sessions, by id."""
    found = (
        (key, inference.sessions.read(state, key)) for _, key in inference.sessions_by_client.iterate(state, client)
    )
    return [(key, session) for key, session in found if session is not None]


def read_request(state: StateReader, request: bytes) -> Request | None:
    """A settled request by its id, until `retention_blocks` after its resolution."""
    return inference.requests.read(state, request)


def list_requests(state: StateReader, session: bytes) -> list[tuple[int, bytes]]:
    """(sequence, request id) of a session's settled requests, by sequence, until each is forgotten.

    A statement is one of them, by its id and under the first number that it settles.
    """
    return [(key[1], request) for key, request in inference.requests_by_session.iterate(state, session)]


def is_sequence_used(state: StateReader, session: bytes, sequence: int) -> bool:
    """Whether the request of this number is settled in the session, by itself or in a statement."""
    return sequences.is_used(state, session, sequence)


def read_join_end(state: StateReader, request: bytes) -> int | None:
    """The block from which a settlement can be joined no more; None when it is final, or unknown."""
    pending = partial.read_pending(state, request)
    return None if pending is None else pending.until


def list_used_sequences(state: StateReader, session: bytes, numbers: Iterable[int]) -> frozenset[int]:
    """Those of the numbers whose requests are settled in the session, by themselves or in a statement."""
    return sequences.list_used(state, session, numbers)


def read_challenge(state: StateReader, challenge: bytes) -> Challenge | None:
    """A challenge by its id (`proto_specs.types.verdict.compute_challenge_id`), with the deadlines that hold now."""
    found = inference.challenges.read(state, challenge)
    return None if found is None else timing.extend(state, found)


def list_open_challenges(state: StateReader, verifier: bytes) -> list[tuple[bytes, Challenge]]:
    """(id, challenge) of each challenge that still waits for this verifier's commitment or reveal, by id.

    The deadlines are those that hold now.
    """
    found = (
        (key, inference.challenges.read(state, key)) for _, key in inference.open_challenges.iterate(state, verifier)
    )
    return [(key, timing.extend(state, challenge)) for key, challenge in found if challenge is not None]


def is_audit(state: StateReader, challenge: bytes) -> bool:
    """Whether a challenge is an audit: its inputs are drawn, and its worker's output is on chain nowhere."""
    return inference.audits.read(state, challenge) is not None


def list_open_audits(state: StateReader, worker: bytes) -> list[tuple[bytes, Challenge]]:
    """(id, challenge) of each audit that a worker has to answer, by id."""
    found = ((key, inference.challenges.read(state, key)) for _, key in inference.open_audits.iterate(state, worker))
    return [(key, challenge) for key, challenge in found if challenge is not None]


def read_commitment(state: StateReader, challenge: bytes, verifier: bytes) -> bytes | None:
    """A verifier's commitment in a challenge; None when there is none."""
    return inference.commitments.read(state, challenge, verifier)


def read_reveals(state: StateReader, challenge: bytes) -> dict[bytes, Reveal]:
    """Reveals by verifier, in the order of their accounts."""
    return {key[1]: reveal for key, reveal in inference.reveals.iterate(state, challenge)}


def _load_workers(state: StateReader, keys: list[bytes]) -> list[tuple[bytes, Worker]]:
    found = ((key, inference.workers.read(state, key)) for key in keys)
    return [(key, worker) for key, worker in found if worker is not None]
