"""Who proposes: stake-weighted rotation by proposer priority, all integer. Knows no round state and no votes.

Each step adds every member's power to its priority, picks the highest (ties: the smaller key) and takes the total
power off the pick. Over time each member is picked in proportion to its power, as evenly spread as integers allow.
A height takes ONE step however many rounds it needs; round r of a height looks r steps further ahead.
Normative with the rounding: proto_specs/consensus.md, "Proposer rotation".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from proto_specs.errors import DecodeError
from proto_specs.limits import PRIORITY_BYTES
from proto_specs.types.chain import ValidatorSet

SPREAD_POWERS_MAX = 2
"""Highest and lowest priority lie at most this many times the total power apart after a change of the set."""


@dataclass(frozen=True, slots=True)
class ProposerRotation:
    """The rotation before a height's step: `priorities[i]` belongs to `validators.members[i]`."""

    validators: ValidatorSet
    priorities: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.priorities) == len(self.validators.members) > 0, "one priority per member, at least one member"

    @classmethod
    def start(cls, validators: ValidatorSet) -> ProposerRotation:
        """The rotation of a chain's first height: every priority zero."""
        return cls(validators, (0,) * len(validators.members))

    def get_proposer(self, round_: int = 0) -> bytes:
        """Key of the proposer of `round_` of this height: the pick of step `round_ + 1`. O(rounds x members)."""
        return _pick_key(self._step_by(round_))

    def list_proposers(self, rounds: int) -> Iterator[bytes]:
        """Keys of the proposers of rounds 0, 1, ... of this height; each costs a step."""
        rotation = self
        for _ in range(rounds):
            yield _pick_key(rotation)
            rotation = rotation._step_by(1)

    def advance(self, heights: int = 1) -> ProposerRotation:
        """The rotation of the height `heights` later, under the same set."""
        return self._step_by(heights)

    def with_validators(self, validators: ValidatorSet) -> ProposerRotation:
        """The same height's rotation under another set: joiners go to the back, then the spread is capped and centred.

        Apply it to the rotation of the first height the new set governs (that is, after `advance`).
        """
        total = sum(member.power for member in validators.members)
        kept = {old.key: one for old, one in zip(self.validators.members, self.priorities, strict=True)}
        back = -(total + total // 8)
        mixed = [kept.get(member.key, back) for member in validators.members]
        return ProposerRotation(validators, tuple(_centre(_cap_spread(mixed, total))))

    def encode_priorities(self) -> bytes:
        """Priorities in member order, 16 bytes each, to be stored beside the set."""
        return b"".join(one.to_bytes(PRIORITY_BYTES, "big", signed=True) for one in self.priorities)

    @classmethod
    def decode(cls, validators: ValidatorSet, data: bytes) -> ProposerRotation:
        """Inverse of `encode_priorities`. Raises DecodeError when the length does not fit the set."""
        if not validators.members or len(data) != PRIORITY_BYTES * len(validators.members):
            raise DecodeError(f"{len(data)} bytes of priorities for {len(validators.members)} validators")
        starts = range(0, len(data), PRIORITY_BYTES)
        return cls(
            validators, tuple(int.from_bytes(data[at : at + PRIORITY_BYTES], "big", signed=True) for at in starts)
        )

    def _step_by(self, steps: int) -> ProposerRotation:
        powers = [member.power for member in self.validators.members]
        total = sum(powers)
        priorities = list(self.priorities)
        for _ in range(steps):
            priorities = [one + power for one, power in zip(priorities, powers, strict=True)]
            priorities[_index_of_highest(priorities)] -= total
        return ProposerRotation(self.validators, tuple(priorities))


def _pick_key(rotation: ProposerRotation) -> bytes:
    members = rotation.validators.members
    raised = [one + member.power for one, member in zip(rotation.priorities, members, strict=True)]
    return members[_index_of_highest(raised)].key


def _index_of_highest(priorities: list[int]) -> int:
    """The first of equals: members are ordered by key, so the smaller key wins."""
    return max(range(len(priorities)), key=lambda index: (priorities[index], -index))


def _cap_spread(priorities: list[int], total: int) -> list[int]:
    """Divides all by the smallest whole number that brings the spread within the cap; floor division."""
    spread = max(priorities) - min(priorities)
    cap = SPREAD_POWERS_MAX * total
    divisor = -(-spread // cap)
    return [one // divisor for one in priorities] if divisor > 1 else priorities


def _centre(priorities: list[int]) -> list[int]:
    """Shifts all so that their sum is at least 0 and less than their number: mean by floor division."""
    mean = sum(priorities) // len(priorities)
    return [one - mean for one in priorities]
