"""Why a call fails, why a transaction cannot be in a block, and why a block cannot be executed."""

from __future__ import annotations

from typing import Any, ClassVar

from proto_specs.errors import MyelinError
from proto_specs.types.calls import ModuleIndex


class RuntimeRefusal(MyelinError):
    """Root of everything the runtime refuses. Never raised for a bug of ours."""


class CallError(RuntimeRefusal):
    """A call failed: its fee is charged and nothing else happens. The class name is the error's name on chain."""

    module: ClassVar[ModuleIndex]
    item: int | None = None
    """Index from 0 of the call that failed within a batch; None outside a batch."""

    @property
    def name(self) -> str:
        """The name in the receipt."""
        return type(self).__name__


class BlockError(RuntimeRefusal):
    """The whole block is invalid: no correct node can have voted for it."""


class InvalidTransaction(RuntimeRefusal):
    """A transaction that cannot be in the next block. `reason` and `details` are for machines, the text for people."""

    reason: ClassVar[str]

    def __init__(self, text: str, **details: Any) -> None:
        super().__init__(text)
        self.details = details


class TooLarge(InvalidTransaction):
    """The transaction has more bytes than a transaction, or more weight than a block, may have."""

    reason = "TooLarge"


class StaleNonce(InvalidTransaction):
    """The nonce was used already."""

    reason = "StaleNonce"


class FutureNonce(InvalidTransaction):
    """The nonce is ahead of the account's: earlier transactions are missing."""

    reason = "FutureNonce"


class BadSignature(InvalidTransaction):
    """The signer did not sign this for this chain, runtime version and birth block."""

    reason = "BadSignature"


class Expired(InvalidTransaction):
    """The last block in which the transaction was valid has passed."""

    reason = "Expired"


class NotYetBorn(InvalidTransaction):
    """The birth block is the current block or a later one."""

    reason = "NotYetBorn"


class UnknownBirth(InvalidTransaction):
    """The state does not know the birth block's hash (pruned or never known), or the period exceeds the window."""

    reason = "UnknownBirth"


class CannotPayFee(InvalidTransaction):
    """The free balance is below fee plus tip."""

    reason = "CannotPayFee"


class BlockFull(InvalidTransaction):
    """This block has no room left for the transaction; the next block may have."""

    reason = "BlockFull"


class Misplaced(BlockFull):
    """The call fails, so that it has no place in a block's reserved part, and no other room is left in this block."""

    reason = "Misplaced"
