"""The Tendermint state machine (arXiv 1807.04938, algorithm 1): inputs in, effects out. No IO, clock, randomness, keys."""

from __future__ import annotations

from consensus.bft.effects import Effect
from consensus.bft.inputs import Input
from consensus.bft.timeouts import Step, Timeouts
from proto_specs.types.chain import Proposal, Vote


class BftCore:
    """One process of the paper. Not thread-safe; feed it one input at a time and perform the effects in order.

    `height`, `round` and `step` are for reading: status pages and gossip. Before the first `StartHeight` height is 0.
    """

    height: int
    round: int
    step: Step

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts

    def handle(self, event: Input) -> list[Effect]:
        """Takes one input in and returns what to do now. Never raises for anything a peer can send."""
        raise NotImplementedError

    def get_proposer(self, round_: int) -> bytes:
        """Key of the proposer of `round_` at this height."""
        raise NotImplementedError

    def get_proposal(self, round_: int) -> Proposal | None:
        """The proposal held for `round_`, for gossip to peers that lack it."""
        raise NotImplementedError

    def get_votes(self, round_: int) -> tuple[Vote, ...]:
        """Every vote counted in `round_`, for gossip to peers that lack them. Includes counted double votes."""
        raise NotImplementedError
