"""Sends peers the messages they lack: the paper's gossip property, by which every correct process gets them eventually.

Messages are published once and may be lost. So a node without progress asks one peer after another and states what it
holds. The answer holds the missing messages of its height, or, for a node that is behind, the block that was decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from consensus.bft.core import BftCore
from node.store.chain_store import ChainStore
from proto_specs import limits
from proto_specs.codec import encode
from proto_specs.types.chain import Proposal, ValidatorSet, Vote
from proto_specs.types.gossip import BlocksRequest, BlocksResponse, ExchangeOffer, FinalBlock, HeldVotes, Want

OFFER_BYTES_MAX = 4 << 20
"""Bytes of proposals in one offer; at least one proposal is sent."""


def make_want(core: BftCore, validators: ValidatorSet) -> Want:
    """The position of this core and what it holds, in the rounds whose messages matter."""
    rounds = core.get_gossip_rounds()[-limits.EXCHANGE_ROUNDS_MAX :]
    proposals = tuple(round_ for round_ in rounds if core.get_proposal(round_) is not None)
    slots: dict[tuple[int, int, bytes | None], set[bytes]] = {}
    for round_ in rounds:
        for vote in core.get_votes(round_):
            slots.setdefault((vote.round, vote.kind, vote.block_hash), set()).add(vote.validator)
    held = [HeldVotes(*slot, _pack_members(keys, validators)) for slot, keys in slots.items()]
    return Want(core.height, core.round, proposals, tuple(held[: limits.EXCHANGE_SLOTS_MAX]))


def make_offer(want: Want, core: BftCore, store: ChainStore) -> ExchangeOffer:
    """The wanted messages that this node has."""
    head = store.get_head()
    if 0 < want.height <= head.height:
        block, commit = store.get_block(want.height), store.get_commit(want.height)
        decided = None if block is None or commit is None else FinalBlock(block, commit)
        return ExchangeOffer(head.height, (), (), decided)
    if want.height != core.height or core.is_decided:
        return ExchangeOffer(head.height, (), (), None)
    rounds = [*core.get_gossip_rounds()]
    if want.round not in rounds and want.round <= core.round:
        rounds.append(want.round)
    proposals = tuple(_list_proposals(core, rounds, frozenset(want.held_proposals)))
    votes = tuple(_list_votes(core, rounds, want.held_votes, head.validators))
    return ExchangeOffer(head.height, proposals, votes[: limits.EXCHANGE_VOTES_MAX], None)


def serve_blocks(request: BlocksRequest, store: ChainStore) -> BlocksResponse:
    """Consecutive finalized blocks: as many of the requested blocks as fit."""
    blocks: list[FinalBlock] = []
    head, room = store.get_head(), limits.BLOCKS_RESPONSE_BYTES_MAX
    stop = min(request.start + min(request.count, limits.BLOCKS_RESPONSE_MAX), head.height + 1)
    for height in range(max(request.start, 1), stop):
        block, commit = store.get_block(height), store.get_commit(height)
        if block is None or commit is None:
            break
        final = FinalBlock(block, commit)
        room -= len(encode(final))
        if room < 0 and blocks:
            break
        blocks.append(final)
    return BlocksResponse(head.height, tuple(blocks))


def _list_proposals(core: BftCore, rounds: Iterable[int], held: frozenset[int]) -> Iterator[Proposal]:
    """The newest first: the round waits for them."""
    room, count = OFFER_BYTES_MAX, 0
    for round_ in sorted(rounds, reverse=True):
        proposal = core.get_proposal(round_)
        if proposal is None or round_ in held:
            continue
        room -= len(encode(proposal))
        if count and (room < 0 or count == limits.EXCHANGE_PROPOSALS_MAX):
            return
        count += 1
        yield proposal


def _list_votes(
    core: BftCore, rounds: Iterable[int], held: tuple[HeldVotes, ...], validators: ValidatorSet
) -> Iterator[Vote]:
    places = {member.key: place for place, member in enumerate(validators.members)}
    bitmaps = {(one.round, one.kind, one.block_hash): one.members for one in held}
    for round_ in sorted(rounds, reverse=True):
        for vote in core.get_votes(round_):
            bitmap = bitmaps.get((vote.round, vote.kind, vote.block_hash), b"")
            place = places[vote.validator]
            if place >> 3 >= len(bitmap) or not bitmap[place >> 3] >> (place & 7) & 1:
                yield vote


def _pack_members(keys: set[bytes], validators: ValidatorSet) -> bytes:
    """A bit per member: bit i, counted from the lowest of the first byte, is member i."""
    bitmap = bytearray((len(validators.members) + 7) // 8)
    for place, member in enumerate(validators.members):
        if member.key in keys:
            bitmap[place >> 3] |= 1 << (place & 7)
    return bytes(bitmap)
