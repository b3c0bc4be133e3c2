"""One core under test, spoken to in short words: blocks by name, validators by number, effects as plain tuples.

A block is named by a letter and the round whose proposer made it: "a0", "b2". Validators are 0, 1, 2, ... in order of
their keys; with equal powers validator r proposes in round r.
"""

from __future__ import annotations

from typing import Any

from consensus.bft.core import BftCore
from consensus.bft.effects import (
    BuildBlock,
    CastVote,
    Decide,
    Effect,
    Propose,
    ReportEvidence,
    ScheduleTimeout,
    ValidateBlock,
)
from consensus.bft.evidence import get_accused
from consensus.bft.inputs import (
    BlockBuilt,
    BlockValidated,
    ProposalReceived,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
)
from consensus.bft.proposer import ProposerRotation
from consensus.bft.timeouts import Step, Timeout, Timeouts
from proto_specs.types.chain import Block, DuplicateVote, Proposal, Vote, VoteKind, compute_block_hash
from tests.unit.consensus.bft.builders import make_block, make_key, make_proposal, make_validators, make_vote

TIMEOUTS = Timeouts(1000, 500, 300, 30, 200, 20)
HEIGHT = 5
Seen = tuple[Any, ...]


class Driver:
    """Drives one `BftCore` at height 5; `seen` holds every effect so far, and each method returns its own effects."""

    def __init__(self, own: int | None = 3, powers: tuple[int, ...] = (1, 1, 1, 1)) -> None:
        self.validators = make_validators(*powers)
        self.core = BftCore(TIMEOUTS)
        self.own = own
        self.seen: list[Seen] = []
        self._names: dict[bytes, str] = {}

    def start(self) -> list[Seen]:
        rotation = ProposerRotation.start(self.validators)
        own_key = None if self.own is None else make_key(self.own + 1)
        return self._note(self.core.handle(StartHeight(HEIGHT, self.validators, rotation, own_key)))

    def block(self, name: str) -> Block:
        made = make_block(HEIGHT, self.core.get_proposer(int(name[1:])), salt=ord(name[0]))
        self._names[compute_block_hash(made.header)] = name
        return made

    def hash(self, name: str | None) -> bytes | None:
        return None if name is None else compute_block_hash(self.block(name).header)

    def propose(self, round_: int, name: str, valid_round: int | None = None) -> list[Seen]:
        proposer = self.core.get_proposer(round_)
        return self.give(make_proposal(HEIGHT, round_, valid_round, self.block(name), proposer))

    def give(self, message: Proposal | Vote) -> list[Seen]:
        event = ProposalReceived(message) if isinstance(message, Proposal) else VoteReceived(message)
        return self._note(self.core.handle(event))

    def validate(self, name: str, is_valid: bool = True) -> list[Seen]:
        block_hash = self.hash(name)
        assert block_hash is not None
        return self._note(self.core.handle(BlockValidated(block_hash, is_valid)))

    def built(self, round_: int, name: str) -> list[Seen]:
        return self._note(self.core.handle(BlockBuilt(HEIGHT, round_, self.block(name))))

    def prevote(self, round_: int, name: str | None, *senders: int) -> list[Seen]:
        return self._vote(VoteKind.PREVOTE, round_, name, senders)

    def precommit(self, round_: int, name: str | None, *senders: int) -> list[Seen]:
        return self._vote(VoteKind.PRECOMMIT, round_, name, senders)

    def elapse(self, step: Step, round_: int, height: int = HEIGHT) -> list[Seen]:
        return self._note(self.core.handle(TimeoutElapsed(Timeout(step, height, round_))))

    def has_seen(self, effect: Seen) -> bool:
        return effect in self.seen

    def _vote(self, kind: VoteKind, round_: int, name: str | None, senders: tuple[int, ...]) -> list[Seen]:
        block_hash = self.hash(name)
        effects: list[Seen] = []
        for sender in senders:
            effects += self.give(make_vote(kind, HEIGHT, round_, block_hash, make_key(sender + 1)))
        return effects

    def _note(self, effects: list[Effect]) -> list[Seen]:
        told = [self._tell(effect) for effect in effects]
        self.seen += told
        return told

    def _name(self, block_hash: bytes | None) -> str | None:
        return None if block_hash is None else self._names[block_hash]

    def _name_of(self, block: Block) -> str | None:
        return self._name(compute_block_hash(block.header))

    def _tell(self, effect: Effect) -> Seen:
        match effect:
            case BuildBlock(height, round_):
                assert height == HEIGHT
                return ("build", round_)
            case Propose(height, round_, valid_round, block):
                assert height == HEIGHT
                return ("propose", round_, self._name_of(block), valid_round)
            case ValidateBlock(block):
                return ("validate", self._name_of(block))
            case CastVote(kind, height, round_, block_hash):
                assert height == HEIGHT
                return (kind.name.lower(), round_, self._name(block_hash))
            case ScheduleTimeout(timeout, delay_ms):
                assert timeout.height == HEIGHT
                return ("schedule", timeout.step.name.lower(), timeout.round, delay_ms)
            case Decide(height, round_, block, commit):
                assert (height, round_, HEIGHT) == (commit.height, commit.round, commit.height)
                assert commit.block_hash == compute_block_hash(block.header)
                signers = tuple(int.from_bytes(one.validator[:4], "big") - 1 for one in commit.signatures)
                return ("decide", round_, self._name_of(block), signers)
            case ReportEvidence(evidence):
                accused = int.from_bytes(get_accused(evidence)[:4], "big") - 1
                word = "evidence" if isinstance(evidence, DuplicateVote) else "two proposals"
                return (word, accused, evidence.first.round)
