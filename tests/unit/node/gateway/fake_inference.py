"""An `Inference` without network and chain: seeded words, or what a test scripts, token by token, with prices."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from inference.model.tokenizer.byte_alphabet import BYTE_OF_CHAR
from inference.model.tokenizer.data import TokenizerData
from inference.model.tokenizer.tokenizer import Tokenizer
from inference.serving.client import PromptScored, RequestFailed
from node.client.answer import (
    Answer,
    Ask,
    Generated,
    Move,
    OrderedPart,
    RequestOutcome,
    Resolution,
    StageOutcome,
)
from node.client.errors import RequestLost
from node.gateway.catalog import ModelPrice, OfferedModel
from proto_specs.order_rules import ModelBounds
from proto_specs.types.request import PathStage, compute_stage_price
from proto_specs.types.sampling import TokenLogprob
from proto_specs.types.wire import FailureCode, FinishReason

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOKENS = (*SPECIALS, *BYTE_OF_CHAR)
EOS = 2
MODEL = bytes(range(32))
SESSION = b"\x55" * 32
NAME = "Toy-1"
CONTEXT = 4_096
LAYERS = 6
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PATH = (PathStage(b"\xa1" * 32, 0, 3, 10, 20), PathStage(b"\xb2" * 32, 3, LAYERS, 10, 20))
WORDS = ("alpha", "beta", "gamma", "delta", "omega", "größer", "日本", "🙂")


def make_tokenizer(template: str = TEMPLATE) -> Tokenizer:
    """A token for each byte, and three control tokens."""
    types = (3,) * len(SPECIALS) + (1,) * len(BYTE_OF_CHAR)
    return Tokenizer(TokenizerData(TOKENS, types, (), "smollm", None, EOS), template, (EOS,))


def make_model(template: str = TEMPLATE, name: str = NAME, model: bytes = MODEL) -> OfferedModel:
    """A model of the toy's tokenizer."""
    bounds = ModelBounds(LAYERS, len(TOKENS), CONTEXT, 128, 0)
    return OfferedModel(model, name, bounds, make_tokenizer(template), ModelPrice(60, 120))


@dataclass
class FixedCatalog:
    """Models that are given; `failure` is raised instead."""

    models: tuple[OfferedModel, ...]
    failure: Exception | None = None

    async def list_models(self) -> tuple[OfferedModel, ...]:
        """All of them."""
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        return self.models


def say(text: str) -> Callable[[Ask], str]:
    """A script that says one text."""
    return lambda _ask: text


def babble(ask: Ask) -> str:
    """Words drawn by the order's seed."""
    drawn = random.Random(ask.sampling.seed)
    return " ".join(drawn.choice(WORDS) for _ in range(drawn.randint(3, 12)))


