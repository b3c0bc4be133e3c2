"""An answer over several paths in memory: stages are lost, spares take their place, and every worker keeps its KV.

The arithmetic shard remembers: a row's output depends on all rows before it. Half of an output's bytes are the worker's
own noise, which decides nothing, as rounding does not: so another worker sends other bytes for the same answer.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from inference.serving.continuing import find_submitter, validate_settled, validate_settled_tokens
from inference.serving.events import Compute, Computed, Conclude, DrawnToken, Retain, SubmitSettlement
from inference.serving.kept import KeptRows
from inference.serving.record import RequestRecord
from inference.serving.stage import StageRequest
from node.client.answer import Ask
from node.client.escrow_session import EscrowSlice
from node.client.so_far import AnswerSoFar
from proto_specs.ed25519 import SigningKey
from proto_specs.types.calls import Settle
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import PathStage, SignedOrder, compute_request_id, sign_order
from proto_specs.types.sampling import SamplingParams
from proto_specs.types.wire import Frame, OpenRequest
from tests.property.inference.serving.harness import (
    HIDDEN,
    LAYERS,
    SESSION_KEY,
    Drafts,
    Local,
    Path,
    make_manifest,
    take_right,
)

WORKERS = 12
KEYS = [SigningKey.from_seed(bytes([97 + one]) * 32) for one in range(WORKERS)]
ROW_BYTES = 4 * HIDDEN
TELLING_BYTES = ROW_BYTES // 2
SLICE = 100_000


@dataclass
class Worker:
    """A worker with the KV memory and the machine of the last request that it took, until that is concluded."""

    number: int
    memory: list[bytes] = field(default_factory=list)
    machine: StageRequest | None = None
    computed: int = 0
    drafted: int = 0
    """Of the rows in memory, the last ones that may not stand."""
    records: dict[bytes, RequestRecord] = field(default_factory=dict)


class Attempt(Path):
    """One order on its path, played until a stage is lost or everything is over."""

    def __init__(
        self,
        order: SignedOrder,
        prompt: tuple[int, ...],
        seed: int,
        workers: Sequence[Worker],
        is_noisy: bool,
        settled: Settle | None,
        book: dict[bytes, Settle],
        drafts: Drafts | None = None,
    ) -> None:
        kept: dict[int, KeptRows] = {}
        for stage, one in enumerate(workers):
            rows = None if one.machine is None else one.machine.get_kept()
            if rows is not None and stage < len(workers) - 1:
                kept[stage] = rows
        keys = [KEYS[one.number] for one in workers]
        super().__init__(order, prompt, None, seed, keys=keys, kept=kept, settled=settled, drafts=drafts)
        self.workers = workers
        self.dead: set[int] = set()
        self._is_noisy = is_noisy
        self._settled = settled
        self._book = book
        self._keeps = set(kept)
        self.opened: set[int] = set()

    @property
    def is_accepted(self) -> bool:
        return len(self.opened) == len(self.workers)

    def play(self, dying: set[int], after: int, linger: int) -> None:
        """Deliver; once `after` frames were, the `dying` stages are gone; so many more are read before all is left."""
        self.do_client(self.client.start())
        delivered = 0
        while any(self.links.values()):
            if delivered == after and dying:
                self._lose(dying)
            if self.dead and delivered >= after + linger:
                return
            link = self._random.choice([one for one, queue in self.links.items() if queue] or [None])
            if link is not None:
                self._deliver(*link, self.links[link].popleft())
            delivered += 1

    def _lose(self, dying: set[int]) -> None:
        self.dead = set(dying)
        for (sender, receiver), queue in self.links.items():
            if receiver in dying or sender - 1000 in dying:
                queue.clear()
            elif sender in dying:
                for _ in range(self._random.randint(0, len(queue))):
                    queue.pop()
        for stage in dying:
            self.workers[stage].machine = None
            self.workers[stage].memory = []

    def _put(self, sender: int, receiver: int, frame: Frame | Local) -> None:
        if receiver not in self.dead:
            super()._put(sender, receiver, frame)

    def _deliver(self, sender: int, receiver: int, frame: Frame | Local) -> None:
        if isinstance(frame, OpenRequest):
            self._open(receiver, frame)
        super()._deliver(sender, receiver, frame)

    def _open(self, stage: int, opened: OpenRequest) -> None:
        """What a worker does with an order: check what it says of the one before, take its memory over, conclude it."""
        order, worker, settled = opened.order.order, self.workers[stage], opened.settled
        assert (settled is not None) == (order.settled_positions > 0)
        if settled is not None:
            validate_settled(order, settled, SESSION_KEY.public_key)
            if opened.prompt:
                validate_settled_tokens(order, settled, opened.prompt)
        before, worker.machine = worker.machine, self.stages[stage]
        if stage not in self._keeps:
            worker.memory = []
        self.opened.add(stage)
        is_submitter = settled is not None and find_submitter(order, settled) == KEYS[worker.number].public_key
        if before is not None:
            conclude(worker, before, settled, self._book)
        if settled is not None and is_submitter:
            self._book.setdefault(compute_request_id(settled.order.order), settled)

    def _do_stage(self, stage: int, effects: list[Any]) -> None:
        for one in effects:
            if isinstance(one, Retain):
                self.workers[stage].records[self.client.request] = one.record
            elif isinstance(one, SubmitSettlement):
                self._book.setdefault(self.client.request, one.call)
        super()._do_stage(stage, effects)

    def _rewind(self, stage: int, position: int) -> None:
        memory = self.workers[stage].memory
        assert position <= len(memory), "it has what it answers for"
        del memory[position:]
        self.workers[stage].drafted = 0

    def _compute(self, stage: int, work: Compute) -> Computed:
        worker, is_first, is_last = self.workers[stage], stage == 0, stage == len(self.workers) - 1
        size = 4 if is_first else ROW_BYTES
        drafted = worker.drafted
        assert len(worker.memory) - drafted <= work.start <= len(worker.memory), "rows follow those that stand"
        del worker.memory[work.start :]
        worker.drafted = 0 if is_last else len(work.draft)
        outputs: list[bytes] = []
        tokens: list[DrawnToken] = []
        for at in range(work.count):
            row = work.payload[at * size : (at + 1) * size][: 4 if is_first else TELLING_BYTES]
            before = worker.memory[-1] if worker.memory else b""
            told = hashlib.blake2b(bytes([stage]) + before + row, digest_size=TELLING_BYTES).digest()
            worker.memory.append(told)
            worker.computed += 1
            noise = bytes([worker.number if self._is_noisy else 0]) * TELLING_BYTES
            outputs.append(told + noise)
            if is_last and work.start + at >= len(self._prompt) - 1:
                tokens.append(DrawnToken(1_000 + int.from_bytes(told[:2], "little"), False))
        if not is_last:
            return Computed(work.start, work.count, b"".join(outputs), b"", (), (), work.draft)
        right = take_right(work, tokens)
        count = len(right) if work.draft else work.count
        del worker.memory[work.start + count :]
        return Computed(work.start, count, b"", b"".join(outputs[:count]), right)


def conclude(worker: Worker, machine: StageRequest, settled: Settle | None, book: dict[bytes, Settle]) -> None:
    """End a request that lost a stage: as the order after it says, or with what all have signed."""
    windows = 0
    if settled is not None and machine.request == compute_request_id(settled.order.order):
        windows = settled.stage_roots[0].roots.windows
    for effect in machine.handle(Conclude(windows)):
        if isinstance(effect, Retain):
            worker.records[machine.request] = effect.record


@dataclass
class Told:
    """What came of an answer."""

    tokens: list[int]
    book: dict[bytes, Settle]
    workers: list[Worker]
    attempts: list[Attempt]


Loss = tuple[int, int, int, int]
"""Which stage dies, how many after it too, after how many frames, and how many more are read then."""


def answer(
    prompt_tokens: int,
    tokens_max: int,
    stages: int,
    seed: int,
    losses: Sequence[Loss],
    is_noisy: bool,
    token: int = 100,
    turns: Sequence[tuple[int, int]] = (),
    truth: Sequence[int] = (),
) -> Told:
    """Ask, lose stages as told, go on each time with spares, until the answer is whole. `token`: the prompt's first.

    First stages speculate with drafts in `turns`; `truth` is the answer that is due.
    """
    chance = random.Random(seed)
    prompt = tuple(range(token, token + prompt_tokens))
    ask = Ask(bytes(32), prompt, tokens_max, SamplingParams(0, 0, 1000, 0), 10)
    so_far = AnswerSoFar(ask)
    workers = [Worker(number) for number in range(WORKERS)]
    path, spares = workers[:stages], workers[stages:]
    book: dict[bytes, Settle] = {}
    attempts: list[Attempt] = []
    plan = [*losses, None]
    for sequence, loss in enumerate(plan):
        order = so_far.make_order(ZERO_HASH, ZERO_HASH, make_route(path), EscrowSlice(sequence, 0, SLICE))  # type: ignore[arg-type]
        signed = sign_order(order, SESSION_KEY)
        settled = so_far.get_settled(order.path)
        drafts = Drafts(turns, truth[len(so_far.prompt) - prompt_tokens :]) if turns else None
        attempt = Attempt(signed, so_far.prompt, chance.randrange(1 << 30), path, is_noisy, settled, book, drafts)
        attempts.append(attempt)
        so_far.note_ordered(order.path)
        before = len(so_far.tokens)
        dying = set() if loss is None else {one % stages for one in range(loss[0], loss[0] + loss[1])}
        attempt.play(dying, *((0, 0) if loss is None else loss[2:]))
        so_far.tokens[before:] = attempt.client.tokens
        if attempt.client.is_complete:
            break
        assert attempt.dead, attempt.outcome
        if attempt.is_accepted and len(attempt.client._accepted) == stages:  # noqa: SLF001
            so_far.leave(attempt.client)
        path = [spares.pop(0) if stage in attempt.dead else one for stage, one in enumerate(path)]
    for one in workers:
        machine = one.machine
        if machine is not None and not machine.is_done:
            settlement = machine.get_settlement()
            for effect in machine.handle(Conclude(machine.prefix_windows, settlement)):
                if isinstance(effect, Retain):
                    one.records[machine.request] = effect.record
                elif isinstance(effect, SubmitSettlement):
                    book.setdefault(machine.request, effect.call)
    return Told(so_far.tokens, book, workers, attempts)


def make_route(path: Sequence[Worker]) -> SimpleNamespace:
    step = LAYERS // len(path)
    stages = tuple(
        PathStage(KEYS[one.number].public_key, at * step, (at + 1) * step, 1, 2) for at, one in enumerate(path)
    )
    return SimpleNamespace(path=stages, manifest=make_manifest())
