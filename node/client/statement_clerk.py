"""Settles finished requests together: makes statements, has the stages sign them, and submits them.

What a stage does not sign, or the chain does not take, settles without this side: the last stage of the path submits
each request by itself once it waits for a statement no longer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, Protocol

import trio

from inference.serving.finished import FinishedRequest
from inference.serving.statements import make_statement
from node.client.account import SigningAccount
from node.client.batches import Batch, Batches, BatchRules, make_finished_leaf, split_batch
from node.client.chain_view import ChainUnreachable, WorkerEntry
from node.client.errors import CallFailed, TransactionLost
from node.client.rpc_errors import RpcError
from node.client.statement_files import FiledStatement, StatedRequest, StatementFiles
from node.p2p.errors import NetworkError, PeerUnreachable, RequestRefused, RequestTimedOut
from node.p2p.host import P2PHost
from node.p2p.request import request as ask_peer
from proto_specs.codec import decode_as, encode
from proto_specs.ed25519 import SigningKey, is_signature_valid
from proto_specs.errors import MyelinError, ProtocolError
from proto_specs.hashing import Tag
from proto_specs.types.calls import SettleStatement
from proto_specs.types.statement import (
    SignedStatement,
    Statement,
    compute_statement_id,
    sign_statement_as_client,
)
from proto_specs.types.statement_wire import (
    STATEMENT_PROTOCOL,
    StatementAnswer,
    StatementProposal,
    StatementRefusal,
    StatementRefused,
    StatementSignature,
)
from proto_specs.types.sum_tree import RequestLeaf

POLL_S: Final = 1.0
ASK_TIMEOUT_S: Final = 20.0
ANSWER_BYTES_MAX: Final = 64 * 1024
PROPOSALS_MAX: Final = 3
"""So often the statement of a batch is proposed, without what was refused before."""
SUBMISSIONS_MAX: Final = 4
RETRY_S: Final = 3.0
TEMPORARY_ERRORS: Final = frozenset({"ExposureExceeded"})
"""Refusals of the chain that pass with time."""

LATER: Final = (RequestRefused, RequestTimedOut, ChainUnreachable)
"""Failures of an asking after which it is asked again."""

logger = logging.getLogger("myelin.client")


class StatementSigners(Protocol):
    """How a proposal reaches a worker."""

    async def ask(self, entry: WorkerEntry, body: bytes) -> bytes:
        """An encoded StatementProposal's answer. Raises NetworkError, ProtocolError."""


class P2PSigners:
    """Over libp2p."""

    def __init__(self, host: P2PHost) -> None:
        self._host = host

    async def ask(self, entry: WorkerEntry, body: bytes) -> bytes:
        """See StatementSigners."""
        failure: NetworkError = PeerUnreachable(f"worker {entry.worker.hex()[:12]} registered no address")
        for address in entry.addresses:
            try:
                return await ask_peer(
                    self._host,
                    address,
                    STATEMENT_PROTOCOL,
                    body,
                    timeout_s=ASK_TIMEOUT_S,
                    max_response_bytes=ANSWER_BYTES_MAX,
                )
            except NetworkError as error:
                failure = error
        raise failure


