"""State of the inference module: models, workers, sessions, requests, challenges, and indexes to find them.

Amounts are nmyl, times are blocks, probabilities parts per million.
"""

from __future__ import annotations

import enum
from typing import Annotated

from consensus.runtime.inference.parameters import InferenceParams
from consensus.state.reader import StateReader
from consensus.state.storage import StorageMap, StorageSet, StorageValue
from proto_specs import limits
from proto_specs.codec import U8, U16, U32, U64, Fixed, Max, record
from proto_specs.order_rules import ModelBounds
from proto_specs.types.common import AccountId, Balance, Hash32, PublicKey
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import compute_windows

DRAW_DELAY_BLOCKS = 2
"""A request settled in block h is drawn by the beacon of block h + 2, which is unpredictable in h (DESIGN 5.3)."""

SEQUENCES_CHUNK = 1024
"""Sequence numbers of a session that share a record in state: a bit of each says whether it is settled."""

ROUNDS_MAX = 3
"""The most committees of one challenge; a contested or silent committee is followed by another."""


class WorkerStatus(enum.IntEnum):
    """ACTIVE workers take work. RETIRING and EJECTED ones wait for their bond. RELEASED ones are soon forgotten.

    ABSENT ones are bonded and take none until they announce themselves again.
    """

    ACTIVE = 0
    RETIRING = 1
    EJECTED = 2
    RELEASED = 3
    ABSENT = 4


class SessionStatus(enum.IntEnum):
    """OPEN and CLOSING accept settlements; CLOSED has returned its escrow."""

    OPEN = 0
    CLOSING = 1
    CLOSED = 2


class StageStatus(enum.IntEnum):
    """The state of a stage of a settled request. A MISSING one has brought no roots and bills nothing."""

    AWAITING_DRAW = 0
    CHALLENGED = 1
    PAID = 2
    REFUNDED = 3
    SLASHED = 4
    MISSING = 5


class DueKind(enum.IntEnum):
    """The subject of a deadline."""

    DRAW = 1
    REVEAL = 2
    SESSION_CLOSE = 3
    WORKER_RELEASE = 4
    FORGET_REQUEST = 5
    FORGET_SESSION = 6
    ROUND_DRAW = 7
    AUDIT_DRAW = 8
    FORGET_AUDIT = 9
    ABSENCE_EXPIRY = 10
    JOIN_END = 11
    CLIENT_BOND_RETURN = 12
    POSTPONED_DRAW = 20
    VERIFIER_LEAVE = 21
    FORGET_WORKER = 31
    VERIFIER_EXPIRY = 32


@record
class Model:
    """The figures of a registered manifest that the runtime needs; the manifest is stored separately."""

    owner: AccountId
    height: U64
    layers: U16
    service_class: U8
    threshold_ppb: U64
    vocab: U32
    context_max: U32
    row_bytes: U32
    thresholds: Annotated[tuple[U64, ...], Max(limits.MODEL_LAYERS_MAX)]

    def get_threshold(self, end: int) -> int:
        """How far, in parts per billion, the rows of a shard [start, end) may be off."""
        return self.thresholds[end - 1] if self.thresholds else self.threshold_ppb

    @property
    def bounds(self) -> ModelBounds:
        """What an order for the model has to fit."""
        return ModelBounds(self.layers, self.vocab, self.context_max, self.row_bytes, self.service_class)


@record
class Worker:
    """A bonded worker, known by its key. `unresolved` is the gross price of its settled, not yet resolved stages.

    `jailed_until` is the end of the last jail that this worker caused; `read_jail` of the operator is what binds.
    `active_since` is when it came last. Settlements before `floor_until` may price it down to the floors (asks.py).
    `proven` is the gross of its stages that were verified and paid since its last fault.
    """

    operator: AccountId
    model: Hash32
    start: U16
    end: U16
    status: U8
    bond: Balance
    unresolved: Balance
    open_stages: U32
    release_height: U64
    peer_id: Annotated[str, Max(limits.PEER_ID_BYTES_MAX)]
    addresses: Annotated[tuple[Annotated[str, Max(limits.ADDRESS_BYTES_MAX)], ...], Max(limits.WORKER_ADDRESSES_MAX)]
    prefill_price: Balance
    decode_price: Balance
    active_since: U64
    earned: Balance
    passes: U32
    fails: U32
    unavailable: U32
    jailed_until: U64
    prefill_floor: Balance
    decode_floor: Balance
    floor_until: U64
    proven: Balance


