"""Settlements that are not final yet: what a stage's part in one is, and until when others can be joined to it.

Pure but for the record of what is pending. Knows no signatures and moves no money: joins.py does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from consensus.runtime.arithmetic import BALANCE_MAX, PPM
from consensus.runtime.context import Environment
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.state import DRAW_DELAY_BLOCKS, DueKind, Request, RequestStage, StageStatus
from consensus.runtime.system.space import read_paused_settlements
from consensus.state.reader import StateReader
from consensus.state.storage import StorageMap
from proto_specs.codec import U64, record
from proto_specs.types.common import Balance, Hash32
from proto_specs.types.request import (
    Order,
    PathStage,
    StageRoots,
    compute_billed_price,
    compute_commitment_root,
    compute_positions,
    compute_vouched_tokens,
)


@record
class Pending:
    """A settlement that can be joined before block `until`. `slice_size` is the most that the request may cost.

    `paused_before` counts the blocks without sure room for a settlement up to then: it can be joined as much longer.
    """

    until: U64
    slice_size: Balance
    paused_before: U64

    @property
    def draw_height(self) -> int:
        """The block of the draw, whose beacon nobody knows while anything can be joined."""
        return self.until - 1 + DRAW_DELAY_BLOCKS


_pending: StorageMap[Pending] = StorageMap("inference.pending", (Hash32,), Pending)


@dataclass(frozen=True, slots=True)
class StagePart:
    """What a stage of a path brings to a settlement: its price in nmyl, and its roots over so many positions.

    Of a statement's price `prompt_gross` is for prompt positions.
    """

    gross: int
    positions: int
    input_root: bytes
    output_root: bytes
    prompt_gross: int = 0


def compute_gross(order: Order, stage: PathStage, tokens: int, positions: int) -> int:
    """What a stage bills that signed for `positions`, when `tokens` are vouched for: no token drawn beyond its own."""
    return compute_billed_price(order, stage, min(tokens, compute_vouched_tokens(order, positions)), positions)


def make_part(order: Order, tokens: int, roots: StageRoots) -> StagePart:
    """The part of the stage that the roots are of."""
    gross = compute_gross(order, order.path[roots.stage], tokens, roots.positions)
    return StagePart(gross, roots.positions, roots.input_root, roots.output_root)


def is_complete(request: Request) -> bool:
    """Whether nothing better can come: all stages signed for all positions of a finished answer."""
    positions = compute_positions(request.prompt_tokens, request.tokens)
    return request.final and all(stage.positions == positions for stage in request.stages)


def draw_disjoint(stages: Sequence[RequestStage]) -> tuple[RequestStage, ...]:
    """The stages, those for certain drawn whose roots do not meet a neighbour's.

    Who lies about a boundary cannot open it: its leaves have to bear the neighbour's signature. So the lie costs the
    liar its pay, and the neighbour, whom it contradicts, only that it has to open.
    """
    certain = set()
    for number, (one, other) in enumerate(pairwise(stages)):
        is_open = one.status == other.status == StageStatus.AWAITING_DRAW
        if is_open and (one.positions, one.output_root) != (other.positions, other.input_root):
            certain |= {number, number + 1}
    return tuple(
        replace(stage, challenge_ppm=PPM) if number in certain else stage for number, stage in enumerate(stages)
    )


def compute_root_of(request_id: bytes, stages: Sequence[RequestStage]) -> bytes:
    """The commitment root over the roots of all stages that brought theirs, in path order."""
    return compute_commitment_root(
        [
            StageRoots(request_id, number, stage.windows, stage.positions, stage.input_root, stage.output_root)
            for number, stage in enumerate(stages)
            if stage.status != StageStatus.MISSING
        ]
    )


def read_pending(state: StateReader, request_id: bytes) -> Pending | None:
    """Until when the settlement can be joined; None when it is final, or unknown."""
    return _pending.read(state, request_id)


def keep_open(env: Environment, request_id: bytes, slice_size: int) -> int:
    """The settlement can be joined for `join_blocks` from now on. Returns the height of its draw."""
    before = _pending.read(env.state, request_id)
    if before is not None:
        inference.due.remove(env.state, before.until, DueKind.JOIN_END, request_id)
    until = env.block.height + inference.params.read(env.state).join_blocks
    pending = Pending(until, slice_size, read_paused_settlements(env.state))
    _pending.write(env.state, request_id, pending)
    inference.due.add(env.state, pending.until, DueKind.JOIN_END, request_id)
    return pending.draw_height


def finish(env: Environment, request_id: bytes, pending: Pending, last_height: int) -> int:
    """Nothing more can be joined since block `last_height`. Returns the height of the draw, which it schedules.

    What the request left of its slice becomes promisable only now: as long as its price can rise, it may need it.
    """
    state = env.state
    request = inference.requests.read(state, request_id)
    assert request is not None, "a pending request waits for its draw"
    session = inference.sessions.read(state, request.session)
    assert session is not None, "a session outlives its open requests"
    released = min(session.released + pending.slice_size - request.price, BALANCE_MAX)
    inference.sessions.write(state, request.session, replace(session, released=released))
    _pending.delete(state, request_id)
    inference.due.remove(state, pending.until, DueKind.JOIN_END, request_id)
    draw_height = last_height + DRAW_DELAY_BLOCKS
    inference.due.add(state, draw_height, DueKind.DRAW, request_id)
    return draw_height


def expire(env: Environment, request_id: bytes) -> None:
    """The time to join a settlement is over: its stages are drawn by a beacon that nobody knew when it was joined.

    Where blocks were too full for a settlement meanwhile, there is as much time again.
    """
    pending = _pending.read(env.state, request_id)
    assert pending is not None, "it is pending until now"
    paused = read_paused_settlements(env.state)
    if paused != pending.paused_before:
        until = max(pending.until + paused - pending.paused_before, env.block.height + 1)
        _pending.write(env.state, request_id, replace(pending, until=until, paused_before=paused))
        inference.due.add(env.state, until, DueKind.JOIN_END, request_id)
        return
    finish(env, request_id, pending, env.block.height - 1)
