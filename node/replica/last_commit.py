"""The commit that the next block carries: the precommits that decided the head, and all later ones for it.

The first two thirds of the precommits decide a block. If only they counted, the slowest validator would seem absent: it
would earn nothing and be jailed, though it signs every block. So precommits for the head are collected until the next
block is decided.
"""

from __future__ import annotations

from consensus.bft.validators import PowerTable
from proto_specs.types.chain import Commit, CommitSignature, ValidatorSet, Vote, VoteKind


class LastCommit:
    """Holds at most one signature per member; empty before the first block."""

    def __init__(self) -> None:
        self._commit: Commit | None = None
        self._table: PowerTable | None = None
        self._signatures: dict[bytes, bytes] = {}

    def begin(self, commit: Commit | None, deciders: ValidatorSet) -> None:
        """Start from the checked `commit` by which `deciders` decided the newest block; None at genesis."""
        self._commit = commit
        self._table = PowerTable(deciders)
        self._signatures = {} if commit is None else {one.validator: one.signature for one in commit.signatures}

    def lacks(self, vote: Vote) -> bool:
        """Whether the vote, if its signature is valid, makes the commit larger."""
        commit, table = self._commit, self._table
        if commit is None or table is None or vote.kind != VoteKind.PRECOMMIT:
            return False
        if (vote.height, vote.round, vote.block_hash) != (commit.height, commit.round, commit.block_hash):
            return False
        return vote.validator in table and vote.validator not in self._signatures

    def add(self, vote: Vote) -> None:
        """Add a vote over a valid signature. A vote that adds nothing is ignored."""
        if self.lacks(vote):
            self._signatures[vote.validator] = vote.signature

    def get(self) -> Commit | None:
        """The commit with all precommits so far; None at genesis."""
        commit = self._commit
        if commit is None:
            return None
        signatures = tuple(CommitSignature(key, self._signatures[key]) for key in sorted(self._signatures))
        return Commit(commit.height, commit.round, commit.block_hash, signatures)