@record
class LeftRange:
    """Layers [start, end) that a worker held before it moved. Requests over them settle before block `until`."""

    start: U16
    end: U16
    until: U64


@record
class Session:
    """A client's escrow. `escrow` is the part that no settled request has claimed; it is returned at `close_height`.

    `deposit` is all that was ever escrowed, `released` what settled requests left of their slices: so orders may
    promise the positions [0, deposit + released). `bond` answers for no position being promised twice; once that was
    proven the session `is_convicted`, and workers take no more orders of it. `paused_before` counts the blocks without
    sure room for a settlement up to the opening, the notice or the last extension: by as many as came since then it
    closes later.
    """

    client: AccountId
    model: Hash32
    session_key: PublicKey
    status: U8
    max_price: Balance
    deposit: Balance
    released: Balance
    escrow: Balance
    requests_max: U32
    requests_settled: U32
    requests_open: U32
    opened_height: U64
    close_height: U64
    bond: Balance
    is_convicted: bool
    paused_before: U64 = 0

    @property
    def promisable(self) -> int:
        """The end of the positions that orders may promise. It never falls."""
        return self.deposit + self.released


@record
class RequestStage:
    """One stage of a settled request. `challenge_ppm` is the probability it is drawn with.

    `positions` are those that its roots are over: in a settlement that was joined stages may have different ones.
    `prompt_gross` is what of a statement's gross is for prompt positions: the draw is by it.
    """

    worker: PublicKey
    operator: AccountId
    start: U16
    end: U16
    gross: Balance
    challenge_ppm: U32
    status: U8
    input_root: Hash32
    output_root: Hash32
    positions: U64
    prompt_gross: Balance = 0

    @property
    def windows(self) -> int:
        """Windows that its roots are over: it opens under as many leaf hashes."""
        return compute_windows(self.positions)


@record
class Request:
    """A settled request. `escrow` is the part of its price still held, `returned` what the client got back.

    A continuation names the request it `continues`; its windows before `first_window` are that one's. `positions` and
    `windows` are the most that a stage signed for; `paid_positions` are those that all of them did.

    Of a statement, whose id then stands for the request's, it holds the sums over `requests` requests: their first
    sequence number, billed prompt positions, tokens, positions, and the root of their sum tree. There are no windows
    nor roots of stages: what an opening shows under the tree's root has them. None: a request settled by itself.
    """

    session: Hash32
    sequence: U32
    client: AccountId
    model: Hash32
    settled_height: U64
    prompt_tokens: U64
    tokens: U64
    tokens_hash: Hash32
    final: bool
    positions: U64
    windows: U16
    first_window: U16
    continues: Hash32 | None
    price: Balance
    escrow: Balance
    returned: Balance
    root: Hash32
    open_stages: U8
    stages: Annotated[tuple[RequestStage, ...], Max(limits.STAGES_MAX)]
    requests: U32 | None = None

    @property
    def paid_positions(self) -> int:
        """Leading positions that every stage of the path signed roots for: what an order may go on from unbilled."""
        return min(stage.positions for stage in self.stages)


@record
class CommitteeMember:
    """An elected validator, by its operator's account. `stake` is its stake at the draw, or 0 once it was replaced."""

    verifier: AccountId
    stake: Balance


@record
class Challenge:
    """A drawn window of a stage. `beacon` drew its committee and seeds its fingerprint; without `outcome` it is open.

    It may have several rounds. Each later round begins in the committee at its entry of `round_starts`; members from
    the last entry on sit now. Beacon, deadlines, `committed` and `revealed` are those of the last round. Between the
    order and the draw of a round no member sits. Of a statement a `point` was drawn (sum_tree.py), and `window` is 0.
    `paused` is `read_paused` when the deadlines were set: they move by as much as it has grown since.
    """

    request: Hash32
    stage: U8
    window: U16
    worker: PublicKey
    model: Hash32
    beacon: Hash32
    drawn_height: U64
    commit_deadline: U64
    reveal_deadline: U64
    threshold_ppb: U64
    committee: Annotated[tuple[CommitteeMember, ...], Max(limits.COMMITTEE_MAX)]
    committed: U8
    revealed: U8
    outcome: U8 | None
    distance_ppb: U64
    round_starts: Annotated[tuple[U8, ...], Max(ROUNDS_MAX - 1)]
    point: U64 | None = None
    paused: U64 = 0

    @property
    def round_start(self) -> int:
        """The index in the committee at which the last round begins."""
        return self.round_starts[-1] if self.round_starts else 0


