"""Signs and publishes this node's own proposals and votes. Knows no core and no head.

The log is synced before anything is signed. A phase of `voting_phases.py` says whether this node signs at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from consensus.bft.effects import CastVote, Propose
from consensus.bft.inputs import ProposalReceived, VoteReceived
from node.replica.voting_phases import SIGNING_TABLE, SigningEvent, SigningPhase, advance_voting
from node.replica.wal import Wal
from node.replica.world import World
from node.signer.signer import SignerUnreachable, SignRefused, VoteSigner, VoteSlot
from proto_specs.types.chain import Proposal, Vote, VoteKind, compute_proposal_bytes, compute_vote_bytes
from proto_specs.types.gossip import split_proposal

logger = logging.getLogger("myelin.consensus")

SIGNER_RETRY_MS = 500
"""The pause before an unsigned vote is tried again while the signer does not answer."""


class OwnMessages:
    """Signs, publishes or keeps messages. `retry` gets a vote that was not signed because the signer did not answer."""

    def __init__(
        self, genesis: bytes, signer: VoteSigner | None, wal: Wal, world: World, retry: Callable[[CastVote], None]
    ) -> None:
        self._genesis = genesis
        self._signer = signer
        self._wal = wal
        self._world = world
        self._retry = retry
        self._phase = SigningPhase.SPEAKING
        self._kept: list[Propose | CastVote] = []

    def fall_behind(self) -> None:
        """Keep messages instead of signing them, from now on."""
        self._advance(SigningEvent.FELL_BEHIND)

    def catch_up(self) -> list[Propose | CastVote]:
        """Sign messages again; returns those that were kept."""
        if not self._advance(SigningEvent.CAUGHT_UP):
            return []
        kept, self._kept = self._kept, []
        return kept

    def stand_down(self, vote: Vote) -> None:
        """Sign nothing more for the life of this process: another process signs with the key. Logged once."""
        if self._advance(SigningEvent.KEY_SHARED):
            logger.error(
                "our key signed a vote of height %d, round %d that this signer did not make: another process has the "
                "key, or the signer's history is an old copy. Nothing more is signed. Stop the other process, bring "
                "its history here (`myelin signer export`, `import`) and start again",
                vote.height,
                vote.round,
            )

    def forget_kept(self) -> None:
        """Drop the kept messages: the next height begins, and they are of no use for it."""
        self._kept.clear()

    def say(self, effect: Propose | CastVote) -> ProposalReceived | VoteReceived | None:
        """Sign and publish; returns the input that answers the effect, None when it is kept or not signed."""
        match self._phase:
            case SigningPhase.SPEAKING:
                self._wal.sync()
                return self._propose(effect) if isinstance(effect, Propose) else self._cast_vote(effect)
            case SigningPhase.SILENT:
                self._kept.append(effect)
                return None
            case SigningPhase.STOOD_DOWN:
                return None

    def _advance(self, event: SigningEvent) -> bool:
        found = advance_voting(SIGNING_TABLE, self._phase, event)
        self._phase = found or self._phase
        return found is not None

    def _propose(self, effect: Propose) -> ProposalReceived | None:
        payload = compute_proposal_bytes(self._genesis, effect.height, effect.round, effect.valid_round, effect.block)
        try:
            signed = self._sign(effect.height, effect.round, VoteSlot.PROPOSAL, payload)
        except SignerUnreachable as error:  # the round's timeout moves the height on without the proposal
            logger.warning("no proposal at height %d, round %d: %s", effect.height, effect.round, error)
            return None
        if signed is None:
            return None
        proposal = Proposal(effect.height, effect.round, effect.valid_round, effect.block, *signed)
        for part in split_proposal(proposal):
            self._world.publish(part)
        return ProposalReceived(proposal)

    def _cast_vote(self, effect: CastVote) -> VoteReceived | None:
        slot = VoteSlot.PREVOTE if effect.kind is VoteKind.PREVOTE else VoteSlot.PRECOMMIT
        payload = compute_vote_bytes(self._genesis, effect.kind, effect.height, effect.round, effect.block_hash)
        try:
            signed = self._sign(effect.height, effect.round, slot, payload)
        except SignerUnreachable as error:
            logger.warning("no %s at height %d, round %d: %s", slot.name.lower(), effect.height, effect.round, error)
            self._world.set_timer(SIGNER_RETRY_MS, partial(self._retry, effect))
            return None
        if signed is None:
            return None
        vote = Vote(effect.kind, effect.height, effect.round, effect.block_hash, *signed)
        self._world.publish(vote)
        return VoteReceived(vote)

    def _sign(self, height: int, round_: int, slot: VoteSlot, payload: bytes) -> tuple[bytes, bytes] | None:
        """Our key and its signature; None when the signer refuses. Raises SignerUnreachable."""
        signer = self._signer
        assert signer is not None, "only a validator signs"
        try:
            return signer.public_key, signer.sign(height, round_, slot, payload)
        except SignRefused as error:
            logger.warning("no %s at height %d, round %d: %s", slot.name.lower(), height, round_, error)
            return None
