"""What the BFT half of consensus rejects from outside. Knows no caller."""

from __future__ import annotations

from proto_specs.errors import ProtocolError


class CommitError(ProtocolError):
    """A commit does not prove that more than two thirds of the power decided on the expected block."""


class EvidenceError(ProtocolError):
    """A pair of votes or proposals does not prove double-signing."""


class ValidatorSetError(ProtocolError):
    """A validator set is empty, out of order, or has a member without power."""
