"""A call of a client: what it asks of the network, each choice asked, paid and booked, all of them at once.

Knows no HTTP: what comes is handed to a sink, and so is what it cost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from inference.serving.client import PromptScored
from node.client.answer import Answer, Ask, Inference, Move, Resolution
from node.gateway.accounts.budget import Budgets
from node.gateway.accounts.keys import ApiKey
from node.gateway.accounts.store import AccountStore
from node.gateway.booking import FREE_STATE, OPEN, ChoiceBook, make_common_row
from node.gateway.catalog import OfferedModel
from node.gateway.follow import Follower
from node.gateway.generation import ChoiceText, Ending, Piece
from node.gateway.journal import AnswerJournal, ChoiceSoFar
from node.gateway.metrics import GatewayMetrics
from proto_specs.types.request import PathStage

BOOKING_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Call:
    """What a client wants. `operation` is its name in the metrics; `wait` what it waits for before the answer ends.

    `so_far` is what an earlier run of the gateway had of each choice, when its answer is resumed.
    """

    key: ApiKey
    model: OfferedModel
    asks: tuple[Ask, ...]
    stops: tuple[str, ...]
    operation: str
    wait: Resolution | None = None
    drops_all: bool = False
    created: int = field(default_factory=lambda: int(time.time()))
    so_far: tuple[ChoiceSoFar, ...] = ()


@dataclass(slots=True)
class Choice:
    """One answer of a call: its text, and what is known of its requests."""

    index: int
    ask: Ask
    text: ChoiceText
    book: ChoiceBook
    before: ChoiceSoFar | None = None
    answer: Answer | None = None
    request: bytes = b""
    """The id of its latest request that was noted."""
    state: str = OPEN
    moves_told: int = 0

    @property
    def cost(self) -> int:
        """What its requests cost."""
        return self.book.cost

    def describe(self) -> dict[str, Any]:
        """What the client is told of its requests, and of the workers that were lost on the way."""
        requests = self.book.describe()
        if not requests and self.answer is not None:
            requests = [{"id": self.answer.request.hex(), "cost_nmyl": 0, "state": FREE_STATE}]
        moves = [] if self.answer is None else [describe_move(one, self.index) for one in self.answer.moves]
        return {"requests": requests, "moves": moves}


class Sink(Protocol):
    """Takes what comes."""

    async def on_started(self, choices: Sequence[Choice]) -> None:
        """Every choice is being answered: its path and highest price are known."""

    async def on_piece(self, choice: Choice, piece: Piece) -> None:
        """The next piece of a choice; its text may be empty."""

    async def on_end(self, choice: Choice, ending: Ending) -> None:
        """A choice is complete and paid for."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What a call is asked of and booked in."""

    inference: Inference
    store: AccountStore
    budgets: Budgets
    follower: Follower
    metrics: GatewayMetrics


