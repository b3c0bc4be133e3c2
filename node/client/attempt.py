"""One request over as many paths as it takes: each order has its route and its slice, and goes on where one was lost.

Before the first token and after it alike: a stage that is lost is replaced, and the answer goes on from what all stages
have signed (inference.md, "Continuations").
"""

from __future__ import annotations

import logging
from collections import Counter

import trio

from inference.routing import NoPathError
from inference.serving.client import (
    ClientRequest,
    PromptScored,
    RequestFailed,
    SettlementSent,
    StatementAwaited,
    TokenReceived,
)
from node.client.answer import Ask, Generated
from node.client.errors import AskingEnded, InferenceRefused, NobodyServes, RequestLost
from node.client.escrow_session import EscrowSlice
from node.client.link import FrameLink
from node.client.paid_answer import PaidAnswer
from node.client.purse import SessionOrder
from node.client.routes import Route, Routes
from node.client.session_pool import SessionPool
from node.client.so_far import EPOCH_MAX, AnswerSoFar
from node.client.statement_clerk import StatementClerk
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
from proto_specs.types.request import Order, compute_price_max, compute_request_id, sign_order
from proto_specs.types.sampling import compute_grammar_hash
from proto_specs.types.wire import FailureCode

PATHS_MAX = 4
"""Paths that are tried without a token before the caller sees an error."""
COST_FACTOR_MAX = 4
"""So many times the highest price of the first path may be vouched for in orders that failed: workers who compute the
prompt, give a token and are gone would else be paid for it by one order after another."""
ACCUSED_MAX = 3
"""Workers that one of them may say it lost in one answer, before it is left out itself."""
BLAMES_ANOTHER = frozenset({FailureCode.NEIGHBOUR_LOST, FailureCode.BAD_INPUT})
"""Failures that may be another stage's than the one that tells of them: it went away, or sent what is no rows."""
FUNDED_S = 20.0
"""So long a worker's node may not know yet of a session's opening or top-up."""
RESEND_S = 0.25

CURABLE = frozenset(
    {
        FailureCode.NO_CAPACITY,
        FailureCode.INTERNAL,
        FailureCode.NEIGHBOUR_LOST,
        FailureCode.UNKNOWN_MODEL,
        FailureCode.MOVED,
        FailureCode.LEAVING,
    }
)
"""What another path may not suffer from."""
OUTDATED = frozenset({FailureCode.NOT_MY_STAGE, FailureCode.PRICE_TOO_LOW, FailureCode.BAD_ORDER})
"""What a newer look at the chain's workers may cure, once."""
FOR_GOOD = frozenset({FailureCode.CANCELLED, FailureCode.UNVOUCHED, FailureCode.NO_ESCROW, FailureCode.BAD_ORDER})
"""What ends an answer that has begun: no other worker would do better."""

logger = logging.getLogger("myelin.client")


