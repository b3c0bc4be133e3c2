"""A validator set as consensus uses it: the rules for a well-formed set, power by key, and the two thresholds.

The only place where powers are compared with fractions of the total.
"""

from __future__ import annotations

import itertools

from consensus.bft.errors import ValidatorSetError
from proto_specs.types.chain import ValidatorSet


def validate_validator_set(validators: ValidatorSet) -> None:
    """Raises ValidatorSetError unless there is a member, keys rise strictly and every power is positive."""
    if not validators.members:
        raise ValidatorSetError("the set is empty")
    keys = [member.key for member in validators.members]
    for before, after in itertools.pairwise(keys):
        if before >= after:
            raise ValidatorSetError(f"key {after.hex()[:16]}… does not rise above {before.hex()[:16]}…")
    for member in validators.members:
        if member.power == 0:
            raise ValidatorSetError(f"member {member.key.hex()[:16]}… has no power")


class PowerTable:
    """Voting power by key, and the total."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._powers = {member.key: member.power for member in validators.members}
        self.total = sum(self._powers.values())

    def __contains__(self, key: bytes) -> bool:
        return key in self._powers

    def get_power(self, key: bytes) -> int:
        """Power of a member; 0 for anyone else."""
        return self._powers.get(key, 0)

    def is_quorum(self, power: int) -> bool:
        """More than two thirds. Any two quorums share a correct process while less than a third is faulty."""
        return 3 * power > 2 * self.total

    def is_third(self, power: int) -> bool:
        """More than one third. At least one correct process is part of it."""
        return 3 * power > self.total
