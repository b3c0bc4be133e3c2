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
from node.client.answer import Answer, Ask, Inference, Resolution
from node.gateway.accounts.budget import Budgets
from node.gateway.accounts.keys import ApiKey
from node.gateway.accounts.store import AccountStore, StoredRequest, get_day
from node.gateway.catalog import OfferedModel
from node.gateway.follow import Follower
from node.gateway.generation import ChoiceText, Ending, Piece
from node.gateway.metrics import GatewayMetrics
from proto_specs.types.request import PathStage

BOOKING_TIMEOUT_S = 10.0
FREE_STATE = "cancelled"
"""What a request is called that ended without a cost."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a client wants. `operation` is its name in the metrics; `wait` what it waits for before the answer ends."""

    key: ApiKey
    model: OfferedModel
    asks: tuple[Ask, ...]
    stops: tuple[str, ...]
    operation: str
    wait: Resolution | None = None
    drops_all: bool = False
    created: int = field(default_factory=lambda: int(time.time()))


@dataclass(slots=True)
class Choice:
    """One answer of a call: its text, and what is known of its request."""

    index: int
    ask: Ask
    text: ChoiceText
    answer: Answer | None = None
    request: bytes = b""
    """The id under which it is booked."""
    state: str = "open"
    reserved: int = 0
    cost: int = 0
    resolution: Resolution = Resolution.PENDING

    def describe(self) -> dict[str, Any]:
        """What the client is told of the request."""
        request = "" if self.answer is None else self.answer.request.hex()
        is_free = self.cost == 0 and self.state != "open" and self.resolution == Resolution.PENDING
        return {"id": request, "cost_nmyl": self.cost, "state": FREE_STATE if is_free else self.resolution.value}


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

    def __init__(self, counters: Counters, call: Call) -> None:
        self._counters = counters
        self.call = call
        has_logprobs = call.asks[0].sampling.logprobs > 0
        self.choices = [
            Choice(
                index,
                ask,
                ChoiceText(call.model.tokenizer, call.stops, has_logprobs=has_logprobs, drops_all=call.drops_all),
            )
            for index, ask in enumerate(call.asks)
        ]
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
            if choice.answer is not None and choice.cost:
                stored = await self._counters.follower.wait_for(choice.request, wait)
                choice.resolution = stored.resolution
                choice.cost = stored.cost

    def describe(self) -> dict[str, Any]:
        """What the client is told of cost and state."""
        answers = [one.answer for one in self.choices if one.answer is not None]
        if not answers:
            return {"requests": [], "session": None, "path": [], "cost_nmyl": 0}
        return {
            "requests": [one.describe() for one in self.choices if one.answer is not None],
            "session": answers[0].session.hex(),
            "path": [_describe_stage(one) for one in answers[0].path],
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

    async def _run_choice(self, choice: Choice, sink: Sink, task_status: Any) -> None:
        is_begun = False
        try:
            async with self._counters.inference.ask(choice.ask) as answer:
                choice.answer = answer
                self._reserve(choice, answer)
                await self._begin(choice, answer)
                is_begun = True
                task_status.started()
                await self._are_started.wait()
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
                await self._book(choice, is_begun)
        await sink.on_end(choice, choice.text.ending)

    async def _read(self, choice: Choice, answer: Answer, sink: Sink) -> None:
        metrics = self._counters.metrics
        last_s = self._began_s
        async for item in answer:
            if answer.request != choice.request:  # another path was taken before anything came
                await self._counters.store.finish(choice.request, "failed", 0, 0)
                await self._begin(choice, answer)
                self._reserve(choice, answer)
            if isinstance(item, PromptScored):
                await sink.on_piece(choice, Piece("", (), item))
                continue
            now_s = trio.current_time()
            metrics.note_token(self.call.model.name, now_s - last_s, is_first=choice.text.tokens == 0)
            last_s = now_s
            choice.cost = answer.cost_nmyl
            await sink.on_piece(choice, choice.text.push(item))

    def _reserve(self, choice: Choice, answer: Answer) -> None:
        """Set aside what its present path may cost: more than the one before, where that one was promised something."""
        more = max(0, answer.cost_max_nmyl - choice.reserved)
        self._counters.budgets.reserve(self.call.key, more)
        choice.reserved += more

    async def _begin(self, choice: Choice, answer: Answer) -> None:
        choice.request = answer.request
        await self._counters.store.begin(self._make_row(choice, answer))

    async def _book(self, choice: Choice, is_begun: bool) -> None:
        """What it cost, whatever became of it."""
        answer = choice.answer
        if answer is None:
            return
        try:
            choice.cost = answer.cost_nmyl
            store = self._counters.store
            if not is_begun and choice.cost:
                await self._begin(choice, answer)
                is_begun = True
            if is_begun:
                await store.finish(choice.request, choice.state, choice.cost, choice.text.tokens)
            if choice.cost:
                self._counters.follower.follow(choice.request)
        finally:
            self._counters.budgets.release(self.call.key, choice.reserved)
        self._counters.metrics.note_usage(
            self.call.operation, self.call.model.name, len(choice.ask.prompt), choice.text.tokens, choice.cost
        )

    def _make_row(self, choice: Choice, answer: Answer) -> StoredRequest:
        call = self.call
        return StoredRequest(
            request=answer.request,
            key=call.key.number,
            day=get_day(call.created),
            created=call.created,
            session=answer.session,
            model=call.model.model,
            price_max=answer.cost_max_nmyl,
            state="open",
            cost=0,
            prompt_tokens=len(choice.ask.prompt),
            generated_tokens=0,
            resolution=Resolution.PENDING,
        )


def _describe_stage(stage: PathStage) -> dict[str, Any]:
    return {
        "worker": stage.worker.hex(),
        "start": stage.start,
        "end": stage.end,
        "prefill_price": stage.prefill_price,
        "decode_price": stage.decode_price,
    }
