"""Skipping verification: from a trusted block to a later one, with as few blocks in between as possible. Sans-IO.

`ask` names the next needed answer; the answer, from one source, goes into `take_block` or `take_handover`; when `ask`
is None the target is trusted. Bisection as in Tendermint's light client: a block that too little trusted power signed
waits until a block half-way is verified; between neighbours the trusted state proves which set was elected.
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.light.errors import HandoverUnproven, HeightMissing, LightBlockInvalid, NotEnoughTrust
from consensus.light.verify import Handover, LightParams, Trusted, verify_handover, verify_jump
from proto_specs.types.gossip import LightBlock


@dataclass(frozen=True, slots=True)
class AskBlock:
    """The light block of a height."""

    height: int


@dataclass(frozen=True, slots=True)
class AskHandover:
    """The set that the state after block `height` elected, with its proof."""

    height: int


@dataclass(frozen=True, slots=True)
class SkipStep:
    """A block that the verification passed, with the trust it gives."""

    block: LightBlock
    trusted: Trusted


Ask = AskBlock | AskHandover


class Skipping:
    """One verification run from a trusted block up to a target."""

    def __init__(self, trusted: Trusted, target_height: int, params: LightParams) -> None:
        assert target_height > trusted.height, "the way leads forward"
        self._params = params
        self._trusted = trusted
        self._waiting: list[LightBlock] = []
        self._steps: list[SkipStep] = []
        self.ask: Ask | None = AskBlock(target_height)
        """The next needed answer; None when the target is trusted."""

    @property
    def trusted(self) -> Trusted:
        """The highest block verified so far."""
        return self._trusted

    @property
    def steps(self) -> tuple[SkipStep, ...]:
        """The blocks verified, rising; the last is the target once `ask` is None."""
        return tuple(self._steps)

    def take_block(self, block: LightBlock | None, now_ms: int) -> None:
        """Takes the answer to AskBlock. Raises LightError: the run has then failed, but `trusted` stays valid."""
        assert isinstance(self.ask, AskBlock), "a block was asked for"
        if block is None:
            raise HeightMissing(f"the source has no block {self.ask.height}")
        if block.header.height != self.ask.height:
            raise LightBlockInvalid(f"block {block.header.height} was served for block {self.ask.height}")
        self._waiting.append(block)
        self._go_on(now_ms)

    def take_handover(self, handover: Handover | None, now_ms: int) -> None:
        """Takes the answer to AskHandover. Raises LightError."""
        assert isinstance(self.ask, AskHandover), "a handover was asked for"
        if handover is None:
            raise HandoverUnproven(
                f"two thirds of the validators or more changed after block {self.ask.height}, and the source does not "
                "keep that state: ask an archive node, or name a newer block and its hash"
            )
        self._trusted = verify_handover(self._trusted, handover)
        self._go_on(now_ms)

    def _go_on(self, now_ms: int) -> None:
        while self._waiting:
            block = self._waiting[-1]
            try:
                found = verify_jump(self._trusted, block, self._params, now_ms)
            except NotEnoughTrust:
                between = (self._trusted.height + block.header.height) // 2
                is_next = between == self._trusted.height
                self.ask = AskHandover(between) if is_next else AskBlock(between)
                return
            self._waiting.pop()
            self._trusted = found
            self._steps.append(SkipStep(block, found))
        self.ask = None
