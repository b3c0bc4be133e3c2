"""One request over as many paths as it takes: each attempt has its route, its order and its slice."""

from __future__ import annotations

import logging

import trio

from inference.routing import NoPathError
from inference.serving.client import ClientRequest, PromptScored, RequestFailed, SettlementSent, TokenReceived
from node.client.answer import Ask, Generated
from node.client.errors import AskingEnded, InferenceRefused, NobodyServes, RequestLost
from node.client.escrow_session import EscrowSlice
from node.client.link import FrameLink
from node.client.paid_answer import PaidAnswer
from node.client.purse import SessionOrder
from node.client.routes import Route, Routes
from node.client.session_pool import SessionPool
from node.client.transport import (
    AnswerSigned,
    Progress,
    RequestTransport,
    StageAccepted,
    StageLost,
    StageUnreachable,
)
from proto_specs.errors import DecodeError
from proto_specs.order_rules import OrderInvalid, make_bounds, validate_order
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.manifest import ServiceClass
from proto_specs.types.request import Order, compute_prompt_hash, compute_request_id, pack_tokens, sign_order
from proto_specs.types.sampling import compute_grammar_hash
from proto_specs.types.wire import FailureCode, FinishReason

PATHS_MAX = 4
"""Paths that are tried for a request before the caller sees an error."""
FUNDED_S = 20.0
"""So long a worker's node may not know yet of a session's opening or top-up."""
RESEND_S = 0.25

CURABLE = frozenset(
    {
        FailureCode.NO_CAPACITY,
        FailureCode.INTERNAL,
        FailureCode.NEIGHBOUR_LOST,
        FailureCode.UNKNOWN_MODEL,
        FailureCode.LEAVING,
    }
)
"""What another path may not suffer from."""
OUTDATED = frozenset({FailureCode.NOT_MY_STAGE, FailureCode.PRICE_TOO_LOW, FailureCode.BAD_ORDER})
"""What a newer look at the chain's workers may cure, once."""

logger = logging.getLogger("myelin.client")


