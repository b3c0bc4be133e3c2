"""What this stage can settle alone: kept until the chain shows that it is paid as well as it can be.

The last stage of a path settles for all. Where it does not, or somebody settles less than the client vouched for, each
stage brings the chain its own roots and the best voucher it has. Records on disk hold both, so nothing else is kept.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import trio

from consensus.runtime.inference import queries
from consensus.runtime.inference.partial import compute_gross
from consensus.runtime.inference.state import Request, StageStatus
from inference.serving.record import RequestRecord
from node.client.account import SigningAccount
from node.client.chain_view import ChainUnreachable, SessionEntry
from node.client.errors import CallFailed, TransactionLost
from node.client.rpc_errors import RpcError
from node.worker.claims import make_claim
from node.worker.double_watch import report_double
from node.worker.signed_statements import SignedStatements
from proto_specs.ed25519 import SigningKey
from proto_specs.types.promise_calls import JoinSettlement
from proto_specs.types.request import compute_request_id, sign_stage_roots

logger = logging.getLogger("myelin.worker")

SETTLED_BY_OTHERS_S: Final = 15.0
"""So long after a request's end the last stage's settlement is expected on chain."""
CLOSING_BLOCKS: Final = 6
"""Of a session that closes, a stage waits no longer than until so many blocks are left."""
SENT_S: Final = 20.0
"""When a call that was sent is looked for again."""
OVERLAP_ERRORS: Final = frozenset({"EscrowTooLow", "SequenceUsed"})
"""Refusals that only a client causes which promised something twice."""
TEMPORARY_ERRORS: Final = frozenset({"ExposureExceeded"})


@dataclass(slots=True)
class _KeptPart:
    call: JoinSettlement
    due_s: float
    extrinsic: bytes | None = None
    sent_s: float = 0.0


class Joins:
    """Parts by request."""

    def __init__(self, account: SigningAccount, signed: SignedStatements) -> None:
        """`signed`: the statements that this worker signed."""
        self._account = account
        self._signed = signed
        self._parts: dict[bytes, _KeptPart] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def keep(self, call: JoinSettlement, wait_s: float) -> None:
        """Settle this unless others do within `wait_s`. When others settle less, it is brought at once."""
        self._parts[compute_request_id(call.order.order)] = _KeptPart(call, trio.current_time() + wait_s)

    def drop(self, request: bytes) -> None:
        """Nothing of a request is settled alone any more."""
        self._parts.pop(request, None)

    def keep_left(self, record: RequestRecord, worker_key: SigningKey, wait_s: float) -> None:
        """What an earlier run of this worker kept."""
        if record.voucher is not None and record.voucher.voucher.tokens:
            roots = sign_stage_roots(make_claim(record).roots, worker_key)
            self.keep(JoinSettlement(record.order, record.voucher, (roots,)), wait_s)

    async def run_once(self) -> None:
        """A round over all parts. Raises ChainUnreachable."""
        for request, part in list(self._parts.items()):
            if await self._is_over(request, part):
                self.drop(request)

    async def _is_over(self, request: bytes, part: _KeptPart) -> bool:
        """Whether nothing is left to do about a part."""
        chain, order = self._account.chain, part.call.order.order
        found = await chain.get_request(request)
        if found is not None:
            until = await chain.read(queries.read_join_end, request)
            if not is_gain(part.call, found):
                return until is None  # until then somebody may settle it by a better voucher
            if until is None:
                logger.error("request %s was settled for less than this stage has", request.hex()[:12])
                return True
            return await self._send(request, part)
        if await chain.is_sequence_used(order.session, order.sequence):
            if not self._signed.list_of(request):
                await report_double(self._account, part.call.order, part.call.voucher)
            return True
        session = await chain.get_session(order.session)
        if session is None or not session.is_settleable:
            logger.error("request %s was settled by nobody before its session closed", request.hex()[:12])
            return True
        is_landing = self._signed.is_landing(request, session.height)
        return await self._send(request, part) if is_due(part.due_s, session, is_landing=is_landing) else False

    async def _send(self, request: bytes, part: _KeptPart) -> bool:
        """Send it, or see what became of it; whether the chain refuses it for good."""
        now_s = trio.current_time()
        if part.extrinsic is not None and now_s - part.sent_s < SENT_S:
            try:
                await self._account.find(part.extrinsic, "JoinSettlement")
            except TransactionLost:
                part.extrinsic = None
            except CallFailed as error:
                if error.error not in TEMPORARY_ERRORS:
                    logger.warning("this stage's part of %s is refused: %s", request.hex()[:12], error)
                    if error.error in OVERLAP_ERRORS:
                        await report_double(self._account, part.call.order, part.call.voucher)
                    return error.error != "NothingToJoin"
            return False
        try:
            part.extrinsic, part.sent_s = await self._account.send(part.call), now_s
            logger.info("request %s: this stage settles what it has", request.hex()[:12])
        except (ChainUnreachable, RpcError) as error:
            logger.warning("this stage's part of %s waits: %s", request.hex()[:12], error)
        return False


def is_due(due_s: float, session: SessionEntry, *, is_landing: bool) -> bool:
    """Whether the others have had their time. A statement on its way has half of what a closing session leaves."""
    left = CLOSING_BLOCKS if session.is_open else session.expiry_height - session.height
    if is_landing:
        return left <= CLOSING_BLOCKS // 2
    return trio.current_time() >= due_s or (not session.is_open and left <= CLOSING_BLOCKS)


def is_gain(call: JoinSettlement, found: Request) -> bool:
    """Whether the stage would bill more than it does, by its own roots and the better of the vouchers."""
    (signed,) = call.stage_roots
    order, stage = call.order.order, found.stages[signed.roots.stage]
    if stage.status not in (StageStatus.MISSING, StageStatus.AWAITING_DRAW):
        return False
    tokens = max(found.tokens, 0 if call.voucher is None else call.voucher.voucher.tokens)
    positions = max(stage.positions, signed.roots.positions)
    return compute_gross(order, order.path[signed.roots.stage], tokens, positions) > stage.gross
