"""Why a light client refuses a block. Each class calls for a different next step."""

from __future__ import annotations

from consensus.light.attack import LightAttack
from proto_specs.errors import ProtocolError


class LightError(ProtocolError):
    """The offered block is not proven to be the chain's."""


class LightBlockInvalid(LightError):
    """A light block contradicts itself or the trusted block: the source that served it lies."""


class TrustExpired(LightError):
    """The trusted block is older than the trusting period: its validators may have left with their stake."""


class NotEnoughTrust(LightError):
    """Too little of the trusted power signed. No source is at fault: a block in between is needed."""

    def __init__(self, trusted_height: int, height: int, power: int, total: int) -> None:
        super().__init__(
            f"of the power trusted at height {trusted_height} {power} of {total} signed block {height}: not a third"
        )
        self.trusted_height = trusted_height
        self.height = height


class HandoverUnproven(LightError):
    """Neighbouring sets share too little power, and no source proves that the first set elected the second."""


class TrustMismatch(LightError):
    """A source has another block at a trusted height: it follows another chain, or the trusted hash is wrong."""


class HeightMissing(LightError):
    """A source does not have a needed block. This proves nothing: ask another source."""


class ForkDetected(LightError):
    """Two blocks of one height are each signed by enough of the trusted power, so more than a third of it lies. Stop.

    `attack` proves it to others.
    """

    def __init__(self, attack: LightAttack) -> None:
        super().__init__(
            f"two blocks at height {attack.first.header.height}, both signed by validators of height "
            f"{attack.common_height}: trust neither, ask people you know for the hash of a block, keep the evidence"
        )
        self.attack = attack
