"""A world of eight verifiers with one challenge drawn, and what each of a committee says about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consensus.runtime.inference import queries
from consensus.runtime.inference.events import ChallengeContested
from consensus.runtime.inference.state import Challenge
from proto_specs.types.calls import Outcome
from tests.unit.consensus.runtime.inference.inference_world import World, pick

NAMES = ("alice", "eve", "ferdie", "george", "heidi", "ivan", "judy", "kim")


class Court:
    """The challenge of stage 0 of the first request; `who` is every verifier by account."""

    def __init__(self, **params: int) -> None:
        defaults = {"committee_size": 3, "fails_min": 2, "contest_committee_size": 4}
        self.world = World(validators=NAMES, **{**defaults, **params})
        self.chain = self.world.chain
        self.drawn = self.world.settle_and_draw(self.world.settle())[0]
        self.who = {verifier.account: verifier for verifier in self.world.verifiers}

    def judge(self, committee: Sequence[bytes], outcomes: Sequence[Outcome | None]) -> list[Any]:
        """Commit, wait until everybody may reveal, reveal: the challenge's events. None is silence."""
        events: list[Any] = []
        votes = [
            (self.who[account], *self.world.verdict(self.drawn.challenge, self.who[account], outcome))
            for account, outcome in zip(committee, outcomes, strict=True)
            if outcome is not None
        ]
        for verifier, commit, _ in votes:
            self.chain.expect_ok(verifier, commit)
        challenge = self.read()
        if len(votes) < len(committee):
            deadline = challenge.commit_deadline if votes else challenge.reveal_deadline
            events += self.chain.skip(deadline - self.chain.height)
        for verifier, _, reveal in votes:
            events += self.chain.expect_ok(verifier, reveal).events
        return self.pick_own(events)

    def skip(self, blocks: int) -> list[Any]:
        """Wait; the challenge's events."""
        return self.pick_own(self.chain.skip(blocks))

    def pick_own(self, events: list[Any]) -> list[Any]:
        """Events of the challenge."""
        return [one for one in events if getattr(one, "challenge", None) == self.drawn.challenge]

    def draw(self) -> tuple[bytes, ...]:
        """The next round's members."""
        (drawn,) = pick(self.skip(2), ChallengeContested)
        return tuple(drawn.committee)

    def read(self) -> Challenge:
        """The challenge as it stands."""
        found = queries.read_challenge(self.chain.state, self.drawn.challenge)
        assert found is not None
        return found
