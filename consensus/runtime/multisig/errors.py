"""Errors of multisig calls. When the approved call itself fails, an event says so instead."""

from __future__ import annotations

from consensus.runtime.errors import CallError
from proto_specs.types.calls import ModuleIndex


class MultisigError(CallError):
    """Root of this module's errors."""

    module = ModuleIndex.MULTISIG


class BadThreshold(MultisigError):
    """The threshold is not from 2 to the number of signatories."""


class TooManySignatories(MultisigError):
    """More signatories, the signer included, than an account may have."""


class SignatoriesOutOfOrder(MultisigError):
    """The other signatories have to be in ascending order, each once."""


class SignerInOthers(MultisigError):
    """The signer is a signatory already and is not named among the others."""


class AlreadyOpen(MultisigError):
    """An operation for this call is open: name the block it was opened in."""


class NotOpen(MultisigError):
    """No operation for this call is open: it ran, was cancelled, or has to be opened first."""


class WrongOpening(MultisigError):
    """The open operation was opened in another block than the one named."""


class OpenedThisBlock(MultisigError):
    """An operation is approved after the block it was opened in, so that its height names it alone."""


class AlreadyApproved(MultisigError):
    """Each signatory approves an operation once."""


class CallNeeded(MultisigError):
    """The last approval has to bring the call: use AsMulti."""


class NotOpener(MultisigError):
    """Only the account that opened an operation may withdraw it."""