class StatementClerk:
    """The statements of one account."""

    def __init__(
        self, account: SigningAccount, signers: StatementSigners, files: StatementFiles, rules: BatchRules
    ) -> None:
        self._account = account
        self._signers = signers
        self._files = files
        self._rules = rules
        self._batches = Batches(rules)
        self._workers: dict[bytes, WorkerEntry] = {}
        self._doing: list[Batch] = []
        self._turn = trio.Lock()

    def add(self, finished: FinishedRequest, key: SigningKey, workers: Sequence[WorkerEntry]) -> None:
        """A request of the session of this key has finished, over a path of these workers."""
        self._workers.update((one.worker, one) for one in workers)
        gross_max = {one.worker: one.gross_max for one in workers}
        self._batches.add(finished, key, gross_max, trio.current_time())

    def count(self, session: bytes) -> int:
        """Requests of a session that no statement settles yet."""
        doing = sum(len(one.finished) for one in self._doing if one.session == session)
        return self._batches.count(session) + doing

    def find(self, request: bytes) -> StatedRequest | None:
        """The statement that a request is in, once every stage has signed it."""
        return self._files.find(request)

    async def run(self) -> None:
        """Make statements as they fall due, until cancelled; first send again what an earlier run may not have sent."""
        await self._resume()
        while True:
            await self.run_once()
            await trio.sleep(POLL_S)

    async def run_once(self) -> None:
        """Settle what is due."""
        async with self._turn:
            await self._settle_each(self._batches.take_due(trio.current_time()))

    async def settle_session(self, session: bytes) -> None:
        """Settle all that has finished in a session, now: it is about to be closed, or its money is needed."""
        async with self._turn:
            interrupted = [one for one in self._doing if one.session == session]
            self._doing = [one for one in self._doing if one.session != session]
            await self._settle_each([*interrupted, *self._batches.take_of(session)])

    async def _settle_each(self, batches: Sequence[Batch]) -> None:
        self._doing += batches
        async with trio.open_nursery() as nursery:
            for one in batches:
                nursery.start_soon(self._settle, one)

    async def _settle(self, batch: Batch) -> None:
        for finished in split_batch(batch, self._rules):
            try:
                await self._state(batch, finished)
            except (MyelinError, OSError) as error:
                self._report(finished, str(error))
        self._doing.remove(batch)

    async def _state(self, batch: Batch, finished: list[FinishedRequest]) -> None:
        """One statement; without those requests that a stage does not sign for."""
        left = finished
        for _ in range(PROPOSALS_MAX):
            leaves = [make_finished_leaf(one) for one in left]
            statement = make_statement(left[0].order.genesis, batch.session, batch.path, leaves)
            signature = sign_statement_as_client(statement, batch.key)
            answers = await self._propose(StatementProposal(statement, signature, tuple(leaves)))
            signatures = tuple(one.signature for one in answers if isinstance(one, StatementSignature))
            if len(signatures) == len(answers):
                await self._submit(SignedStatement(statement, signature, signatures), leaves)
                return
            refusals = [one for one in answers if isinstance(one, StatementRefused)]
            blamed = {request for one in refusals for request in one.requests}
            dropped = [one for one in left if one.request in blamed]
            reason = "; ".join(dict.fromkeys(one.message for one in refusals))
            if dropped:
                self._report(dropped, reason)
                left = [one for one in left if one.request not in blamed]
            elif any(one.code != StatementRefusal.BUSY for one in refusals):
                break
            else:
                await trio.sleep(RETRY_S)
            if not left:
                return
        self._report(left, reason)

    async def _propose(self, proposal: StatementProposal) -> list[StatementSignature | StatementRefused]:
        """What each stage answers, in path order."""
        body, path = encode(proposal), proposal.statement.path
        answers: dict[int, StatementSignature | StatementRefused] = {}

        async def ask(number: int, worker: bytes) -> None:
            try:
                found = decode_as(StatementAnswer, await self._ask(worker, body), ANSWER_BYTES_MAX)
                answers[number] = _check_answer(found, proposal.statement, worker)
            except (NetworkError, ProtocolError, ChainUnreachable) as error:
                code = StatementRefusal.BUSY if isinstance(error, LATER) else StatementRefusal.NOT_MINE
                answers[number] = StatementRefused(code, f"stage {number} cannot be asked to sign: {error}")

        async with trio.open_nursery() as nursery:
            for number, stage in enumerate(path):
                nursery.start_soon(ask, number, stage.worker)
        return [answers[number] for number in range(len(path))]

    async def _ask(self, worker: bytes, body: bytes) -> bytes:
        """One that started again has another address than it had when it served."""
        known = self._workers[worker]
        try:
            return await self._signers.ask(known, body)
        except NetworkError:
            now = await self._account.chain.get_worker(worker, fresh=True)
            if now is None or (now.peer_id, now.addresses) == (known.peer_id, known.addresses):
                raise
            self._workers[worker] = now
            return await self._signers.ask(now, body)

    async def _submit(self, signed: SignedStatement, leaves: Sequence[RequestLeaf]) -> None:
        kept = FiledStatement(signed, tuple(leaves))
        statement = await trio.to_thread.run_sync(self._files.keep, kept)
        await self._send(signed)
        logger.info("statement 0x%s settles %d requests", statement.hex(), len(leaves))

    async def _send(self, signed: SignedStatement) -> None:
        """Until it is in a block. Raises CallFailed when it cannot be, and what kept it from there."""
        statement = compute_statement_id(signed.statement)
        for left in reversed(range(SUBMISSIONS_MAX)):
            try:
                if await self._account.chain.get_request(statement) is None:
                    await self._account.execute(SettleStatement(signed))
                return
            except CallFailed as error:
                if error.error not in TEMPORARY_ERRORS or not left:
                    raise
            except (ChainUnreachable, RpcError, TransactionLost):
                if not left:
                    raise
            await trio.sleep(RETRY_S)

    async def _resume(self) -> None:
        """What an earlier run had signed and not sent is still worth sending: the stages wait a while for it."""
        for signed in self._files.take_left():
            statement = compute_statement_id(signed.statement)
            try:
                session = await self._account.chain.get_session(signed.statement.session)
                if session is not None and session.is_settleable:
                    await self._send(signed)
            except MyelinError as error:
                logger.info("statement 0x%s of an earlier run is not settled by it: %s", statement.hex(), error)

    def _report(self, finished: Sequence[FinishedRequest], reason: str) -> None:
        numbers = ", ".join(str(one.order.sequence) for one in finished[:8])
        more = "" if len(finished) <= 8 else f" and {len(finished) - 8} more"
        logger.warning("requests %s%s are in no statement, each settles by itself: %s", numbers, more, reason)


def _check_answer(
    answer: StatementSignature | StatementRefused, statement: Statement, worker: bytes
) -> StatementSignature | StatementRefused:
    """A signature that is none is a refusal."""
    if isinstance(answer, StatementRefused):
        return answer
    if is_signature_valid(worker, Tag.STATEMENT_WORKER_SIGN, encode(statement), answer.signature):
        return answer
    return StatementRefused(StatementRefusal.GARBLED, f"worker {worker.hex()[:12]} sent no signature of the statement")