class FakeAnswer:
    """A request under way."""

    def __init__(self, ask: Ask, number: int, owner: FakeInference) -> None:
        self.ask = ask
        before = b"" if ask.before is None else ask.before.request
        self.request = hashlib.sha256(f"{number}".encode() + before).digest()
        self.session = SESSION
        self.path = PATH
        self.moves: list[Move] = []
        self.vouched = -1
        self.promised_before = 0
        self.left: list[OrderedPart] = []
        self._owner = owner
        self._items = self._make_items()

    def price(self, tokens: int) -> int:
        return sum(compute_stage_price(one, len(self.ask.prompt), tokens) for one in PATH)

    @property
    def cost_nmyl(self) -> int:
        """Of all that was delivered, the part before a move included."""
        return 0 if self.vouched < 0 else self.price(self.vouched)

    @property
    def parts(self) -> tuple[OrderedPart, ...]:
        before = self.ask.before
        continues = self.left[-1].request if self.left else None if before is None else before.request
        rest = self.cost_nmyl - sum(one.cost_nmyl for one in self.left)
        return (*self.left, OrderedPart(self.request, self.session, self.path, rest, continues))

    def move(self) -> None:
        """The first worker is lost: another request goes on."""
        self.left.append(self.parts[-1])
        self.request = hashlib.sha256(self.request).digest()
        self.moves.append(Move(PATH[0].worker, "it went away", self.vouched, 1.0, 1.5, (b"\xc3" * 32,)))

    @property
    def cost_max_nmyl(self) -> int:
        return self.price(self.ask.tokens_max) + self.promised_before

    def __aiter__(self) -> AsyncIterator[Generated | PromptScored]:
        return self

    async def __anext__(self) -> Generated | PromptScored:
        owner = self._owner
        at = max(self.vouched, 0)
        if owner.lose_at is not None and at >= owner.lose_at:
            failure = RequestFailed(1, FailureCode.NEIGHBOUR_LOST, "the worker is gone")
            raise RequestLost(failure, self.request, SESSION, self.cost_nmyl)
        if owner.hold_at is not None and at >= owner.hold_at:
            owner.holding.set()
            await trio.sleep_forever()
        if owner.fail_over_at == at and not self.promised_before:
            self.request = hashlib.sha256(self.request).digest()
            self.promised_before = 10**9
            self.left.append(OrderedPart(b"\x99" * 32, SESSION, PATH, 0))
        if owner.move_at == at and not self.moves:
            self.move()
        await owner.pause()
        try:
            item = next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None
        if isinstance(item, Generated):
            self.vouched = max(self.vouched, 0) + 1
        return item

    def _make_items(self) -> Iterator[Generated | PromptScored]:
        ask = self.ask
        sampling = ask.sampling
        if sampling.prompt_logprobs:
            rows = tuple(self._make_logprobs(one) for one in ask.prompt[1:])
            yield PromptScored(0, rows)
        text = self._owner.script(ask).encode()
        tokens = [TOKENS.index(_CHAR_OF_BYTE[one]) for one in text]
        said = b""
        for index, token in enumerate([*tokens, EOS]):
            said += b"" if token == EOS else text[index : index + 1]
            if index < len(ask.answered):
                assert token == ask.answered[index], "it goes on with the same answer"
                continue
            is_stop = token == EOS or any(one in said for one in sampling.stop)
            is_last = index + 1 == ask.tokens_max
            finish = FinishReason.STOP if is_stop else FinishReason.LENGTH if is_last else FinishReason.NONE
            yield Generated(token, finish, 0.01 * index, self._make_logprobs(token))
            if finish != FinishReason.NONE:
                return

    def _make_logprobs(self, token: int) -> tuple[TokenLogprob, ...]:
        count = self.ask.sampling.logprobs
        return tuple(TokenLogprob((token + one) % len(TOKENS), -100_000 * (one + 1)) for one in range(count))


@dataclass
class FakeInference:
    """Answers by `script`. `refuse` is raised instead; At token `lose_at` it fails, at `hold_at` it stops.

    At `fail_over_at` it goes on over another path, after this one was promised a lot; at `move_at` after it was paid.
    """

    script: Callable[[Ask], str] = babble
    refuse: Exception | None = None
    lose_at: int | None = None
    hold_at: int | None = None
    fail_over_at: int | None = None
    move_at: int | None = None
    asked: list[Ask] = field(default_factory=list)
    answers: list[FakeAnswer] = field(default_factory=list)
    left: list[FakeAnswer] = field(default_factory=list)
    resolution: Resolution = Resolution.PENDING
    holding: trio.Event = field(default_factory=trio.Event)
    pause: Callable[[], object] = trio.lowlevel.checkpoint

    @asynccontextmanager
    async def ask(self, ask: Ask) -> AsyncIterator[Answer]:
        """See Inference."""
        await trio.lowlevel.checkpoint()
        self.asked.append(ask)
        if self.refuse is not None:
            raise self.refuse
        answer = FakeAnswer(ask, len(self.asked), self)
        self.answers.append(answer)
        try:
            yield answer
        finally:
            self.left.append(answer)

    async def get_outcome(self, request: bytes, session: bytes | None = None) -> RequestOutcome:
        """See Inference."""
        await trio.lowlevel.checkpoint()
        found = next((one for one in self.answers if one.request == request), None)
        price = 0 if found is None or self.resolution == Resolution.PENDING else found.cost_nmyl
        stages = tuple(StageOutcome(one.worker, one.start, one.end, "paid", True, 1_000, 30_000) for one in PATH)
        return RequestOutcome(request, self.resolution, 7, price, 0, stages if price else ())


_CHAR_OF_BYTE = {byte: char for char, byte in BYTE_OF_CHAR.items()}
