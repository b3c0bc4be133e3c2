"""What a light client refuses, and why. Each class is one reason to go on differently."""

from __future__ import annotations

from consensus.light.attack import LightAttack
from proto_specs.errors import ProtocolError


class LightError(ProtocolError):
    """What was offered is not shown to be the chain's."""


class LightBlockInvalid(LightError):
    """A light block contradicts itself or what is trusted, whatever else is known: whoever served it lies."""


class TrustExpired(LightError):
    """What is trusted is older than the trusting period: its validators may have left with their stake."""


class NotEnoughTrust(LightError):
    """Too little of the trusted power signed: nobody's fault, but a block in between is needed."""

    def __init__(self, trusted_height: int, height: int, power: int, total: int) -> None:
        super().__init__(
            f"of the power trusted at height {trusted_height} {power} of {total} signed block {height}: not a third"
        )
        self.trusted_height = trusted_height
        self.height = height


class HandoverUnproven(LightError):
    """Neighbouring sets share too little, and nobody proves that the one elected the other."""


class TrustMismatch(LightError):
    """A source has another block at a height that is trusted: it is of another chain, or the trusted hash is wrong."""


class HeightMissing(LightError):
    """A source does not have a block that is needed. No proof of anything: ask another source."""


class ForkDetected(LightError):
    """Two blocks of one height, each signed by enough of the trusted power: more than a third of it lies. Stop.

    `attack` proves it to others.
    """

    def __init__(self, attack: LightAttack) -> None:
        super().__init__(
            f"two blocks at height {attack.first.header.height}, both signed by validators of height "
            f"{attack.common_height}: trust neither, ask people you know for the hash of a block, keep the evidence"
        )
        self.attack = attack