class CallRun:
    """A call under way."""

    def __init__(self, counters: Counters, call: Call, journal: AnswerJournal | None = None) -> None:
        self._counters = counters
        self.call = call
        self._journal = journal
        self.choices = [self._make_choice(index, ask) for index, ask in enumerate(call.asks)]
        self._are_started = trio.Event()
        self._began_s = trio.current_time()

    async def run(self, sink: Sink) -> None:
        """Ask, hand over, book. Raises what `Inference.ask` raises, in a group, and ApiRefusal when the budget ends."""
        self._counters.budgets.check(self.call.key, self._estimate())
        with self._counters.metrics.measure(self.call.operation, self.call.model.name):
            async with trio.open_nursery() as nursery:
                for choice in self.choices:
                    await nursery.start(self._run_choice, choice, sink)
                await sink.on_started(self.choices)
                self._are_started.set()

    async def wait_resolved(self) -> None:
        """Wait for what the client wants to wait for, for a while at most; then each choice says how far it is."""
        wait = self.call.wait
        if wait is None:
            return
        for choice in self.choices:
            await choice.book.wait_for(wait)

    def end_journal(self, *, is_final: bool) -> None:
        """Nothing more comes; unless it `is_final`, another run may go on with it."""
        if self._journal is not None:
            self._journal.close(is_final=is_final)

    def describe(self) -> dict[str, Any]:
        """What the client is told of cost and state."""
        answers = [one.answer for one in self.choices if one.answer is not None]
        if not answers:
            return {"requests": [], "session": None, "path": [], "moves": [], "cost_nmyl": 0}
        told = [one.describe() for one in self.choices if one.answer is not None]
        return {
            "requests": [request for one in told for request in one["requests"]],
            "session": answers[0].session.hex(),
            "path": [_describe_stage(one) for one in answers[0].path],
            "moves": [move for one in told for move in one["moves"]],
            "cost_nmyl": sum(one.cost for one in self.choices),
        }

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts, each prompt counted once."""
        return sum(map(len, {id(one.prompt): one.prompt for one in self.call.asks}.values()))

    @property
    def generated_tokens(self) -> int:
        """Tokens of all answers."""
        return 0 if self.call.drops_all else sum(one.text.tokens for one in self.choices)

    def _estimate(self) -> int:
        """The most that all choices may cost on the cheapest path, in nmyl; at least 1."""
        price = self.call.model.price
        if price is None:
            return 1
        costs = (len(one.prompt) * price.prompt_nmyl + one.tokens_max * price.generated_nmyl for one in self.call.asks)
        return max(1, sum(costs))

    def _make_choice(self, index: int, ask: Ask) -> Choice:
        call, counters = self.call, self._counters
        has_logprobs = ask.sampling.logprobs > 0
        text = ChoiceText(call.model.tokenizer, call.stops, has_logprobs=has_logprobs, drops_all=call.drops_all)
        before = call.so_far[index] if call.so_far else None
        continues = before.requests[-1] if before is not None and before.requests else None
        row = make_common_row(call.key, call.created, call.model.model, len(ask.prompt), continues)
        book = ChoiceBook(counters.store, counters.budgets, counters.follower, call.key, row)
        return Choice(index, ask, text, book, before)

    async def _run_choice(self, choice: Choice, sink: Sink, task_status: Any) -> None:
        before = choice.before
        if before is not None and before.is_complete:
            task_status.started()
            await self._are_started.wait()
            await self._replay(choice, before, sink)
            choice.state = "done"
        else:
            await self._ask(choice, sink, task_status)
        await sink.on_end(choice, choice.text.ending)

    async def _ask(self, choice: Choice, sink: Sink, task_status: Any) -> None:
        try:
            async with self._counters.inference.ask(choice.ask) as answer:
                choice.answer = answer
                choice.book.reserve(answer)
                await self._follow(choice, answer)
                task_status.started()
                await self._are_started.wait()
                if choice.before is not None:
                    await self._replay(choice, choice.before, sink)
                await self._read(choice, answer, sink)
            choice.state = "done"
        except trio.Cancelled:
            choice.state = "cancelled"
            raise
        except BaseException:
            choice.state = "failed"
            raise
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(BOOKING_TIMEOUT_S):
                await self._book(choice)

    async def _replay(self, choice: Choice, before: ChoiceSoFar, sink: Sink) -> None:
        """What came before the gateway was started anew, all at once."""
        pieces = [choice.text.push(one) for one in before.items]
        if pieces:
            tokens = tuple(token for one in pieces for token in one.tokens)
            await sink.on_piece(choice, Piece("".join(one.text for one in pieces), tokens))

    async def _read(self, choice: Choice, answer: Answer, sink: Sink) -> None:
        metrics = self._counters.metrics
        last_s = self._began_s
        replayed = choice.text.tokens
        async for item in answer:
            if answer.request != choice.request:  # another path was taken
                await self._follow(choice, answer)
                choice.book.reserve(answer)
            if isinstance(item, PromptScored):
                await sink.on_piece(choice, Piece("", (), item))
                continue
            now_s = trio.current_time()
            metrics.note_token(self.call.model.name, now_s - last_s, is_first=choice.text.tokens == replayed)
            last_s = now_s
            self._tell_moves(choice, answer)
            if self._journal is not None:
                self._journal.note_token(choice.index, item)
            await sink.on_piece(choice, choice.text.push(item))

    async def _follow(self, choice: Choice, answer: Answer) -> None:
        """Another request goes on with the answer: noted before anything that comes of it leaves."""
        choice.request = answer.request
        if self._journal is not None:
            self._journal.note_request(choice.index, answer.request)
        await choice.book.follow(answer, choice.text.tokens)

    def _tell_moves(self, choice: Choice, answer: Answer) -> None:
        for one in answer.moves[choice.moves_told :]:
            self._counters.metrics.note_move(self.call.model.name, one.pause_s)
            choice.moves_told += 1

    async def _book(self, choice: Choice) -> None:
        """What it cost, whatever became of it."""
        answer = choice.answer
        if answer is None:
            return
        try:
            await choice.book.end(answer, choice.state, choice.text.tokens)
        finally:
            choice.book.release()
        self._tell_moves(choice, answer)
        prompt, tokens = len(choice.ask.prompt), choice.text.tokens
        self._counters.metrics.note_usage(self.call.operation, self.call.model.name, prompt, tokens, choice.cost)


def describe_move(move: Move, choice: int) -> dict[str, Any]:
    """What the client is told of a lost worker."""
    return {
        "choice": choice,
        "worker": move.worker.hex(),
        "reason": move.reason,
        "tokens": move.tokens,
        "pause_s": round(move.pause_s, 3) if move.resumed_s else None,
        "successors": [one.hex() for one in move.successors],
    }


def _describe_stage(stage: PathStage) -> dict[str, Any]:
    return {
        "worker": stage.worker.hex(),
        "start": stage.start,
        "end": stage.end,
        "prefill_price": stage.prefill_price,
        "decode_price": stage.decode_price,
    }
