"""An answer as its caller sees it, while the attempts behind it change."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass

import trio

from inference.serving.client import ClientRequest, PromptScored, RequestFailed
from node.client.answer import Ask, Generated, Move, OrderedPart
from node.client.chain_view import WorkerEntry
from node.client.routes import Route
from proto_specs.limits import POSITIONS_MAX
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import PathStage, compute_price_max
from proto_specs.types.wire import FinishReason

logger = logging.getLogger("myelin.client")


@dataclass(slots=True)
class StartTimes:
    """When the parts of a request's start were over, in seconds after it was asked; the last attempt's."""

    routed_s: float = 0.0
    connected_s: float = 0.0
    ordered_s: float = 0.0
    accepted_s: float = 0.0
    first_token_s: float = 0.0


class PaidAnswer:
    """Fulfils `Answer`. Request, session, path and costs are those of the present attempt."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.times = StartTimes()
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        """Nothing of it runs any more."""
        self.requests: dict[bytes, bool] = {}
        """Every request id that an order was signed under, and whether something is owed for it."""
        self.is_signed = False
        self.workers: tuple[WorkerEntry, ...] = ()
        self.known: dict[bytes, WorkerEntry] = {}
        """Every worker that an order named."""
        self._started_s = trio.current_time()
        self._promised_before = 0
        self.orders = 0
        """Orders that were signed for it."""
        self.is_accepted_by_all = False
        """Whether every stage takes part in the present order."""
        self.last_failure: tuple[RequestFailed, bytes] | None = None
        """Why the last order that all had accepted failed, and its request id."""
        self.moves: list[Move] = []
        """See Answer."""
        self._left: list[OrderedPart] = []
        self._tokens = len(ask.answered)
        self._last: Generated | None = None
        self._is_over = False
        self._route: Route | None = None
        self._session = ZERO_HASH
        self._machine: ClientRequest | None = None
        self._request = ZERO_HASH
        self._accepted = trio.Event()
        self._failure: Exception | None = None
        room = ask.tokens_max + POSITIONS_MAX
        self._sender, self._items = trio.open_memory_channel[Generated | PromptScored](room)

    @property
    def request(self) -> bytes:
        """See Answer."""
        return self._request

    @property
    def session(self) -> bytes:
        """See Answer."""
        return self._session

    @property
    def parts(self) -> tuple[OrderedPart, ...]:
        """See Answer."""
        return (*self._left, *self._make_part(0 if self._machine is None else self._machine.cost_nmyl))

    @property
    def path(self) -> tuple[PathStage, ...]:
        """See Answer."""
        return () if self._route is None else self._route.path

    @property
    def cost_nmyl(self) -> int:
        """See Answer. What an attempt before this one promised for the prompt is in it."""
        return self._promised_before + (0 if self._machine is None else self._machine.cost_nmyl)

    @property
    def cost_max_nmyl(self) -> int:
        """See Answer. What attempts before this one promised is in it."""
        if self._machine is None:
            return self._promised_before
        return self._promised_before + compute_price_max(self._machine.order.order)

    def __aiter__(self) -> PaidAnswer:
        """See Answer."""
        return self

    async def __anext__(self) -> Generated | PromptScored:
        """The next item. Raises RequestLost, NobodyServes, InferenceRefused."""
        try:
            return await self._items.receive()
        except trio.EndOfChannel:
            if self._failure is not None:
                raise self._failure from None
            raise StopAsyncIteration from None

    async def wait_accepted(self) -> None:
        """Until every stage takes part. Raises what prevented it."""
        await self._accepted.wait()
        if self._failure is not None:
            raise self._failure

    def get_elapsed(self) -> float:
        """Seconds since it was asked."""
        return trio.current_time() - self._started_s

    def is_owed(self, request: bytes) -> bool:
        """Whether something was promised under this request id."""
        return self.requests.get(request, False)

    def begin(self, route: Route, session: bytes, machine: ClientRequest) -> None:
        """An order is signed: this is the present attempt."""
        if self._machine is not None and self._request != machine.request:
            self._left += self._make_part(self._machine.cost_nmyl)
        self._promised_before = self.cost_nmyl
        self.orders += 1
        self._request = machine.request
        self.is_accepted_by_all = False
        self._route, self._session, self._machine = route, session, machine
        self.workers = route.workers
        self.known.update((one.worker, one) for one in route.workers)
        self._name_successors()
        self.requests[machine.request] = False

    def note_accepted(self) -> None:
        """Every stage takes part."""
        self.is_accepted_by_all = True
        if not self._accepted.is_set():
            self.times.accepted_s = self.get_elapsed()
        self._accepted.set()

    def leave(self, failure: RequestFailed, lost: bytes, cost_nmyl: int) -> None:
        """The present order failed with a worker, and costs so much: what all its stages have signed."""
        self.moves.append(Move(lost, failure.message, self._tokens, self.get_elapsed()))
        assert self._machine is not None, "it was begun"
        self.last_failure = failure, self._machine.request
        self._left += self._make_part(cost_nmyl)
        self.requests[self._machine.request] |= cost_nmyl > 0
        self._promised_before += cost_nmyl
        self._machine = None

    def _make_part(self, cost_nmyl: int) -> list[OrderedPart]:
        """The present order, which costs so much; nothing when there is none."""
        if self._machine is None:
            return []
        continuation = self._machine.order.order.continuation
        continues = None if continuation is None else continuation.request
        return [OrderedPart(self._request, self._session, self.path, cost_nmyl, continues)]

    def _name_successors(self) -> None:
        """Who has the layers of those that were lost since the last token."""
        for move in self.moves:
            if not move.resumed_s:
                lost = self.known[move.worker]
                taking = (one for one in self.workers if one.start < lost.end and lost.start < one.end)
                move.successors = tuple(one.worker for one in taking)

    def put_token(self, token: Generated) -> None:
        """Hand a token to the caller; the last one waits for `finish`."""
        self._tokens += 1
        for move in self.moves:
            move.resumed_s = move.resumed_s or token.seconds
        if token.finish is FinishReason.NONE:
            self.put(token)
        else:
            self._last = token

    def finish(self) -> None:
        """The answer is whole: hand the last token to the caller."""
        assert self._last is not None, "an answer ends with a token"
        self.put(self._last)
        self.end(None)

    def put(self, item: Generated | PromptScored) -> None:
        """Hand something to the caller. There is room for all that was ordered."""
        if isinstance(item, Generated) and not self.times.first_token_s:
            self.times.first_token_s = item.seconds
            steps = ", ".join(f"{name.removesuffix('_s')} {1e3 * at:.0f}" for name, at in asdict(self.times).items())
            logger.info("request %s, ms since it was asked: %s", self.request.hex()[:12], steps)
        self._sender.send_nowait(item)

    def end(self, failure: Exception | None) -> None:
        """Nothing more comes. The first end counts."""
        if not self._is_over:
            self._is_over, self._failure = True, failure
        self._sender.close()
        self._accepted.set()
