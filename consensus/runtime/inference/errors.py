"""Errors of inference calls."""

from __future__ import annotations

from consensus.runtime.errors import CallError
from proto_specs.types.calls import ModuleIndex


class InferenceCallError(CallError):
    """Root of this module's errors."""

    module = ModuleIndex.INFERENCE


class BadManifest(InferenceCallError):
    """The bytes are no canonical manifest, or it contradicts itself."""


class ModelExists(InferenceCallError):
    """The manifest is on chain already."""


class UnknownModel(InferenceCallError):
    """No model has this id."""


class BadWorkerKeyProof(InferenceCallError):
    """The worker key did not sign the operator's account."""


class WorkerExists(InferenceCallError):
    """The worker key was registered before, by this or another account."""


class UnknownWorker(InferenceCallError):
    """No worker has this key."""


class NotOperator(InferenceCallError):
    """The signer does not operate this worker."""


class BadRange(InferenceCallError):
    """The range is not within the model's layers."""


class BondTooLow(InferenceCallError):
    """The bond is below the minimum bond of a worker."""


class ZeroPrice(InferenceCallError):
    """A worker asks for at least 1 nmyl per layer and token: free work would earn a record without costing anything."""


class WorkerNotActive(InferenceCallError):
    """The worker retired, was ejected, has its bond released, or is absent."""


class NotEligible(InferenceCallError):
    """The signer is no elected verifier of the worker's model, or operates the worker."""


class StagesUnresolved(InferenceCallError):
    """Stages that the worker served wait for their draw or their verdict, in which it answers for its layers."""


class AuditOpen(InferenceCallError):
    """The worker was drawn to prove the layers that it holds, and no verdict was reached yet."""


class MovedLately(InferenceCallError):
    """Requests over the range that the worker left last may still be settled."""


class NotVerifier(InferenceCallError):
    """The account is no verifier of the model."""


class AlreadyLeaving(InferenceCallError):
    """The verifier has unregistered, and is drawn until its notice ends."""


class CommitteeTooSmall(InferenceCallError):
    """Parties and neighbours on the path leave too few verifiers, or too little stake, to judge one of the stages."""


class OperatorNotElected(InferenceCallError):
    """The signer operates no validator of the elected set."""


class AlreadyVerifier(InferenceCallError):
    """The signer verifies this model already."""


class DepositTooLow(InferenceCallError):
    """The deposit is below the minimum deposit of a session."""


class DepositTooHigh(InferenceCallError):
    """With this amount the session's deposit would no longer be a 64-bit number."""


class NoRequests(InferenceCallError):
    """A session must be for at least one request."""


class RequestsBeyondNumbers(InferenceCallError):
    """A session is for no more requests than there are sequence numbers (`SESSION_SEQUENCES_MAX`)."""


class UnknownSession(InferenceCallError):
    """No session has this id."""


class NotClient(InferenceCallError):
    """The signer did not open this session."""


class SessionNotOpen(InferenceCallError):
    """The client gave notice already, or the session is closed."""


class EscrowReturned(InferenceCallError):
    """The session's escrow was returned: it settles no further request."""


class WrongChain(InferenceCallError):
    """The order names another genesis."""


class BadOrderSignature(InferenceCallError):
    """The session key did not sign the order."""


class WrongModel(InferenceCallError):
    """The order's model is not the session's."""


class SequenceUsed(InferenceCallError):
    """A request with this sequence number was settled before."""


class BadPath(InferenceCallError):
    """The path names a range that its worker does not hold."""


class PriceTooHigh(InferenceCallError):
    """A stage asks more than the session allows."""


class PriceTooLow(InferenceCallError):
    """A stage is priced below its worker's ask."""


class BadOrder(InferenceCallError):
    """Nobody could compute or judge the order: `proto_specs.order_rules` refuses it."""


class BadSlice(InferenceCallError):
    """The order's slice is beyond what the session may promise, or smaller than the price."""


class BadVoucher(InferenceCallError):
    """The voucher is for another request, not signed by the session key, or for more tokens than ordered."""


class BadStageRoots(InferenceCallError):
    """A stage's roots are missing, unsigned, of the wrong size, or do not meet the next stage's."""


class BadStatement(InferenceCallError):
    """The statement's totals contradict each other, or its numbers or slices are not in their one form."""


class BadStatementSignature(InferenceCallError):
    """The session key or a worker of the path did not sign the statement."""


class NotParty(InferenceCallError):
    """Only an operator of one of the stages may settle a request."""


class EscrowTooLow(InferenceCallError):
    """The price exceeds the session's remaining escrow: the client promised its slice more than once."""


class ExposureExceeded(InferenceCallError):
    """A worker's unresolved rewards would exceed what its bond covers even at certain challenge."""


class TooManyRequests(InferenceCallError):
    """The session has settled as many requests as it was opened for."""


class UnknownChallenge(InferenceCallError):
    """No challenge has this id."""


class ChallengeClosed(InferenceCallError):
    """The challenge is resolved, or the deadline for this step has passed."""


class NotOnCommittee(InferenceCallError):
    """The signer was not drawn for this challenge."""


class AlreadyCommitted(InferenceCallError):
    """The verifier has committed a verdict already."""


class NotCommitted(InferenceCallError):
    """The verifier has committed no verdict, so it can reveal none."""


class AlreadyRevealed(InferenceCallError):
    """The verifier has revealed its verdict already."""


class TooEarly(InferenceCallError):
    """Other verifiers may still commit, and could copy a verdict revealed now."""


class WrongReveal(InferenceCallError):
    """The reveal does not match the commitment."""


class InconsistentVerdict(InferenceCallError):
    """The outcome contradicts its own numbers."""


class NoEquivocation(InferenceCallError):
    """The leaves are equal, of two slots, or not both signed by the worker in this role."""


class AlreadyReported(InferenceCallError):
    """The worker was slashed for this slot already."""


class NoBond(InferenceCallError):
    """The worker's bond is gone: slashed, or released."""


class NothingToJoin(InferenceCallError):
    """The request is settled and can be joined no more, or has all that was brought already."""


class NoDoublePromise(InferenceCallError):
    """The two promises are one, of two sessions, unsigned, or touch in neither sequence nor slice."""


class AlreadyConvicted(InferenceCallError):
    """The session's client was convicted of a double promise before."""


class EvidenceTooLate(InferenceCallError):
    """The session has ended and the bond that answered for it went back to the client."""


class SessionConvicted(InferenceCallError):
    """A session whose client promised a position twice takes no more money."""
