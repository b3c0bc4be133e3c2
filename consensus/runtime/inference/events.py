"""Events of the inference module. They name every party and every amount, in nmyl."""

from __future__ import annotations

from typing import Annotated

from consensus.runtime.inference.absence_events import AbsenceEvent
from consensus.runtime.inference.committee_events import CommitteeEvent
from consensus.runtime.inference.move_events import WorkerMoved
from consensus.runtime.inference.promise_events import PromiseEvent
from consensus.runtime.inference.statement_events import StatementSettled
from proto_specs.codec import U8, U16, U32, U64, Max, variant
from proto_specs.limits import COMMITTEE_MAX
from proto_specs.types.common import AccountId, Balance, Hash32, PublicKey


@variant(0x0401)
class ModelRegistered:
    """A manifest is on chain under this id."""

    model: Hash32
    owner: AccountId


@variant(0x0402)
class WorkerRegistered:
    """A worker for layers [start, end) of a model bonded and may be routed to."""

    worker: PublicKey
    operator: AccountId
    model: Hash32
    start: U16
    end: U16
    bond: Balance


@variant(0x0403)
class WorkerUpdated:
    """The worker announced itself anew: its addresses or what it asks, nmyl per layer and token."""

    worker: PublicKey
    operator: AccountId
    prefill_price: Balance
    decode_price: Balance


@variant(0x0404)
class WorkerRetired:
    """The worker takes no new work; its bond is released at `release_height` or when nothing is unresolved."""

    worker: PublicKey
    operator: AccountId
    release_height: U64


@variant(0x0405)
class WorkerReleased:
    """The bond of a retired or ejected worker became free balance."""

    worker: PublicKey
    operator: AccountId
    bond: Balance


@variant(0x0406)
class WorkerSlashed:
    """A stage was proven wrong. amount = compensation (to the client) + bounty (to verifiers) + burned."""

    worker: PublicKey
    operator: AccountId
    request: Hash32
    stage: U8
    client: AccountId
    amount: Balance
    compensation: Balance
    bounty: Balance
    burned: Balance


@variant(0x0407)
class WorkerEjected:
    """The worker's bond fell below the minimum: the worker is ejected, and the rest of its bond is unbonding."""

    worker: PublicKey
    operator: AccountId
    bond: Balance
    release_height: U64


@variant(0x0408)
class VerifierRegistered:
    """An elected validator declared that it verifies the model."""

    model: Hash32
    verifier: AccountId


@variant(0x0409)
class SessionOpened:
    """`deposit` is escrowed until the session closes, at `expiry_height` at the latest."""

    session: Hash32
    client: AccountId
    model: Hash32
    deposit: Balance
    expiry_height: U64


@variant(0x041E)
class SessionToppedUp:
    """`amount` more is escrowed, and `deposit` in all has been."""

    session: Hash32
    client: AccountId
    amount: Balance
    deposit: Balance


@variant(0x040A)
class SessionClosing:
    """The client gave notice: settlements are accepted before block `close_height`."""

    session: Hash32
    client: AccountId
    close_height: U64


@variant(0x040B)
class SessionClosed:
    """The rest of the escrow went back to the client."""

    session: Hash32
    client: AccountId
    refund: Balance


@variant(0x040C)
class RequestSettled:
    """A request is committed under one `root` over every stage's signed roots; the draw is in block `draw_height`."""

    request: Hash32
    session: Hash32
    model: Hash32
    client: AccountId
    settler: AccountId
    prompt_tokens: U32
    tokens: U32
    windows: U16
    price: Balance
    root: Hash32
    draw_height: U64


@variant(0x040D)
class ChallengeDrawn:
    """The beacon chose this stage and window, or a statement's `point`; the committee commits, then reveals."""

    challenge: Hash32
    request: Hash32
    stage: U8
    worker: PublicKey
    window: U16
    committee: Annotated[tuple[AccountId, ...], Max(COMMITTEE_MAX)]
    commit_deadline: U64
    reveal_deadline: U64
    point: U64 | None


@variant(0x040E)
class CommitteeEmpty:
    """The stage was drawn but cannot be verified: too few elected, registered verifiers may judge it, or are free."""

    request: Hash32
    stage: U8
    worker: PublicKey


@variant(0x040F)
class VerdictCommitted:
    """A verifier committed to a verdict that is still hidden."""

    challenge: Hash32
    verifier: AccountId


