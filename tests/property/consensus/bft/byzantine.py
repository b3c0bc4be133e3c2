"""Faulty processes for the network: one that contradicts itself wherever it can. Knows the rotation, obeys no rule."""

from __future__ import annotations

from consensus.bft.proposer import ProposerRotation
from proto_specs.types.chain import Proposal, Vote, VoteKind, compute_block_hash
from tests.property.consensus.bft.network import Faulty, Message, Network
from tests.unit.consensus.bft.builders import make_proposal, make_vote

DISTANT_ROUND = 1_000


class Equivocator(Faulty):
    """Tells everyone something else: votes for any block it saw, nil or nonsense; proposes two blocks, some invalid."""

    def __init__(self, network: Network, index: int) -> None:
        super().__init__(network, index)
        self._done: set[tuple[int, int, int]] = set()
        self._hashes: dict[int, list[bytes | None]] = {}
        self._rotations = [ProposerRotation.start(network.validators)]

    def receive(self, message: Message) -> None:
        """On the first message of each slot it lies about that slot."""
        hashes = self._hashes.setdefault(message.height, [None, bytes(31) + b"\x01"])
        named = message.block_hash if isinstance(message, Vote) else compute_block_hash(message.block.header)
        if named not in hashes:
            hashes.append(named)
        kind = int(message.kind) if isinstance(message, Vote) else 0
        if message.round >= DISTANT_ROUND or (message.height, message.round, kind) in self._done:
            return
        self._done.add((message.height, message.round, kind))
        if isinstance(message, Proposal):
            self._vote(message.height, message.round, VoteKind.PREVOTE)
        else:
            self._vote(message.height, message.round, VoteKind.PRECOMMIT)
            self._vote(message.height, message.round, VoteKind.PREVOTE)
        self._propose(message.height, message.round)
        self._propose(message.height, message.round + 1)

    def _vote(self, height: int, round_: int, kind: VoteKind) -> None:
        dice = self.network.random
        for target in self.network.nodes:
            for _ in range(dice.randint(0, 2)):
                block_hash = dice.choice(self._hashes[height])
                self.network.send(self.index, target, make_vote(kind, height, round_, block_hash, self.key))
            if dice.random() < 0.1:
                far = make_vote(kind, height, DISTANT_ROUND + dice.randrange(100), None, self.key)
                self.network.send(self.index, target, far)

    def _propose(self, height: int, round_: int) -> None:
        dice = self.network.random
        while len(self._rotations) < height:
            self._rotations.append(self._rotations[-1].advance())
        if self._rotations[height - 1].get_proposer(round_) != self.key:
            return
        blocks = [self.network.make_block(height, self.key, is_valid) for is_valid in (True, True, False)]
        for target in self.network.nodes:
            valid_round = dice.choice([None, None, dice.randrange(round_)]) if round_ else None
            proposal = make_proposal(height, round_, valid_round, dice.choice(blocks), self.key)
            self.network.send(self.index, target, proposal)