class RequestAttempts:
    """Makes one request."""

    def __init__(
        self,
        genesis: bytes,
        transport: RequestTransport,
        pool: SessionPool,
        routes: Routes,
        ask: Ask,
        clerk: StatementClerk | None = None,
    ) -> None:
        """`clerk` settles finished requests together; None: each settles by itself."""
        self._clerk = None if ask.is_awaited else clerk
        self._genesis = genesis
        self._transport = transport
        self._pool = pool
        self._routes = routes
        self._ask = ask
        self._so_far = AnswerSoFar(ask)
        self._scored = 0
        self._excluded: set[bytes] = set()
        self._accused = Counter[bytes]()
        self._promised = self._price_max = 0
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
                await self._try_paths(answer)
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

    async def _try_paths(self, answer: PaidAnswer) -> None:
        tried, tokens = 0, 0
        while tried < PATHS_MAX and answer.orders <= EPOCH_MAX and self._promised <= COST_FACTOR_MAX * self._price_max:
            try:
                if await self._try_path(answer):
                    return
            except NoPathError as error:
                raise self._explain(answer, error) from None
            tried = 1 if len(self._so_far.tokens) > tokens else tried + 1
            tokens = len(self._so_far.tokens)
        raise self._explain(answer, None)

    def _explain(self, answer: PaidAnswer, error: NoPathError | None) -> Exception:
        """What the caller is told when no path is left."""
        if answer.last_failure is not None:
            failure, request = answer.last_failure
            return RequestLost(failure, request, answer.session, answer.cost_nmyl)
        if error is not None and self._refusal is not None:
            return self._refusal
        if error is not None and not self._reasons:
            return error
        return NobodyServes(tuple(self._reasons), self._is_busy)

    async def _try_path(self, answer: PaidAnswer) -> bool:
        """Whether it is over. False: try another path. Raises what no other path cures."""
        ask = self._ask
        if self._so_far.path:
            route = await self._routes.choose_continuation(ask, self._so_far.path, self._excluded, self._excluded)
        else:
            route = await self._routes.choose(ask, self._excluded)
        self._check(route)
        self._price_max = self._price_max or self._compute_price(route)
        answer.times.routed_s = answer.get_elapsed()
        await self._pool.prepare(ask.model, ask.max_price, self._compute_price(route))
        try:
            links = await self._transport.connect(route.peers)
        except StageUnreachable as error:
            self._note_failed(route, StageLost(error.stage, FailureCode.NEIGHBOUR_LOST, str(error)))
            return False
        answer.times.connected_s = answer.get_elapsed()
        try:
            order = await self._pool.take(ask.model, ask.max_price, self._compute_price(route))
            if self._so_far.enter(order.session):
                self._pool.end(order, is_vouched=False)
                order = await self._pool.take(ask.model, ask.max_price, self._compute_price(route))
        except BaseException:
            for link in links:
                link.reset("no order")
            raise
        return await self._run_order(answer, route, order, links)

    def _compute_price(self, route: Route) -> int:
        """The most that the next order may cost."""
        return compute_price_max(self._so_far.make_order(self._genesis, ZERO_HASH, route, EscrowSlice(0, 0, 1)))

    def _check(self, route: Route) -> None:
        """Raises InferenceRefused for what no worker would take, before anything is paid."""
        ask = self._ask
        grammar = ask.sampling.grammar
        wanted = None if grammar is None else grammar.text_hash
        if wanted != (compute_grammar_hash(ask.grammar) if ask.grammar else None):
            raise InferenceRefused("the grammar is not the one that the sampling rules name")
        order = self._so_far.make_order(self._genesis, ZERO_HASH, route, EscrowSlice(0, 0, 1))
        try:
            compute_request_id(order)
            validate_order(order, make_bounds(route.manifest))
        except (OrderInvalid, DecodeError) as error:
            raise InferenceRefused(str(error)) from error

    def _make_machine(self, route: Route, order: SessionOrder) -> ClientRequest:
        made = self._so_far.make_order(self._genesis, order.session, route, order.slice)
        return self._make_machine_of(made, route, order)

    def _make_machine_of(self, made: Order, route: Route, order: SessionOrder) -> ClientRequest:
        signed, so_far = sign_order(made, order.key), self._so_far
        settled = so_far.get_settled(made.path)
        eos, batched = route.manifest.eos_tokens, self._clerk is not None
        return ClientRequest(signed, so_far.prompt, order.key, self._ask.grammar, eos, settled, batched=batched)

    async def _run_order(self, answer: PaidAnswer, route: Route, order: SessionOrder, links: list[FrameLink]) -> bool:
        machine = self._make_machine(route, order)
        answer.times.ordered_s = answer.get_elapsed()
        self._so_far.note_ordered(route.path)
        try:
            while True:
                answer.begin(route, order.session, machine)
                failure = await self._follow(answer, route, order, machine, links)
                if failure is None or not _is_unknown_yet(failure, order) or machine.vouched >= 0 or machine.tokens:
                    break
                # The worker's node has not seen the opening or top-up yet. Nobody took this order: it may come again.
                await trio.sleep(RESEND_S)
                links = await self._transport.connect(route.peers)
                machine = self._make_machine_of(machine.order.order, route, order)
        except StageUnreachable as error:
            failure = StageLost(error.stage, FailureCode.NEIGHBOUR_LOST, str(error))
        finally:
            answer.requests[machine.request] = machine.vouched >= 0
            self._pool.end(order, is_vouched=machine.vouched >= 0, is_signed=answer.is_signed)
        if failure is None:
            return True
        return self._leave(answer, route, machine, failure)

    def _leave(self, answer: PaidAnswer, route: Route, machine: ClientRequest, failure: RequestFailed) -> bool:
        """An order failed. False: the next one goes on from it. Raises RequestLost, InferenceRefused."""
        if machine.is_complete:  # every token is here; the stages settle what is signed
            answer.finish()
            return True
        if not answer.is_accepted_by_all:
            if failure.code is FailureCode.BAD_ORDER:
                self._so_far.note_refused(route.path)
            self._judge(route, failure)
            return False
        self._promised += machine.cost_nmyl  # settled or not: who has the roots may keep them from this side
        cost = self._so_far.leave(machine)
        answer.leave(failure, route.workers[_find_lost(route, failure)].worker, cost)
        if machine.tokens and failure.code in FOR_GOOD and not isinstance(failure, StageLost):
            raise RequestLost(failure, machine.request, answer.session, answer.cost_nmyl)
        self._judge(route, failure)
        return False

    async def _follow(
        self, answer: PaidAnswer, route: Route, order: SessionOrder, machine: ClientRequest, links: list[FrameLink]
    ) -> RequestFailed | None:
        """Hand on what comes; the failure, unless everything was signed. The last token waits for the signatures."""
        began_s = trio.current_time()
        sight = self._routes.watch(route)
        left = set(range(len(links)))

        def may_replace(stage: int) -> bool:
            excluded = self._excluded | {route.workers[stage].worker}
            return self._routes.has_path(self._ask, excluded)

        async with self._transport.open(machine, route.peers, links, may_replace) as progress:
            async for event in progress:
                match event:
                    case StageAccepted():
                        now_s = trio.current_time()
                        self._routes.memory.note_reached(route.workers[event.stage].worker, now_s - began_s, now_s)
                        left.discard(event.stage)
                        if not left:
                            sight.note_accepted(now_s)
                            answer.note_accepted()
                    case TokenReceived():
                        sight.note_token(trio.current_time())
                        self._so_far.tokens.append(event.token)
                        token = Generated(event.token, event.finish, answer.get_elapsed(), event.logprobs)
                        answer.put_token(token)
                    case PromptScored():
                        self._put_scored(answer, event)
                    case AnswerSigned():
                        sight.note_completed(trio.current_time())
                        answer.is_signed = True
                        answer.finish()
                    case StatementAwaited() if self._clerk is not None:
                        self._clerk.add(event.finished, order.key, route.workers)
                    case _ if (failure := _read_end(event, answer)) is not None:
                        return failure
        return None

    def _put_scored(self, answer: PaidAnswer, event: PromptScored) -> None:
        """A continuation scores the prompt again, and the answer so far: what the caller has is not handed on twice."""
        end = min(event.start + len(event.rows), len(self._ask.prompt) - 1)
        fresh = max(event.start, self._scored)
        if fresh < end:
            answer.put(PromptScored(fresh, event.rows[fresh - event.start : end - event.start]))
            self._scored = end

    def _judge(self, route: Route, failure: RequestFailed) -> None:
        """Note who failed. Raises InferenceRefused when two workers say that no path would help."""
        if isinstance(failure, StageLost) or failure.code in CURABLE:
            self._note_failed(route, failure)
            return
        if failure.code in OUTDATED and not self._is_reread:
            self._is_reread = True
            self._reasons.append(f"stage {failure.stage}: {failure.message}")
            self._routes.forget(self._ask.model)
            return
        refusal = InferenceRefused(f"stage {failure.stage} refuses: {failure.message} ({failure.code.name})")
        if self._refusal is not None:
            raise refusal
        self._refusal = refusal
        self._note_failed(route, failure)

    def _note_failed(self, route: Route, failure: RequestFailed) -> None:
        worker, accuser = (route.workers[one].worker for one in (_find_lost(route, failure), failure.stage))
        self._routes.memory.note_failed(worker, trio.current_time())
        self._excluded.add(worker)
        if worker != accuser:  # nobody else saw it: a neighbour that lies has its rivals left out, one after another
            self._accused[accuser] += 1
            if self._accused[accuser] >= ACCUSED_MAX and self._routes.has_path(self._ask, self._excluded | {accuser}):
                self._routes.memory.note_failed(accuser, trio.current_time())
                self._excluded.add(accuser)
        self._is_busy = self._is_busy and failure.code is FailureCode.NO_CAPACITY
        self._reasons.append(failure.message)
        logger.info("another path is tried: %s", failure.message)


def _find_lost(route: Route, failure: RequestFailed) -> int:
    """The stage that is to blame."""
    if failure.lost is not None and failure.code in BLAMES_ANOTHER:
        return failure.lost
    is_neighbour = failure.code is FailureCode.NEIGHBOUR_LOST and not isinstance(failure, StageLost)
    is_told = is_neighbour and failure.stage + 1 < len(route.workers)
    return failure.stage + 1 if is_told else failure.stage  # a stage dials the next one


def _read_end(event: Progress, answer: PaidAnswer) -> RequestFailed | None:
    """The failure that ends a request. Once all is signed the stages settle: what fails then is theirs."""
    if isinstance(event, SettlementSent | StatementAwaited) or answer.is_signed:
        return None
    assert isinstance(event, RequestFailed), "every other progress was handled"
    return event


def _is_unknown_yet(failure: RequestFailed, order: SessionOrder) -> bool:
    is_fresh = trio.current_time() - order.funded_s < FUNDED_S
    return failure.code is FailureCode.NO_ESCROW and not isinstance(failure, StageLost) and is_fresh
