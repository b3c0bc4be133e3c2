"""What whoever asks a model sees of a request: the wish, the answer, what it cost, and what the chain made of it.

Types alone. `node/client/inference.py` fulfils `Inference` over libp2p and the chain; a gateway's tests do without.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from inference.routing import Prefer
from inference.serving.client import PromptScored
from proto_specs.types.request import PathStage
from proto_specs.types.sampling import SamplingParams, TokenLogprob
from proto_specs.types.wire import FinishReason


@dataclass(frozen=True, slots=True)
class AnsweredBefore:
    """Tokens that came under request id `request`, the latest of their answer. `epoch` is the next order's, from 1 on.

    What of that request was vouched for settles by itself; the next order bills prompt and tokens as its prompt.
    """

    request: bytes
    tokens: tuple[int, ...]
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class Ask:
    """The client's wish: a prompt for a model, at most at this price per layer and token (nmyl).

    `grammar` is the text of `sampling.grammar`. `prefer` says what matters most when a path is chosen. `before` is what
    an earlier asker, which is gone, had of this very answer: it goes on from there. `is_awaited`: somebody waits for
    the chain's word, so it settles at once and not with others.
    """

    model: bytes
    prompt: tuple[int, ...]
    tokens_max: int
    sampling: SamplingParams
    max_price: int
    grammar: bytes = b""
    prefer: Prefer = Prefer.FAST
    before: AnsweredBefore | None = None
    is_awaited: bool = False

    @property
    def answered(self) -> tuple[int, ...]:
        """Tokens of the answer that are here already; `tokens_max` counts them."""
        return () if self.before is None else self.before.tokens


@dataclass(frozen=True, slots=True)
class Generated:
    """A token, `seconds` after the request began, with the log-probabilities that were asked for."""

    token: int
    finish: FinishReason
    seconds: float
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(slots=True)
class Move:
    """A worker was lost in mid-answer, after `tokens` tokens, and the answer went on with others.

    Seconds are since the request began; `resumed_s` is when the next token came, 0 as long as none did. `successors`
    are the workers that have its layers from then on, empty until somebody does.
    """

    worker: bytes
    reason: str
    tokens: int
    lost_s: float
    resumed_s: float = 0.0
    successors: tuple[bytes, ...] = ()

    @property
    def pause_s(self) -> float:
        """Between the loss and the next token; 0 as long as none came."""
        return max(0.0, self.resumed_s - self.lost_s)


@dataclass(frozen=True, slots=True)
class OrderedPart:
    """One request of an answer: it settles on its own, at this cost; 0: nothing is owed for it.

    `continues`: the request that it goes on from.
    """

    request: bytes
    session: bytes
    path: tuple[PathStage, ...]
    cost_nmyl: int
    continues: bytes | None = None


class Answer(Protocol):
    """A request under way. Iterating gives its tokens until the one with a finish reason, once everything is signed.

    A stage that fails is replaced, whatever came by then: `request`, `session` and `path` change with it, and `moves`
    tells. Iterating raises RequestLost when the answer has begun and no other path is left, NobodyServes before.
    """

    @property
    def moves(self) -> Sequence[Move]:
        """The workers that were lost on the way."""

    @property
    def parts(self) -> Sequence[OrderedPart]:
        """Every request that was ordered for it, in order: each goes on from the one before. Their costs sum up."""

    @property
    def request(self) -> bytes:
        """The request's id: of the latest part."""

    @property
    def session(self) -> bytes:
        """The session that pays."""

    @property
    def path(self) -> tuple[PathStage, ...]:
        """The stages that serve it, with their prices."""

    @property
    def cost_nmyl(self) -> int:
        """What has been promised so far: it settles at this, also when it is left early. 0: nothing is owed."""

    @property
    def cost_max_nmyl(self) -> int:
        """The most that it can cost."""

    def __aiter__(self) -> AsyncIterator[Generated | PromptScored]:
        """The answer as it comes."""


class Resolution(enum.StrEnum):
    """What the chain made of a request. The first two are on the way; the others are final."""

    PENDING = "pending"
    """Not on chain (yet)."""
    SETTLED = "settled"
    """On chain; its price is held until every stage is resolved."""
    PAID = "paid"
    """Every stage is paid, and not every one was drawn: what was not drawn is paid unverified."""
    VERIFIED = "verified"
    """Every stage was drawn, recomputed and passed."""
    REFUNDED = "refunded"
    """A stage could not be verified: its price came back."""
    SLASHED = "slashed"
    """A stage failed verification: it was slashed and the client refunded."""
    LOST = "lost"
    """Never settled: nothing was paid, and its slice returns with the session."""

    @property
    def is_final(self) -> bool:
        """Whether it changes no more."""
        return self not in (Resolution.PENDING, Resolution.SETTLED)


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """One stage of a settled request: its worker, whether the beacon drew it, and its distance if it was judged."""

    worker: bytes
    start: int
    end: int
    status: str
    is_drawn: bool
    distance_ppb: int | None
    threshold_ppb: int | None


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """A request as the chain has it, settled in block `height` (0: not on chain).

    `price` is what it settled at, `returned` what came back of it, in nmyl. A request that settled with others has the
    id of their `statement`: its stages were drawn, judged and paid as one, and price and return are this one's share.
    """

    request: bytes
    resolution: Resolution
    height: int
    price: int
    returned: int
    stages: tuple[StageOutcome, ...]
    statement: bytes | None = None


class Inference(Protocol):
    """Asks models and pays for the answers."""

    def ask(self, ask: Ask) -> AbstractAsyncContextManager[Answer]:
        """Make a request; the block begins when every stage has accepted. Leaving it early cancels at every stage.

        Raises InferenceRefused for what cannot be asked, NoPathError when nobody serves the model at this price,
        NobodyServes when every path failed, EscrowShort, CallFailed or RpcError when no session can be opened or paid
        for, ChainUnreachable.
        """

    async def get_outcome(self, request: bytes, session: bytes | None = None) -> RequestOutcome:
        """What the chain has of a request. `session` is the one that pays, for whoever remembers it.

        Raises ChainUnreachable.
        """
