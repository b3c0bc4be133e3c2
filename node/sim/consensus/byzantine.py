"""The behaviour of a byzantine validator. It runs a real replica and changes its messages on the way out.

Its key signs anything; other validators' keys sign nothing for it. So it does only what a real attacker with one
validator key, and different messages for different peers, could do.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import replace

from consensus.bft.parts import PartAssembly
from node.signer.signer import Signer
from proto_specs.ed25519 import SigningKey
from proto_specs.hashing import Tag
from proto_specs.types.chain import Proposal, Vote, compute_proposal_bytes, compute_vote_bytes
from proto_specs.types.gossip import ExchangeOffer, ProposalPart, split_proposal


class Behaviour(enum.Enum):
    """The ways to be faulty."""

    SILENT = "silent"
    SELECTIVE = "selective"
    EQUIVOCATE = "equivocate"
    MUTATE = "mutate"
    REPLAY = "replay"
    AMNESIA = "amnesia"
    WITHHOLD = "withhold"


Message = object
Rebuild = Callable[[Proposal], Proposal | None]
"""Another valid block for the same height, unsigned; None when there is none."""


class CarelessSigner(Signer):
    """A liar's signer, which goes on when it sees votes of its key that it did not make."""

    def has_signed(self, vote: Vote) -> bool:
        """Always True: no vote stops this signer."""
        return True


class Liar:
    """Turns each message of a byzantine node into what each peer gets."""

    def __init__(self, behaviour: Behaviour, key: SigningKey, genesis: bytes, dice: random.Random) -> None:
        self.behaviour = behaviour
        self._key = key
        self._genesis = genesis
        self._dice = dice
        self._old: list[Vote] = []

    def spread(self, message: Message, peers: list[str], rebuild: Rebuild) -> list[tuple[str, Message]]:
        """(peer, message) for every outgoing message."""
        everybody = [(peer, message) for peer in peers]
        some = self._dice.sample(peers, self._dice.randint(0, len(peers)))
        match self.behaviour:
            case Behaviour.SILENT:
                return []
            case Behaviour.SELECTIVE:
                return [(peer, message) for peer in some]
            case Behaviour.EQUIVOCATE if isinstance(message, Vote):
                return [(peer, self._contradict(message) if peer in some else message) for peer in peers]
            case Behaviour.EQUIVOCATE if isinstance(message, ProposalPart) and message.index == 0:
                other = rebuild(_join(message))
                if other is None:
                    return everybody
                parts = split_proposal(self._sign_proposal(other))
                honest = [peer for peer in peers if peer not in some]
                return [*((peer, part) for peer in some for part in parts), *((peer, message) for peer in honest)]
            case Behaviour.MUTATE if isinstance(message, Vote):
                shifted = replace(message, round=max(0, message.round + self._dice.choice((-1, 1))))
                return [*everybody, *((peer, self._sign(shifted)) for peer in some)]
            case Behaviour.REPLAY if isinstance(message, Vote):
                self._old.append(message)
                again = replace(self._dice.choice(self._old), round=message.round, height=message.height)
                return [*everybody, *((peer, self._sign(again)) for peer in some)]
            case _:
                return everybody

    def answer(self, response: object) -> object | None:
        """The answer sent in place of `response`; None for no answer."""
        match self.behaviour:
            case Behaviour.SILENT:
                return None
            case Behaviour.WITHHOLD if isinstance(response, ExchangeOffer):
                return replace(response, proposals=(), votes=(), decided=None, head_height=response.head_height + 9)
            case Behaviour.MUTATE if isinstance(response, ExchangeOffer):
                return replace(response, votes=tuple(replace(one, signature=bytes(64)) for one in response.votes))
            case _:
                return response

    def _contradict(self, vote: Vote) -> Vote:
        other = None if vote.block_hash is not None else self._dice.randbytes(32)
        return self._sign(replace(vote, block_hash=other))

    def _sign(self, vote: Vote) -> Vote:
        payload = compute_vote_bytes(self._genesis, vote.kind, vote.height, vote.round, vote.block_hash)
        return replace(vote, signature=self._key.sign(Tag.VOTE_SIGN, payload))

    def _sign_proposal(self, one: Proposal) -> Proposal:
        payload = compute_proposal_bytes(self._genesis, one.height, one.round, one.valid_round, one.block)
        return replace(one, signature=self._key.sign(Tag.PROPOSAL_SIGN, payload))


def _join(part: ProposalPart) -> Proposal:
    made = PartAssembly(part.head.height).add(part)
    assert made is not None, "simulated blocks fit one part"
    return made
