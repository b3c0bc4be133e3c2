"""The livelocks that versions of Tendermint had: three correct cores of four must decide where those went on for ever.

Each schedule is run twice: on the core as it is, which decides, and on one without the rule that the paper has
against it, which is shown to decide nothing in 20 rounds of a network that delivers everything at once.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable

import pytest

from consensus.bft.core import BftCore
from consensus.bft.effects import BuildBlock, CastVote, Decide, Effect, Propose, ScheduleTimeout, ValidateBlock
from consensus.bft.height import HeightProcess, RoundBlock
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
from proto_specs.limits import ROUND_MAX
from proto_specs.types.chain import Proposal, Vote, VoteKind, compute_block_hash
from tests.simulation.bugs import Bug, plant
from tests.unit.consensus.bft.builders import make_block, make_key, make_proposal, make_validators, make_vote
from tests.unit.consensus.bft.driver import HEIGHT, TIMEOUTS

CORRECT = (0, 1, 2)
LIAR = 3
ROUNDS_MAX = 20
Message = Proposal | Vote
Drops = Callable[[int, int, Message], bool]
"""Whether what one (or the liar) sent to another never gets there: (sender, receiver, message)."""


class Room:
    """Three correct cores and what the fourth validator chooses to say; validator r proposes in round r, modulo four.

    Messages are delivered at once, unless `drops` loses them; timeouts elapse in order, on a clock of their own.
    """

    def __init__(self, drops: Drops) -> None:
        validators = make_validators(1, 1, 1, 1)
        self.drops = drops
        self.decided: dict[int, bytes] = {}
        self.sent: list[tuple[int, Message]] = []
        self._queue: deque[tuple[int, Input]] = deque()
        self._timers: list[tuple[int, int, int, TimeoutElapsed]] = []
        self._count = itertools.count()
        self._now_ms = 0
        self.cores = {at: BftCore(TIMEOUTS) for at in CORRECT}
        rotation = ProposerRotation.start(validators)
        for at in CORRECT:
            self._queue.append((at, StartHeight(HEIGHT, validators, rotation, make_key(at + 1))))

    def run(self, until: Callable[[], bool]) -> None:
        """Go on until that holds, or everybody has been through so many rounds."""
        while not until():
            if self._queue:
                at, event = self._queue.popleft()
                for effect in self.cores[at].handle(event):
                    self._carry_out(at, effect)
            elif self._timers and min(core.round for core in self.cores.values()) < ROUNDS_MAX:
                self._now_ms, _, at, elapsed = heapq.heappop(self._timers)
                self._queue.append((at, elapsed))
            else:
                return

    def decide(self) -> set[bytes]:
        """The blocks decided by all three; empty when they never do."""
        self.run(lambda: len(self.decided) == len(CORRECT))
        return set(self.decided.values()) if len(self.decided) == len(CORRECT) else set()

    def reach_round(self, round_: int) -> None:
        """Until all three are there."""
        self.run(lambda: all(core.round >= round_ for core in self.cores.values()) and not self._queue)
        assert {core.round for core in self.cores.values()} == {round_}

    def lie(self, kind: VoteKind, round_: int, block_hash: bytes | None, *receivers: int) -> None:
        """A vote of the fourth validator, to some."""
        vote = make_vote(kind, HEIGHT, round_, block_hash, make_key(LIAR + 1))
        self.sent.append((LIAR, vote))
        self._queue.extend((at, VoteReceived(vote)) for at in receivers)

    def deliver_all_again(self) -> None:
        """What was lost arrives after all, as from the gossip of whoever got it."""
        self.drops = lambda *_: False
        for sender, message in list(self.sent):
            self._send(sender, message)

    def _carry_out(self, at: int, effect: Effect) -> None:
        key = make_key(at + 1)
        match effect:
            case BuildBlock(height, round_):
                self._queue.append((at, BlockBuilt(height, round_, make_block(height, key, salt=round_ + 1))))
            case Propose(_, round_, valid_round, block):
                self._publish(at, make_proposal(HEIGHT, round_, valid_round, block, key))
            case CastVote(kind, _, round_, block_hash):
                self._publish(at, make_vote(kind, HEIGHT, round_, block_hash, key))
            case ValidateBlock(block):
                self._queue.append((at, BlockValidated(compute_block_hash(block.header), True)))
            case ScheduleTimeout(timeout, delay_ms):
                item = (self._now_ms + delay_ms, next(self._count), at, TimeoutElapsed(timeout))
                heapq.heappush(self._timers, item)
            case Decide(_, _, block, _):
                self.decided[at] = compute_block_hash(block.header)

    def _publish(self, at: int, message: Message) -> None:
        self.sent.append((at, message))
        self._send(at, message)

    def _send(self, sender: int, message: Message) -> None:
        event = ProposalReceived(message) if isinstance(message, Proposal) else VoteReceived(message)
        for at in CORRECT:
            if at == sender or not self.drops(sender, at, message):
                self._queue.append((at, event))


def is_vote(message: Message, kind: VoteKind, round_: int) -> bool:
    """Whether it is one of that kind and round."""
    return isinstance(message, Vote) and (message.kind, message.round) == (kind, round_)


def make_hidden_lock() -> Room:
    """Round 0 is over. Validator 2 saw the polka and locked the block; 0 and 1 lack its prevote, and got a nil."""

    def drops(sender: int, receiver: int, message: Message) -> bool:
        return sender == 2 and receiver != 2 and is_vote(message, VoteKind.PREVOTE, 0)

    room = Room(drops)
    room.lie(VoteKind.PREVOTE, 0, None, 0, 1)
    room.reach_round(1)
    return room


def make_two_locks() -> Room:
    """Round 1 is over too: in it 0 and 1 locked another block, by a prevote that 2 did not get."""
    room = make_hidden_lock()
    room.lie(VoteKind.PREVOTE, 1, compute_block_hash(make_block(HEIGHT, make_key(2), salt=2).header), 0, 1)
    room.reach_round(2)
    return room


def leave_one_behind() -> Room:
    """0 and 1 are in round 1; what was said in round 0 never reached 2, nor what 2 said the others."""

    def drops(sender: int, receiver: int, message: Message) -> bool:
        return message.round == 0 and 2 in (sender, receiver)

    room = Room(drops)
    room.lie(VoteKind.PREVOTE, 0, None, 0, 1)
    room.lie(VoteKind.PRECOMMIT, 0, None, 0, 1)
    room.run(lambda: room.cores[0].round == room.cores[1].round == 1)
    assert room.cores[2].round == 0
    return room


def test_a_hidden_lock_is_proposed_again_by_its_holder() -> None:
    """Valid value, lines 15-16 and 42-43."""
    room = make_hidden_lock()
    room.deliver_all_again()
    assert room.decide() == {compute_block_hash(make_block(HEIGHT, make_key(1), salt=1).header)}


def test_without_a_valid_value_a_hidden_lock_stops_the_chain() -> None:
    with plant(Bug.NO_VALID_VALUE):
        room = make_hidden_lock()
        room.deliver_all_again()
        assert room.decide() == set()


def test_a_later_polka_releases_an_older_lock() -> None:
    """Locked value, lines 28-30."""
    room = make_two_locks()
    room.deliver_all_again()
    assert room.decide() == {compute_block_hash(make_block(HEIGHT, make_key(2), salt=2).header)}


def test_a_lock_that_no_polka_releases_stops_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = HeightProcess._prevote_repeated_proposal  # noqa: SLF001

    def never_release(process: HeightProcess) -> bool:
        locked = process._locked  # noqa: SLF001
        process._locked = locked and RoundBlock(ROUND_MAX, locked.block_hash)  # noqa: SLF001
        try:
            return whole(process)
        finally:
            process._locked = locked  # noqa: SLF001

    monkeypatch.setattr(HeightProcess, "_prevote_repeated_proposal", never_release)
    room = make_two_locks()
    room.deliver_all_again()
    assert room.decide() == set()


def test_who_fell_behind_skips_to_the_round_of_a_third() -> None:
    """Round skip, lines 55-56: 0 and 1 are too few to go on, and 2 hears too little of round 0 to leave it."""
    assert len(leave_one_behind().decide()) == 1


def test_without_round_skip_two_rounds_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeightProcess, "_skip_round", lambda _: False)
    assert leave_one_behind().decide() == set()
