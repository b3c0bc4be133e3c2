"""The known ways in which Tendermint implementations stop for ever, each forced by a script and then healed."""

from __future__ import annotations

from consensus.bft.effects import Propose, ScheduleTimeout
from proto_specs.types.chain import Proposal, Vote, VoteKind, compute_block_hash
from tests.property.consensus.bft.network import Faulty, Message, Network
from tests.unit.consensus.bft.builders import make_vote

LIMIT_MS = 20_000


def votes_of(network: Network, index: int) -> dict[tuple[int, int, int], bytes | None]:
    return network.nodes[index].cast


def proposed_hash(network: Network, index: int) -> bytes:
    """Hash of the first block this node proposed."""
    first = next(effect for effect in network.nodes[index].effects if isinstance(effect, Propose))
    return compute_block_hash(first.block.header)


class NilInRound0(Faulty):
    """Votes nil in round 0, then is silent for ever."""

    def __init__(self, network: Network, index: int) -> None:
        super().__init__(network, index)
        for kind in VoteKind:
            network.at(20, lambda kind=kind: network.send_all(index, make_vote(kind, 1, 0, None, self.key)))  # type: ignore[misc]


def test_hidden_lock_is_released_by_the_valid_value() -> None:
    """Node 0 alone sees the polka of round 0 in time and locks; one node dies after it, so all three must agree.

    Nodes 1 and 2 see that polka late, after they precommitted nil. Their valid value must take it up all the same, so
    that node 2, the proposer of round 2, proposes the block that node 0 can accept.
    """

    def drop(source: int, target: int, message: Message) -> bool:
        # Node 0's prevote of round 0 reaches the others only once they are past it.
        if source != 0 or target == 3 or not isinstance(message, Vote):
            return False
        return (message.kind, message.round) == (VoteKind.PREVOTE, 0) and network.nodes[target].core.round == 0

    network = Network((1, 1, 1, 1), seed=1, faulty={3: NilInRound0}, drop=drop)
    network.run(heights=1, limit_ms=LIMIT_MS)
    locked = proposed_hash(network, 0)
    assert votes_of(network, 0)[VoteKind.PRECOMMIT, 1, 0] == locked
    assert votes_of(network, 1)[VoteKind.PRECOMMIT, 1, 0] is None
    assert votes_of(network, 2)[VoteKind.PRECOMMIT, 1, 0] is None
    again = next(one for one in network.nodes[2].effects if isinstance(one, Propose))
    assert (again.round, again.valid_round, compute_block_hash(again.block.header)) == (2, 0, locked)
    assert {node.decided[1].round for node in network.nodes.values()} == {2}


class TwoFaced(Faulty):
    """Prevotes nil to all but node 0, to which it prevotes the block of round 0; then it is silent for ever."""

    def receive(self, message: Message) -> None:
        if isinstance(message, Proposal) and (message.height, message.round) == (1, 0):
            block_hash = compute_block_hash(message.block.header)
            for target in self.network.nodes:
                chosen = block_hash if target == 0 else None
                self.network.send(self.index, target, make_vote(VoteKind.PREVOTE, 1, 0, chosen, self.key))


def test_lock_made_with_a_double_vote_is_released() -> None:
    """Node 0 locks with the help of a double voter, whose other vote the rest saw first. Its polka must still convince
    them, conflicting vote and all: a tally that keeps first votes only never decides again.
    """

    def drop(source: int, target: int, message: Message) -> bool:
        # Node 2 gets no proposal of round 0, so it prevotes nil; node 0 does not hear of that in round 0.
        is_in_round_0 = target != 3 and network.nodes[target].core.round == 0
        if isinstance(message, Proposal):
            return message.round == 0 and target == 2 and network.nodes[2].core.round < 2
        if (message.kind, message.round) != (VoteKind.PREVOTE, 0) or not is_in_round_0:
            return False
        # Nor do the others hear in round 0 what the double voter told node 0.
        return (source, target) == (2, 0) or (source == 0 and message.validator == network.validators.members[3].key)

    network = Network((1, 1, 1, 1), seed=2, faulty={3: TwoFaced}, drop=drop)
    network.run(heights=1, limit_ms=LIMIT_MS)
    locked = proposed_hash(network, 0)
    assert votes_of(network, 0)[VoteKind.PRECOMMIT, 1, 0] == locked
    assert votes_of(network, 1)[VoteKind.PRECOMMIT, 1, 0] is None
    assert votes_of(network, 2)[VoteKind.PREVOTE, 1, 0] is None
    assert {compute_block_hash(node.decided[1].block.header) for node in network.nodes.values()} == {locked}
    assert any(node.evidence for node in network.nodes.values())


def test_straggler_skips_rounds_on_prevotes_and_precommits_together() -> None:
    """A node cut off while the others go through many rounds, more than it tallies ahead, joins their round again.

    It may hear of a round by one sender's prevote and another's precommit only: counted apart they never make a third.
    """
    cut_rounds = 20

    def drop(source: int, target: int, message: Message) -> bool:
        if isinstance(message, Proposal):
            # Nobody gets a proposal until the others are far ahead: every round ends in nil.
            return network.nodes[0].core.round < cut_rounds
        if network.nodes[0].core.round < cut_rounds:
            return 2 in (source, target)
        if target != 2 or network.nodes[2].core.round > 0:
            return False
        return (source, message.kind) not in ((0, VoteKind.PREVOTE), (1, VoteKind.PRECOMMIT))

    network = Network((3, 3, 2, 2), seed=3, drop=drop)
    network.run(heights=1, limit_ms=200_000)
    entered = {one.timeout.round for one in network.nodes[2].effects if isinstance(one, ScheduleTimeout)}
    assert min(entered - {0}) >= cut_rounds