class RequestAttempts:
    """Makes one request."""

    def __init__(self, genesis: bytes, transport: RequestTransport, pool: SessionPool, routes: Routes) -> None:
        self._genesis = genesis
        self._transport = transport
        self._pool = pool
        self._routes = routes
        self._excluded: set[bytes] = set()
        self._reasons: list[str] = []
        self._is_busy = True
        self._is_reread = False
        self._refusal: InferenceRefused | None = None
        """What one worker said of the request itself. It may lie, so another one is asked before it is believed."""

    async def run(self, answer: PaidAnswer) -> None:
        """Until the request is settled, has failed for good, or its scope is cancelled. Never raises for a failure."""
        failure: Exception | None = None
        try:
            with answer.scope:
                for _ in range(PATHS_MAX):
                    if await self._try_path(answer):
                        return
                raise NobodyServes(tuple(self._reasons), self._is_busy)
        except Exception as error:
            failure = error
        except (
            BaseException
        ):  # cancelled from outside: whoever still reads must not take what came for the whole answer
            failure = AskingEnded(answer.cost_nmyl)
            raise
        finally:
            answer.end(failure)
            answer.ended.set()

    async def _try_path(self, answer: PaidAnswer) -> bool:
        """Whether it is over. False: try another path. Raises what no other path cures."""
        ask = answer.ask
        route = await self._choose(ask)
        self._check(ask, route)
        answer.times.routed_s = answer.get_elapsed()
        price = route.compute_price(len(ask.prompt), ask.tokens_max)
        await self._pool.prepare(ask.model, ask.max_price, price)
        try:
            links = await self._transport.connect(route.peers)
        except StageUnreachable as error:
            self._note_failed(route, StageLost(error.stage, FailureCode.NEIGHBOUR_LOST, str(error)))
            return False
        answer.times.connected_s = answer.get_elapsed()
        try:
            order = await self._pool.take(ask.model, ask.max_price, price)
        except BaseException:
            for link in links:
                link.reset("no order")
            raise
        return await self._run_order(answer, route, order, links)

    async def _choose(self, ask: Ask) -> Route:
        try:
            return await self._routes.choose(ask, self._excluded)
        except NoPathError:
            if self._refusal is not None:
                raise self._refusal from None
            if self._reasons:
                raise NobodyServes(tuple(self._reasons), self._is_busy) from None
            raise

    def _check(self, ask: Ask, route: Route) -> None:
        """Raises InferenceRefused for what no worker would take, before anything is paid."""
        grammar = ask.sampling.grammar
        wanted = None if grammar is None else grammar.text_hash
        if wanted != (compute_grammar_hash(ask.grammar) if ask.grammar else None):
            raise InferenceRefused("the grammar is not the one that the sampling rules name")
        order = self._make_order(ask, route, ZERO_HASH, EscrowSlice(0, 0, 1))
        try:
            compute_request_id(order)
            validate_order(order, make_bounds(route.manifest))
        except (OrderInvalid, DecodeError) as error:
            raise InferenceRefused(str(error)) from error

    async def _run_order(self, answer: PaidAnswer, route: Route, order: SessionOrder, links: list[FrameLink]) -> bool:
        ask = answer.ask
        signed = sign_order(self._make_order(ask, route, order.session, order.slice), order.key)
        answer.times.ordered_s = answer.get_elapsed()
        machine = ClientRequest(signed, ask.prompt, order.key, ask.grammar, route.manifest.eos_tokens)
        try:
            while True:
                answer.begin(route, order.session, machine)
                failure = await self._follow(answer, route, machine, links)
                if failure is None or not _is_unknown_yet(failure, order) or _has_promised(answer, machine):
                    break
                # The worker's node has not seen the opening or top-up yet. Nobody took this order: it may come again.
                await trio.sleep(RESEND_S)
                links = await self._transport.connect(route.peers)
                machine = ClientRequest(signed, ask.prompt, order.key, ask.grammar, route.manifest.eos_tokens)
        except StageUnreachable as error:
            failure = StageLost(error.stage, FailureCode.NEIGHBOUR_LOST, str(error))
        finally:
            answer.requests[machine.request] = machine.vouched >= 0
            self._pool.end(order, is_vouched=machine.vouched >= 0, is_signed=answer.is_signed)
        if failure is None:
            return True
        if answer.has_begun:
            raise RequestLost(failure, machine.request, order.session, answer.cost_nmyl)
        self._judge(ask, route, failure)
        return False

    async def _follow(
        self, answer: PaidAnswer, route: Route, machine: ClientRequest, links: list[FrameLink]
    ) -> RequestFailed | None:
        """Hand on what comes; the failure, unless everything was signed. The last token waits for the signatures."""
        began_s = trio.current_time()
        last: Generated | None = None
        left = set(range(len(links)))
        async with self._transport.open(machine, route.peers, links) as progress:
            async for event in progress:
                match event:
                    case StageAccepted():
                        now_s = trio.current_time()
                        self._routes.memory.note_reached(route.workers[event.stage].worker, now_s - began_s, now_s)
                        left.discard(event.stage)
                        if not left:
                            answer.note_accepted()
                    case TokenReceived():
                        seconds = answer.get_elapsed()
                        token = Generated(event.token, event.finish, seconds, event.logprobs)
                        if event.finish is FinishReason.NONE:
                            answer.put(token)
                        else:
                            last = token
                    case PromptScored():
                        answer.put(event)
                    case AnswerSigned():
                        assert last is not None, "an answer is signed after its last token"
                        answer.is_signed = True
                        answer.put(last)
                        answer.end(None)
                    case _ if (failure := _read_end(event, answer)) is not None:
                        return failure
        return None

    def _judge(self, ask: Ask, route: Route, failure: RequestFailed) -> None:
        """A failure before the first token: raises InferenceRefused when two workers say that no path would help."""
        if isinstance(failure, StageLost) or failure.code in CURABLE:
            self._note_failed(route, failure)
            return
        if failure.code in OUTDATED and not self._is_reread:
            self._is_reread = True
            self._reasons.append(f"stage {failure.stage}: {failure.message}")
            self._routes.forget(ask.model)
            return
        refusal = InferenceRefused(f"stage {failure.stage} refuses: {failure.message} ({failure.code.name})")
        if self._refusal is not None:
            raise refusal
        self._refusal = refusal
        self._note_failed(route, failure)

    def _note_failed(self, route: Route, failure: RequestFailed) -> None:
        stage = failure.stage
        is_neighbour = failure.code is FailureCode.NEIGHBOUR_LOST and not isinstance(failure, StageLost)
        if is_neighbour and stage + 1 < len(route.workers):
            stage += 1  # a stage dials the next one
        worker = route.workers[stage].worker
        self._routes.memory.note_failed(worker, trio.current_time())
        self._excluded.add(worker)
        self._is_busy = self._is_busy and failure.code is FailureCode.NO_CAPACITY
        self._reasons.append(failure.message)
        logger.info("another path is tried: %s", failure.message)

    def _make_order(self, ask: Ask, route: Route, session: bytes, part: EscrowSlice) -> Order:
        return Order(
            genesis=self._genesis,
            session=session,
            sequence=part.sequence,
            slice_start=part.start,
            slice_end=part.end,
            model=ask.model,
            service_class=ServiceClass(route.manifest.service_class),
            prompt_hash=compute_prompt_hash(pack_tokens(ask.prompt)),
            prompt_tokens=len(ask.prompt),
            tokens_max=ask.tokens_max,
            sampling=ask.sampling,
            path=route.path,
        )


def _read_end(event: Progress, answer: PaidAnswer) -> RequestFailed | None:
    """The failure that ends a request. Once all is signed the stages settle: what fails then is theirs."""
    if isinstance(event, SettlementSent) or answer.is_signed:
        return None
    assert isinstance(event, RequestFailed), "every other progress was handled"
    return event


def _has_promised(answer: PaidAnswer, machine: ClientRequest) -> bool:
    """Whether a stage took the order, whatever it says now: the same order must not be promised twice."""
    return answer.has_begun or machine.vouched >= 0


def _is_unknown_yet(failure: RequestFailed, order: SessionOrder) -> bool:
    is_fresh = trio.current_time() - order.funded_s < FUNDED_S
    return failure.code is FailureCode.NO_ESCROW and not isinstance(failure, StageLost) and is_fresh