@variant(0x0410)
class VerdictRevealed:
    """A verifier's verdict. Distances are parts per billion (fingerprint.md)."""

    challenge: Hash32
    verifier: AccountId
    outcome: U8
    distance_ppb: U64
    threshold_ppb: U64
    token_mismatches: U32


@variant(0x0411)
class ChallengeResolved:
    """The committee's outcome; `distance_ppb` is the largest among the verdicts that carried it."""

    challenge: Hash32
    request: Hash32
    stage: U8
    worker: PublicKey
    outcome: U8
    distance_ppb: U64
    threshold_ppb: U64


@variant(0x0412)
class StagePaid:
    """The operator received the worker's part of a stage's price. Not `challenged`: paid after the draw, unverified."""

    request: Hash32
    stage: U8
    worker: PublicKey
    operator: AccountId
    amount: Balance
    challenged: bool


@variant(0x0413)
class FeeBurned:
    """This part of a stage's price left the issuance (or a refund beyond the whole price, after a slash)."""

    request: Hash32
    stage: U8
    amount: Balance


@variant(0x0414)
class VerifierPaid:
    """A verifier received its share of a price or of a bounty."""

    challenge: Hash32
    verifier: AccountId
    amount: Balance


@variant(0x0415)
class VerificationPoolPaid:
    """The verification share of an undrawn stage went into the pool."""

    request: Hash32
    stage: U8
    amount: Balance


@variant(0x0416)
class StageRefunded:
    """A stage's price went back to the client."""

    request: Hash32
    stage: U8
    client: AccountId
    amount: Balance


@variant(0x0417)
class RequestResolved:
    """Every stage of the request is resolved; `returned` is what the client got back, compensation included."""

    request: Hash32
    session: Hash32
    price: Balance
    returned: Balance


@variant(0x0418)
class WorkerJailed:
    """Withheld too often: settlements of the operator's workers before block `until` are refunded."""

    worker: PublicKey
    operator: AccountId
    until: U64


@variant(0x0419)
class WorkerEquivocated:
    """The worker signed two leaves for one slot. amount = bounty (to the reporter) + burned."""

    worker: PublicKey
    operator: AccountId
    request: Hash32
    boundary: U8
    window: U16
    is_output: bool
    reporter: AccountId
    amount: Balance
    bounty: Balance
    burned: Balance


@variant(0x041A)
class ChallengeContested:
    """Contradiction or silence prevented a verdict: more verifiers are drawn, and all rounds are counted together."""

    challenge: Hash32
    request: Hash32
    stage: U8
    committee: Annotated[tuple[AccountId, ...], Max(COMMITTEE_MAX)]
    commit_deadline: U64
    reveal_deadline: U64


@variant(0x041B)
class VerifierSilent:
    """The verifier revealed nothing in its round, for the `count`th time; `burned` of its stake is gone."""

    challenge: Hash32
    verifier: AccountId
    count: U32
    burned: Balance


@variant(0x041C)
class AuditDrawn:
    """The beacon drew a worker to prove its capacity, for `reward` nmyl at a full score."""

    audit: Hash32
    worker: PublicKey
    epoch: U64
    reward: Balance
    committee: Annotated[tuple[AccountId, ...], Max(COMMITTEE_MAX)]
    commit_deadline: U64
    reveal_deadline: U64


@variant(0x041D)
class AuditScored:
    """An audit's outcome, the worker's new score, and the nmyl minted for its operator."""

    audit: Hash32
    worker: PublicKey
    operator: AccountId
    outcome: U8
    score_permille: U16
    reward: Balance


InferenceEvent = (
    ModelRegistered
    | WorkerRegistered
    | WorkerUpdated
    | WorkerMoved
    | WorkerRetired
    | WorkerReleased
    | WorkerSlashed
    | WorkerEjected
    | VerifierRegistered
    | SessionOpened
    | SessionToppedUp
    | SessionClosing
    | SessionClosed
    | RequestSettled
    | StatementSettled
    | ChallengeDrawn
    | CommitteeEmpty
    | VerdictCommitted
    | VerdictRevealed
    | ChallengeResolved
    | StagePaid
    | FeeBurned
    | VerifierPaid
    | VerificationPoolPaid
    | StageRefunded
    | RequestResolved
    | WorkerJailed
    | WorkerEquivocated
    | ChallengeContested
    | VerifierSilent
    | AuditDrawn
    | AuditScored
    | AbsenceEvent
    | PromiseEvent
    | CommitteeEvent
)
