"""The commit that the next block carries: what decided the head, and every precommit for it that came later.

A block is decided by the first two thirds. Were their precommits all that counts, whoever is slowest would seem absent:
it would earn nothing and be jailed, though it signs every block. So precommits for the head are taken until the next
block is decided.
"""

from __future__ import annotations

from consensus.bft.validators import PowerTable
from proto_specs.types.chain import Commit, CommitSignature, ValidatorSet, Vote, VoteKind


class LastCommit:
    """One signature a member at most; holds nothing before the first block."""

    def __init__(self) -> None:
        self._commit: Commit | None = None
        self._table: PowerTable | None = None
        self._signatures: dict[bytes, bytes] = {}

    def begin(self, commit: Commit | None, deciders: ValidatorSet) -> None:
        """`commit`, checked, decided the newest block under `deciders`; None at genesis."""
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
        """Take a vote over whose signature is valid; one that adds nothing is passed over."""
        if self.lacks(vote):
            self._signatures[vote.validator] = vote.signature

    def get(self) -> Commit | None:
        """As large as it is by now; None at genesis."""
        commit = self._commit
        if commit is None:
            return None
        signatures = tuple(CommitSignature(key, self._signatures[key]) for key in sorted(self._signatures))
        return Commit(commit.height, commit.round, commit.block_hash, signatures)
