"""Cores on a network in memory under virtual time and one seed: delay, loss, duplication until it heals, then order.

Plays the shell of each core: signs nothing, but answers every effect, keeps messages of later heights, and now and
then offers another process what that one may lack (the gossip the paper takes for granted).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from consensus.bft.commit import verify_commit_shape
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
from consensus.bft.inputs import (
    BlockBuilt,
    BlockValidated,
    Input,
    ProposalReceived,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
)
from consensus.bft.proposer import ProposerRotation
from consensus.bft.timeouts import Timeouts
from proto_specs.types.chain import Block, Evidence, Proposal, ValidatorSet, Vote, compute_block_hash
from tests.unit.consensus.bft.builders import make_block, make_proposal, make_validators, make_vote

TIMEOUTS = Timeouts(100, 50, 50, 25, 50, 25)
GOSSIP_MS = 40
BAD_SALT = 13
"""Blocks whose salt this divides are invalid."""

Message = Proposal | Vote
Drop = Callable[[int, int, Message], bool]


@dataclass(frozen=True)
class Conditions:
    """How bad the network is before `heal_ms`; afterwards messages take at most 10 ms and none is lost."""

    heal_ms: int = 0
    loss: float = 0.0
    duplication: float = 0.0
    delay_ms_max: int = 10


@dataclass
class Node:
    """A correct process and its shell."""

    index: int
    key: bytes
    core: BftCore
    rotation: ProposerRotation
    held: list[Message] = field(default_factory=list)
    log: list[Input] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    decided: dict[int, Decide] = field(default_factory=dict)
    archive: dict[int, list[Message]] = field(default_factory=dict)
    cast: dict[tuple[int, int, int], bytes | None] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)


class Faulty:
    """A process that does nothing at all. Subclasses do worse."""

    def __init__(self, network: Network, index: int) -> None:
        self.network = network
        self.index = index
        self.key = network.validators.members[index].key

    def receive(self, message: Message) -> None:
        """Reacts to a message."""


class Network:
    """Runs correct nodes (and faulty ones, by index) until all correct ones have decided `heights` blocks."""

    def __init__(
        self,
        powers: tuple[int, ...],
        seed: int,
        conditions: Conditions = Conditions(),
        faulty: Mapping[int, Callable[[Network, int], Faulty]] | None = None,
        drop: Drop | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.conditions = conditions
        self.now_ms = 0
        self.validators: ValidatorSet = make_validators(*powers)
        self._drop = drop
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self.faulty = {index: make(self, index) for index, make in (faulty or {}).items()}
        rotation = ProposerRotation.start(self.validators)
        self.nodes = {
            index: Node(index, member.key, BftCore(TIMEOUTS), rotation)
            for index, member in enumerate(self.validators.members)
            if index not in self.faulty
        }

    def run(self, heights: int, limit_ms: int) -> None:
        """Raises AssertionError when virtual time passes `limit_ms` first."""
        for node in self.nodes.values():
            self._give(node, StartHeight(1, self.validators, node.rotation, node.key))
            self.at(self.random.randrange(GOSSIP_MS), lambda node=node: self._gossip(node))  # type: ignore[misc]
        while any(heights not in node.decided for node in self.nodes.values()):
            self.now_ms, _, action = heapq.heappop(self._queue)
            reached = {node.index: (node.core.height, node.core.round) for node in self.nodes.values()}
            assert self.now_ms < limit_ms, f"no decision by {limit_ms} ms; (height, round) of each node: {reached}"
            action()

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Runs `action` so much later; equal times in the order they were asked for."""
        self._sequence += 1
        heapq.heappush(self._queue, (self.now_ms + delay_ms, self._sequence, action))

    def send(self, source: int, target: int, message: Message) -> None:
        """Delivers, loses or duplicates."""
        healed = self.now_ms >= self.conditions.heal_ms
        if not healed and self.random.random() < self.conditions.loss:
            return
        if self._drop is not None and self._drop(source, target, message):
            return
        copies = 1 if healed or self.random.random() >= self.conditions.duplication else 2
        for _ in range(copies):
            delay = self.random.randint(1, 10 if healed else self.conditions.delay_ms_max)
            self.at(delay, lambda: self._deliver(target, message))

    def send_all(self, source: int, message: Message) -> None:
        """Sends to everyone else."""
        for target in range(len(self.validators.members)):
            if target != source:
                self.send(source, target, message)

    def is_valid(self, block: Block) -> bool:
        """The harness's valid(v)."""
        return block.header.time_ms % BAD_SALT != 0

    def make_block(self, height: int, proposer: bytes, is_valid: bool = True) -> Block:
        """A new block, different from all others."""
        self._sequence += 1
        return make_block(height, proposer, self._sequence * BAD_SALT + (1 if is_valid else 0))

    def _deliver(self, target: int, message: Message) -> None:
        if target in self.faulty:
            self.faulty[target].receive(message)
            return
        node = self.nodes[target]
        if message.height > node.core.height:
            node.held.append(message)
        elif message.height == node.core.height:
            self._give(node, _as_input(message))

    def _give(self, node: Node, event: Input) -> None:
        node.log.append(event)
        effects = node.core.handle(event)
        node.effects += effects
        for effect in effects:
            self._perform(node, effect)

    def _perform(self, node: Node, effect: Effect) -> None:
        match effect:
            case BuildBlock(height, round_):
                block = self.make_block(height, node.key)
                self.at(self.random.randint(0, 20), lambda: self._give(node, BlockBuilt(height, round_, block)))
            case ValidateBlock(block):
                answer = BlockValidated(compute_block_hash(block.header), self.is_valid(block))
                self.at(self.random.randint(0, 20), lambda: self._give(node, answer))
            case Propose(height, round_, valid_round, block):
                self._broadcast(node, make_proposal(height, round_, valid_round, block, node.key))
            case CastVote(kind, height, round_, block_hash):
                slot = (kind, height, round_)
                assert slot not in node.cast, f"node {node.index} votes twice in {slot}"
                node.cast[slot] = block_hash
                self._broadcast(node, make_vote(kind, height, round_, block_hash, node.key))
            case ScheduleTimeout(timeout, delay_ms):
                self.at(delay_ms, lambda: self._give(node, TimeoutElapsed(timeout)))
            case ReportEvidence(evidence):
                node.evidence.append(evidence)
            case Decide(height):
                self._check_decision(effect)
                node.decided[height] = effect
                node.archive[height] = list(_messages_of(node.core))
                self.at(self.random.randint(0, 20), lambda: self._start_next(node))

    def _broadcast(self, node: Node, message: Message) -> None:
        self.at(0, lambda: self._give(node, _as_input(message)))
        self.send_all(node.index, message)

    def _start_next(self, node: Node) -> None:
        node.rotation = node.rotation.advance()
        self._give(node, StartHeight(node.core.height + 1, self.validators, node.rotation, node.key))
        held, node.held = node.held, []
        for message in held:
            self._deliver(node.index, message)

    def _gossip(self, node: Node, turn: int = 0) -> None:
        others = [other for other in self.nodes.values() if other is not node]
        if others:
            peer = others[turn % len(others)]
            is_level = peer.core.height == node.core.height
            for message in _messages_of(node.core) if is_level else node.archive.get(peer.core.height, []):
                self.send(node.index, peer.index, message)
            self.at(GOSSIP_MS, lambda: self._gossip(node, turn + 1))

    def _check_decision(self, decision: Decide) -> None:
        block_hash = compute_block_hash(decision.block.header)
        assert self.is_valid(decision.block), "an invalid block was decided"
        verify_commit_shape(decision.commit, self.validators, decision.height, block_hash)
        for other in self.nodes.values():
            if decision.height in other.decided:
                assert other.decided[decision.height].block == decision.block, f"two blocks at {decision.height}"


def _as_input(message: Message) -> Input:
    return ProposalReceived(message) if isinstance(message, Proposal) else VoteReceived(message)


def _messages_of(core: BftCore) -> Iterable[Message]:
    for round_ in core.get_gossip_rounds():
        proposal = core.get_proposal(round_)
        if proposal is not None:
            yield proposal
        yield from core.get_votes(round_)
