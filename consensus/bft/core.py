"""Entry point of the BFT core: routes inputs to the process of the running height. No IO, clock, randomness or keys."""

from __future__ import annotations

from consensus.bft.effects import Effect
from consensus.bft.height import HeightProcess
from consensus.bft.inputs import (
    BlockBuilt,
    BlockValidated,
    Input,
    ProposalReceived,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
)
from consensus.bft.timeouts import Step, Timeouts
from proto_specs.types.chain import Proposal, Vote


class BftCore:
    """One process of the paper. Not thread-safe; feed it one input at a time and perform the effects in order."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._process: HeightProcess | None = None

    def handle(self, event: Input) -> list[Effect]:
        """Takes one input and returns the effects to perform now. Never raises for anything that a peer can send.

        Asserts on bugs of the shell: a height that does not rise, a rotation of another set, a block of another key.
        """
        if isinstance(event, StartHeight):
            assert event.height > self.height, f"height {event.height} does not follow {self.height}"
            self._process = HeightProcess(event, self._timeouts)
            return self._process.start()
        process = self._process
        if process is None:
            return []
        match event:
            case ProposalReceived(proposal):
                return process.receive_proposal(proposal)
            case VoteReceived(vote):
                return process.receive_vote(vote)
            case BlockValidated(block_hash, is_valid):
                return process.learn_validity(block_hash, is_valid)
            case BlockBuilt(height, round_, block):
                return process.take_built(height, round_, block)
            case TimeoutElapsed(timeout):
                return process.elapse(timeout)

    @property
    def height(self) -> int:
        """The running or last decided height; 0 before the first `StartHeight`."""
        return 0 if self._process is None else self._process.height

    @property
    def round(self) -> int:
        """The current round of the height."""
        return 0 if self._process is None else self._process.round

    @property
    def step(self) -> Step:
        """The current step of the round."""
        return Step.PROPOSE if self._process is None else self._process.step

    @property
    def is_decided(self) -> bool:
        """Whether this height's block is decided. After that, only `StartHeight` moves the core on."""
        return self._process is not None and self._process.is_decided

    def get_proposer(self, round_: int) -> bytes:
        """Key of the proposer of `round_` at this height. Only after the first `StartHeight`."""
        assert self._process is not None, "no height has started"
        return self._process.get_proposer(round_)

    def get_proposal(self, round_: int) -> Proposal | None:
        """The proposal held for `round_`, for gossip to peers that lack it."""
        return None if self._process is None else self._process.get_proposal(round_)

    def get_votes(self, round_: int) -> tuple[Vote, ...]:
        """Every vote counted in `round_`, both votes of a double vote included, for gossip to peers that lack them."""
        return () if self._process is None else self._process.get_votes(round_)

    def get_gossip_rounds(self) -> tuple[int, ...]:
        """The rounds whose messages a peer at this height may need: that of the valid value, and the current one."""
        return () if self._process is None else self._process.get_gossip_rounds()