@record
class AuditPlan:
    """The most nmyl that an epoch's workers and its audits may earn, and the number of workers in the draw."""

    epoch: U64
    workers: U32
    for_workers: Balance
    for_verifiers: Balance


@record
class Audit:
    """A worker drawn to prove its capacity. `reward` is its part at a full score, `bounty` its committee's part."""

    worker: PublicKey
    epoch: U64
    reward: Balance
    bounty: Balance


@record
class Reveal:
    """What a verifier revealed (see RevealVerdict)."""

    outcome: U8
    distance_ppb: U64
    token_mismatches: U32
    fingerprint: Annotated[bytes, Fixed(limits.FINGERPRINT_BYTES)]


params: StorageValue[InferenceParams] = StorageValue("inference.params", InferenceParams)
models: StorageMap[Model] = StorageMap("inference.model", (Hash32,), Model)
manifests: StorageMap[Manifest] = StorageMap("inference.manifest", (Hash32,), Manifest)
workers: StorageMap[Worker] = StorageMap("inference.worker", (PublicKey,), Worker)
left_ranges: StorageMap[LeftRange] = StorageMap("inference.left_range", (PublicKey,), LeftRange)
workers_by_model = StorageSet("inference.worker_by_model", (Hash32, PublicKey))
workers_by_operator = StorageSet("inference.worker_by_operator", (AccountId, PublicKey))
verifiers = StorageSet("inference.verifier", (Hash32, AccountId))
verifier_models = StorageSet("inference.verifier_model", (AccountId, Hash32))
"""`verifiers` by operator. While an operator has any, a deadline asks whether it is still a candidate."""

sessions: StorageMap[Session] = StorageMap("inference.session", (Hash32,), Session)
sessions_by_client = StorageSet("inference.session_by_client", (AccountId, Hash32))
requests: StorageMap[Request] = StorageMap("inference.request", (Hash32,), Request)
requests_by_session: StorageMap[bytes] = StorageMap("inference.request_by_session", (Hash32, U32), Hash32)
"""Requests that are not forgotten yet, by their (first) sequence number."""
sequences_used: StorageMap[bytes] = StorageMap(
    "inference.sequences_used", (Hash32, U32), Annotated[bytes, Fixed(SEQUENCES_CHUNK // 8)]
)
"""Bit n of chunk c: whether number c x 1024 + n of the session is settled. Bits count from the lowest of byte 0."""
challenges: StorageMap[Challenge] = StorageMap("inference.challenge", (Hash32,), Challenge)
open_challenges = StorageSet("inference.open_challenge", (AccountId, Hash32))
commitments: StorageMap[bytes] = StorageMap("inference.commitment", (Hash32, AccountId), Hash32)
silences: StorageMap[int] = StorageMap("inference.silence", (AccountId,), U32)
equivocations = StorageSet("inference.equivocation", (PublicKey, Hash32, U8, U16, U8))
reveals: StorageMap[Reveal] = StorageMap("inference.reveal", (Hash32, AccountId), Reveal)
roster: StorageMap[bytes] = StorageMap("inference.roster", (U32,), PublicKey)
roster_numbers: StorageMap[int] = StorageMap("inference.roster_number", (PublicKey,), U32)
roster_size: StorageValue[int] = StorageValue("inference.roster_size", U32, 0)
scores: StorageMap[int] = StorageMap("inference.score", (PublicKey,), U16)
audit_plans: StorageMap[AuditPlan] = StorageMap("inference.audit_plan", (Hash32,), AuditPlan)
audits: StorageMap[Audit] = StorageMap("inference.audit", (Hash32,), Audit)
open_audits = StorageSet("inference.open_audit", (PublicKey, Hash32))
absence_reports: StorageMap[int] = StorageMap("inference.absence_report", (PublicKey, AccountId), U64)
"""The block from which a verifier's report about a worker counts no more."""
jails: StorageMap[int] = StorageMap("inference.jail", (AccountId,), U64)
due = StorageSet("inference.due", (U64, U8, Hash32))
waiting_draws: StorageMap[int] = StorageMap("inference.waiting_draw", (Hash32,), U64)
"""Requests whose draw waits for more proposers, with the last block in which they could change."""
due_from: StorageValue[int] = StorageValue("inference.due_from", U64, 0)
"""The lowest height at which something due is left over from blocks before; 0 when nothing is."""


def read_jail(state: StateReader, operator: bytes) -> int:
    """The block from which the operator's workers are paid again; 0 when it was never jailed.

    A jail binds the operator: it holds for all its worker keys, also those it registers later.
    """
    return jails.read(state, operator) or 0
