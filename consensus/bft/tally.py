"""Votes of one height, counted by round, kind and block. Knows no steps, locks or blocks. Counts power, not members.

A validator counts once per slot for the "any" thresholds. Its second, conflicting vote is evidence, and still counts
for its own block as the paper counts messages: a polka that a process saw with the help of that vote must be visible
to every process, or a lock on it could never be released. To bound memory, a conflicting vote counts only for a block
(or nil) that more than a third named with their first votes: every quorum contains a third of correct validators, who
vote once, and at most two blocks can have a third each. One more conflicting vote per validator waits for that.
"""

from __future__ import annotations

from collections.abc import Iterator

from consensus.bft.evidence import make_duplicate_vote
from consensus.bft.validators import PowerTable
from proto_specs.types.chain import CommitSignature, DuplicateVote, Vote, VoteKind


class VoteTally:
    """Votes of one kind in one round."""

    def __init__(self, table: PowerTable) -> None:
        self._table = table
        self._first: dict[bytes, Vote] = {}
        self._waiting: dict[bytes, Vote] = {}
        self._conflicting: dict[tuple[bytes, bytes | None], Vote] = {}
        self._first_power: dict[bytes | None, int] = {}
        self._power: dict[bytes | None, int] = {}
        self._any_power = 0

    def add(self, vote: Vote) -> DuplicateVote | None:
        """Counts a member's vote; returns evidence the first time this validator contradicts itself in this slot."""
        first = self._first.get(vote.validator)
        if first is None:
            self._add_first(vote)
            return None
        if first.block_hash == vote.block_hash:
            return None
        if self._table.is_third(self._first_power.get(vote.block_hash, 0)):
            self._add_conflicting(vote)
        if vote.validator in self._waiting:
            return None
        self._waiting[vote.validator] = vote
        return make_duplicate_vote(first, vote)

    def __contains__(self, validator: bytes) -> bool:
        """Whether this validator has voted here."""
        return validator in self._first

    def has_quorum(self, block_hash: bytes | None) -> bool:
        """Whether more than two thirds voted for this block (None: for nil)."""
        return self._table.is_quorum(self._power.get(block_hash, 0))

    def has_any_quorum(self) -> bool:
        """Whether more than two thirds voted at all."""
        return self._table.is_quorum(self._any_power)

    def get_power(self, block_hash: bytes | None) -> int:
        """Power counted for this block (None: for nil)."""
        return self._power.get(block_hash, 0)

    def get_votes(self) -> tuple[Vote, ...]:
        """Every vote counted, in order of arrival, conflicting ones last."""
        return (*self._first.values(), *self._conflicting.values())

    def get_signatures(self, block_hash: bytes) -> tuple[CommitSignature, ...]:
        """Signatures counted for this block, sorted by key."""
        votes = [vote for vote in self.get_votes() if vote.block_hash == block_hash]
        return tuple(CommitSignature(one.validator, one.signature) for one in sorted(votes, key=lambda v: v.validator))

    def _add_first(self, vote: Vote) -> None:
        power = self._table.get_power(vote.validator)
        self._first[vote.validator] = vote
        self._any_power += power
        self._first_power[vote.block_hash] = self._first_power.get(vote.block_hash, 0) + power
        self._power[vote.block_hash] = self._power.get(vote.block_hash, 0) + power
        if self._waiting and self._table.is_third(self._first_power[vote.block_hash]):
            for one in self._waiting.values():
                if one.block_hash == vote.block_hash:
                    self._add_conflicting(one)

    def _add_conflicting(self, vote: Vote) -> None:
        key = (vote.validator, vote.block_hash)
        if key not in self._conflicting:
            self._conflicting[key] = vote
            self._power[vote.block_hash] += self._table.get_power(vote.validator)


class RoundTally:
    """The prevotes and precommits of one round, and the power of every validator heard in it."""

    def __init__(self, table: PowerTable) -> None:
        self.prevotes = VoteTally(table)
        self.precommits = VoteTally(table)
        self.senders_power = 0


class HeightTally:
    """All rounds of a height, with the facts that the rules ask for already computed."""

    def __init__(self, table: PowerTable) -> None:
        self._table = table
        self._rounds: dict[int, RoundTally] = {}
        self.polkas: dict[int, bytes] = {}
        """Round -> block with a quorum of prevotes."""
        self.decisions: dict[int, bytes] = {}
        """Round -> block with a quorum of precommits."""
        self.third_round_max = -1
        """The highest round in which more than a third of the power was heard; -1 for none."""

    def add(self, vote: Vote) -> DuplicateVote | None:
        """Counts a vote of this height by a member, of kind PREVOTE or PRECOMMIT."""
        tally = self._get_round(vote.round)
        if vote.validator not in tally.prevotes and vote.validator not in tally.precommits:
            tally.senders_power += self._table.get_power(vote.validator)
            if self._table.is_third(tally.senders_power):
                self.third_round_max = max(self.third_round_max, vote.round)
        is_prevote = vote.kind == VoteKind.PREVOTE
        votes, quorums = (tally.prevotes, self.polkas) if is_prevote else (tally.precommits, self.decisions)
        evidence = votes.add(vote)
        if vote.block_hash is not None and votes.has_quorum(vote.block_hash):
            quorums.setdefault(vote.round, vote.block_hash)
        return evidence

    def is_backed(self, block_hash: bytes) -> bool:
        """Whether this block has a quorum of prevotes or precommits in some round."""
        return block_hash in self.polkas.values() or block_hash in self.decisions.values()

    def get_prevotes(self, round_: int) -> VoteTally:
        """Prevotes of a round; an empty tally when none arrived."""
        return self._get_round(round_).prevotes

    def get_precommits(self, round_: int) -> VoteTally:
        """Precommits of a round; an empty tally when none arrived."""
        return self._get_round(round_).precommits

    def _get_round(self, round_: int) -> RoundTally:
        found = self._rounds.get(round_)
        if found is None:
            found = self._rounds[round_] = RoundTally(self._table)
        return found


class DistantVotes:
    """The newest vote per validator of rounds too far ahead to be tallied, for line 55.

    Without these votes a process cut off for more than `ROUNDS_AHEAD_MAX` rounds could never follow the others again.
    """

    def __init__(self, table: PowerTable) -> None:
        self._table = table
        self._newest: dict[bytes, Vote] = {}

    def add(self, vote: Vote) -> None:
        """Remembers a member's vote unless a vote of the same or a later round is held."""
        held = self._newest.get(vote.validator)
        if held is None or held.round < vote.round:
            self._newest[vote.validator] = vote

    def find_third_round(self) -> int:
        """The highest round that more than a third of the power has reached with its newest votes; -1 for none."""
        powers: dict[int, int] = {}
        for vote in self._newest.values():
            powers[vote.round] = powers.get(vote.round, 0) + self._table.get_power(vote.validator)
        return max((round_ for round_, power in powers.items() if self._table.is_third(power)), default=-1)

    def take_until(self, round_: int) -> Iterator[Vote]:
        """Removes and yields the votes of rounds up to `round_`."""
        for key in [key for key, vote in self._newest.items() if vote.round <= round_]:
            yield self._newest.pop(key)
