"""How inference calls fail."""

from __future__ import annotations

from consensus.runtime.errors import CallError
from proto_specs.types.calls import ModuleIndex


class InferenceError(CallError):
    """Root of this module's errors."""

    module = ModuleIndex.INFERENCE


class BadManifest(InferenceError):
    """The bytes are no canonical manifest, or it contradicts itself."""


class ModelExists(InferenceError):
    """The manifest is on chain already."""


class UnknownModel(InferenceError):
    """No model has this id."""


class BadKeyProof(InferenceError):
    """The worker key did not sign the operator's account."""


class WorkerExists(InferenceError):
    """The worker key was registered before, by whomever."""


class UnknownWorker(InferenceError):
    """No worker has this key."""


class NotOperator(InferenceError):
    """The signer does not operate this worker."""


class BadRange(InferenceError):
    """Not a range of the model's layers."""


class BondTooLow(InferenceError):
    """Below the minimum bond of a worker."""


class ZeroPrice(InferenceError):
    """A worker asks for at least 1 nmyl per layer and token: free work would earn a record without costing anything."""


class WorkerNotActive(InferenceError):
    """The worker retired, was ejected, or has its bond back."""


class NotElected(InferenceError):
    """The signer operates no validator of the elected set."""


class AlreadyVerifier(InferenceError):
    """The signer verifies this model already."""


class DepositTooLow(InferenceError):
    """Below the minimum deposit of a session."""


class NoRequests(InferenceError):
    """A session for zero requests buys nothing."""


class UnknownSession(InferenceError):
    """No session has this id."""


class NotClient(InferenceError):
    """The signer did not open this session."""


class SessionNotOpen(InferenceError):
    """Notice was given already, or the session is closed."""


class SessionClosed(InferenceError):
    """The escrow went back: nothing can be settled any more."""


class WrongChain(InferenceError):
    """The order names another genesis."""


class BadOrderSignature(InferenceError):
    """The session key did not sign the order."""


class WrongModel(InferenceError):
    """The order's model or service class is not the session's."""


class SequenceUsed(InferenceError):
    """A request with this sequence number was settled before."""


class BadPath(InferenceError):
    """The path does not cover all layers in order, or names a range its worker does not hold."""


class PriceTooHigh(InferenceError):
    """A stage asks more than the session allows."""


class PriceTooLow(InferenceError):
    """A stage is priced below its worker's ask."""


class EmptyPrompt(InferenceError):
    """An order without prompt tokens has no position to compute."""


class BadVoucher(InferenceError):
    """The voucher is for another request, not signed by the session key, or for more tokens than ordered."""


class BadStageRoots(InferenceError):
    """A stage's roots are missing, unsigned, of the wrong size, or do not meet the next stage's."""


class NotParty(InferenceError):
    """Only an operator of one of the stages settles a request."""


class EscrowTooLow(InferenceError):
    """The price is more than the session has left."""


class ExposureExceeded(InferenceError):
    """A worker's unresolved rewards would exceed what its bond covers even at certain challenge."""


class TooManyRequests(InferenceError):
    """The session has settled as many requests as it was opened for."""


class UnknownChallenge(InferenceError):
    """No challenge has this id."""


class ChallengeClosed(InferenceError):
    """The challenge is resolved, or the deadline for this step has passed."""


class NotOnCommittee(InferenceError):
    """The signer was not drawn for this challenge."""


class AlreadyCommitted(InferenceError):
    """A verdict was committed already."""


class NotCommitted(InferenceError):
    """Nothing was committed, so nothing can be revealed."""


class AlreadyRevealed(InferenceError):
    """The verdict was revealed already."""


class TooEarly(InferenceError):
    """Others may still commit: a reveal now could be copied."""


class WrongReveal(InferenceError):
    """Not what was committed to."""


class InconsistentVerdict(InferenceError):
    """The outcome contradicts its own numbers."""


class NoEquivocation(InferenceError):
    """The leaves are equal, of two slots, or not both signed by the worker in this role."""


class AlreadyReported(InferenceError):
    """The worker was slashed for this slot."""


class NoBond(InferenceError):
    """The worker's bond is gone: slashed, or released."""
