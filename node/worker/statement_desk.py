"""Where a client asks this worker to sign a statement: every leaf is compared with what was signed when it was served.

A signature here binds the stage to open any position of the statement, so the leaves are on disk before it leaves.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Final

import trio

from inference.serving.statements import StatementInvalid, check_statement
from node.client.chain_view import ChainUnreachable, SessionEntry, StatementView
from node.p2p.host import P2PHost
from node.p2p.request import serve_requests
from node.worker.archive import DiskRequestArchive
from node.worker.claims import check_claimed
from node.worker.signed_statements import KeptStatement
from proto_specs.codec import decode, encode
from proto_specs.ed25519 import SigningKey, is_signature_valid
from proto_specs.errors import MyelinError
from proto_specs.hashing import Tag
from proto_specs.limits import FAILURE_TEXT_BYTES_MAX, STATEMENT_BLAMED_MAX, STATEMENT_PROPOSAL_BYTES_MAX
from proto_specs.order_rules import make_bounds
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import compute_stage_price
from proto_specs.types.statement import Statement, compute_statement_id, sign_statement_as_worker
from proto_specs.types.statement_wire import (
    STATEMENT_PROTOCOL,
    StatementAnswer,
    StatementProposal,
    StatementRefusal,
    StatementRefused,
    StatementSignature,
)
from proto_specs.types.sum_tree import RequestLeaf

logger = logging.getLogger("myelin.worker")

STATEMENTS_A_REQUEST_MAX: Final = 3
"""Signed statements, all kept, that may hold the same request: a client asks again when another stage has refused."""
WAITING_MAX: Final = 8
"""Proposals that wait while another is looked at."""
STREAMS_PER_PEER_MAX: Final = 2
TIMEOUT_S: Final = 20.0
PROPOSALS_PER_S: Final = 1.0
PROPOSALS_BURST: Final = 16.0


class ProposalRefused(MyelinError):
    """The statement is not signed; the code, the message and the requests to blame go to the client."""

    def __init__(self, code: StatementRefusal, message: str, requests: Sequence[bytes] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.requests = tuple(requests[:STATEMENT_BLAMED_MAX])


class StatementDesk:
    """Signs for one worker key."""

    def __init__(
        self, worker_key: SigningKey, manifest: Manifest, chain: StatementView, archive: DiskRequestArchive
    ) -> None:
        self._key = worker_key
        self._bounds = make_bounds(manifest)
        self._chain = chain
        self._archive = archive
        self._turn = trio.Lock()

    async def answer(self, body: bytes, _peer: str) -> bytes:
        """An encoded StatementProposal, answered. Raises DecodeError for garbage."""
        if self._turn.statistics().tasks_waiting >= WAITING_MAX:
            return _refuse(ProposalRefused(StatementRefusal.BUSY, "many statements wait here: ask again"))
        async with self._turn:
            proposal = await trio.to_thread.run_sync(decode, StatementProposal, body, STATEMENT_PROPOSAL_BYTES_MAX)
            try:
                return encode(await self._sign(proposal), StatementAnswer)
            except ProposalRefused as refusal:
                logger.info("a statement over %d requests is not signed: %s", len(proposal.leaves), refusal)
                return _refuse(refusal)
            except ChainUnreachable as error:
                return _refuse(ProposalRefused(StatementRefusal.BUSY, f"this worker's node does not answer: {error}"))
            except OSError as error:
                logger.error("a statement cannot be kept, so it is not signed: %s", error)
                return _refuse(ProposalRefused(StatementRefusal.BUSY, "the worker cannot write to its disk"))

    async def _sign(self, proposal: StatementProposal) -> StatementSignature:
        statement, leaves = proposal.statement, proposal.leaves
        stage = self._find_stage(statement)
        session = await self._check_session(proposal)
        made = compute_statement_id(statement)
        if made not in self._archive.signed:
            await self._check_leaves(statement, leaves, stage)
            self._check_repeated(leaves)
            used = await self._chain.list_used(statement.session, [one.sequence for one in leaves])
            _blame(StatementRefusal.SETTLED, "settled already", [one for one in leaves if one.sequence in used])
            await self._check_price(statement, stage)
            try:
                await trio.to_thread.run_sync(check_statement, statement, leaves)
            except StatementInvalid as error:
                raise ProposalRefused(StatementRefusal.GARBLED, str(error)) from error
            await self._archive.sign(KeptStatement(statement, leaves, session.height))
            logger.info("statement %s over %d requests signed", made.hex()[:12], len(leaves))
        return StatementSignature(made, sign_statement_as_worker(statement, self._key))

    def _find_stage(self, statement: Statement) -> int:
        if statement.genesis != self._chain.genesis:
            raise ProposalRefused(StatementRefusal.NOT_MINE, "the statement is for another chain")
        mine = [number for number, one in enumerate(statement.path) if one.worker == self._key.public_key]
        if len(mine) != 1:
            raise ProposalRefused(StatementRefusal.NOT_MINE, "this worker is not exactly one stage of the path")
        return mine[0]

    async def _check_session(self, proposal: StatementProposal) -> SessionEntry:
        statement, signature = proposal.statement, proposal.client_signature
        session = await self._chain.get_session(statement.session)
        if session is None or not session.is_settleable:
            raise ProposalRefused(StatementRefusal.NO_SESSION, "the session settles nothing more")
        if not is_signature_valid(session.session_key, Tag.STATEMENT_CLIENT_SIGN, encode(statement), signature):
            raise ProposalRefused(StatementRefusal.GARBLED, "the session key has not signed the statement")
        return session

    async def _check_leaves(self, statement: Statement, leaves: Sequence[RequestLeaf], stage: int) -> None:
        """Every leaf is of a request that this stage has served on this path, and says what the stage has signed."""
        unknown: list[RequestLeaf] = []
        differing: list[RequestLeaf] = []
        reason = ""
        for leaf in leaves:
            claim = await self._archive.find_claim(leaf.request, stage)
            if claim is None:
                unknown.append(leaf)
                continue
            try:
                check_claimed(claim, leaf, self._bounds)
                if (claim.order.session, claim.order.path) != (statement.session, statement.path):
                    raise StatementInvalid(f"request {leaf.sequence} is of another session or path")
            except StatementInvalid as error:
                reason = reason or str(error)
                differing.append(leaf)
        _blame(StatementRefusal.DIFFERS, reason, differing)
        _blame(StatementRefusal.UNKNOWN_REQUEST, "not kept here", unknown)

    def _check_repeated(self, leaves: Sequence[RequestLeaf]) -> None:
        signed = self._archive.signed
        often = [one for one in leaves if len(signed.list_of(one.request)) >= STATEMENTS_A_REQUEST_MAX]
        _blame(StatementRefusal.SIGNED_BEFORE, f"in {STATEMENTS_A_REQUEST_MAX} statements already", often)

    async def _check_price(self, statement: Statement, stage: int) -> None:
        own = await self._chain.get_worker(self._key.public_key)
        gross = compute_stage_price(statement.path[stage], statement.prompt_tokens, statement.tokens)
        if own is not None and gross > own.gross_max:
            raise ProposalRefused(
                StatementRefusal.TOO_DEAR, f"the bond of this stage bears {own.gross_max} nmyl at once, not {gross}"
            )


def serve_statements(host: P2PHost, desk: StatementDesk) -> None:
    """Answer proposals on a host."""
    serve_requests(
        host,
        STATEMENT_PROTOCOL,
        desk.answer,
        max_request_bytes=STATEMENT_PROPOSAL_BYTES_MAX,
        max_streams_per_peer=STREAMS_PER_PEER_MAX,
        timeout_s=TIMEOUT_S,
        requests_per_s=PROPOSALS_PER_S,
        requests_burst=PROPOSALS_BURST,
    )


def _blame(code: StatementRefusal, reason: str, leaves: Collection[RequestLeaf]) -> None:
    """Raises ProposalRefused over leaves that cannot be signed, if there are any."""
    if leaves:
        numbers = ", ".join(str(one.sequence) for one in list(leaves)[:8])
        message = f"requests {numbers}{' and others' if len(leaves) > 8 else ''}: {reason}"
        raise ProposalRefused(code, message, [one.request for one in leaves])


def _refuse(refusal: ProposalRefused) -> bytes:
    message = str(refusal).encode()[:FAILURE_TEXT_BYTES_MAX].decode(errors="ignore")
    return encode(StatementRefused(refusal.code, message, refusal.requests), StatementAnswer)
