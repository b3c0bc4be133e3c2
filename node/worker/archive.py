"""Data that outlives a request on a worker: records to open, settlements to submit, statements that it has signed.

Survives kill -9 at any point.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import StageStatus
from inference.serving.record import RequestRecord
from inference.serving.setup import StageSetup
from node.client.account import SigningAccount
from node.client.chain_view import ChainUnreachable
from node.client.errors import CallFailed, TransactionLost
from node.client.rpc_errors import RpcError
from node.client.tips import compute_tip
from node.machine.files import write_synced
from node.worker.claims import Claim, make_claim
from node.worker.held import HELD_S, HeldSettlements
from node.worker.joins import Joins
from node.worker.openings import OpeningStore, OpeningUnavailable
from node.worker.signed_statements import KeptStatement, SignedStatements, open_point
from node.worker.window_files import WindowFile, WindowsHead, read_left
from proto_specs.codec import decode, encode
from proto_specs.ed25519 import SigningKey
from proto_specs.errors import DecodeError
from proto_specs.limits import EXTRINSIC_BYTES_MAX
from proto_specs.types.calls import Settle
from proto_specs.types.promise_calls import JoinSettlement
from proto_specs.types.request import OpeningRequest, compute_request_id
from proto_specs.types.verdict import compute_challenge_id

logger = logging.getLogger("myelin.worker")

SETTLE_SUFFIX = ".settle"
RETRY_S = 3.0
RETRY_S_MAX = 60.0
POOL_S_MAX = 15.0
"""A settlement that waits in the pool for so long is sent for more: a session may end while blocks are full."""
TEMPORARY_ERRORS = frozenset({"ExposureExceeded"})
"""Refusals of the chain that pass with time: earlier stages of the worker resolve, and the bond covers this one."""
UNSETTLED_RECORD_S_MAX = 24 * 3600
"""A record whose request never came on chain is forgotten after a day: it cannot be challenged any more."""
UNSETTLED_WAIT_S_MAX = 30.0
"""So long after its end the settlement of a request by the last stage is expected."""
OPENINGS_AT_ONCE_MAX = 2


@dataclass(slots=True)
class _Sent:
    """A settlement in the node's pool: when to check it again, and how long to wait after the next refusal.

    It was sent `tries` times, for more each time, since it waited in the pool.
    """

    extrinsic: bytes
    due_s: float
    wait_s: float
    nonce: int
    sent_s: float
    tries: int


class RequestArchive(Protocol):
    """Where requests go: to disk and to the chain."""

    def open_windows(self, setup: StageSetup) -> WindowFile:
        """A place for the signed windows of a request while it runs."""

    async def retain(self, record: RequestRecord) -> None:
        """Write the record durably. Raises OSError."""

    async def settle(self, request: bytes, call: Settle) -> bytes | None:
        """Keep and submit a settlement; returns the extrinsic hash, or None when the chain is unreachable now.

        Raises OSError when it cannot be kept.
        """

    async def hold(self, request: bytes, call: Settle) -> None:
        """Keep a settlement for a statement to take its place, and submit it when none does. Raises OSError."""

    async def settle_later(self, request: bytes, call: Settle, wait_s: float) -> None:
        """Keep a settlement, and submit it after a while unless the chain has one then. One that is kept already stays.

        Raises OSError when it cannot be kept.
        """

    def join_later(self, call: JoinSettlement | None, wait_s: float) -> None:
        """Settle this stage's part, if any, unless others settle as much of it within `wait_s`. Its record is kept."""

    def leave(self, request: bytes) -> None:
        """Another order goes on from a request, and brings its settlement: nothing is settled alone."""


class DiskRequestArchive:
    """`RequestArchive` over a directory and an account."""

    def __init__(self, directory: Path, account: SigningAccount, statement_wait_s: float = HELD_S) -> None:
        """`statement_wait_s`: so long a settlement is held back for a statement."""
        self.openings = OpeningStore(directory / "openings")
        self.signed = SignedStatements(directory / "statements")
        self.held = HeldSettlements(directory / "held", self.signed, statement_wait_s)
        self._claims: dict[bytes, Claim] = {}
        self._settlements = directory / "settlements"
        self._settlements.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._running = directory / "running"
        self._running.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.joins = Joins(account, self.signed)
        self._keep_left()
        self._account = account
        self._sent: dict[bytes, _Sent] = {}
        self._due_s: dict[bytes, float] = {}
        self._sending: set[bytes] = set()
        self._stated: set[bytes] = set()
        """Requests of statements that are on chain and not resolved."""
        self._limiter = trio.CapacityLimiter(OPENINGS_AT_ONCE_MAX)

    def open_windows(self, setup: StageSetup) -> WindowFile:
        """See RequestArchive."""
        return WindowFile(self._running, WindowsHead(setup.order, setup.stage, setup.prompt, setup.grammar))

    async def retain(self, record: RequestRecord) -> None:
        """See RequestArchive."""
        await trio.to_thread.run_sync(self.openings.save, record)
        claim = make_claim(record)
        self._claims[claim.roots.request] = claim

    async def find_claim(self, request: bytes, stage: int) -> Claim | None:
        """What this worker has signed of a finished request; None when its record is not kept here."""
        if request not in self._claims:
            try:  # kept by an earlier run of this worker
                record = await trio.to_thread.run_sync(self.openings.load, request, stage)
            except (OpeningUnavailable, DecodeError):
                return None
            self._claims[request] = make_claim(record)
        return self._claims[request]

    async def sign(self, kept: KeptStatement) -> None:
        """Keep a statement that is about to be signed, durably. Raises OSError."""
        await trio.to_thread.run_sync(self.signed.save, kept)

    async def hold(self, request: bytes, call: Settle) -> None:
        """See RequestArchive."""
        await self.held.hold(request, call)

    async def settle(self, request: bytes, call: Settle) -> bytes | None:
        """See RequestArchive. `run` later sends what cannot be sent now."""
        self._sending.add(request)
        try:
            await trio.to_thread.run_sync(write_synced, self._path(request), encode(call))
            return await self._submit(request, call, RETRY_S)
        finally:
            self._sending.discard(request)

    async def settle_later(self, request: bytes, call: Settle, wait_s: float) -> None:
        """See RequestArchive. A worker that is started again meanwhile does not wait."""
        path = self._path(request)
        if not path.exists():
            self._due_s[request] = trio.current_time() + wait_s
            await trio.to_thread.run_sync(write_synced, path, encode(call))

    def join_later(self, call: JoinSettlement | None, wait_s: float) -> None:
        """See RequestArchive."""
        if call is not None:
            self.joins.keep(call, wait_s)

    def leave(self, request: bytes) -> None:
        """See RequestArchive."""
        self.joins.drop(request)

    def join_left(self, worker_key: SigningKey) -> None:
        """At the start: what an earlier run of this worker kept, unless others have settled it."""
        for request, stage in self.openings.list_kept():
            with contextlib.suppress(OpeningUnavailable, DecodeError):
                self.joins.keep_left(self.openings.load(request, stage), worker_key, HELD_S)

    async def open(self, body: bytes) -> bytes:
        """Answer an encoded OpeningRequest, for a window that the beacon drew and that is still undecided.

        Of the windows that are kept the opening shows those that were settled.

        Nothing else is opened: an opening holds the client's prompt and answer, and sending it costs work.
        Raises DecodeError for garbage, OpeningUnavailable.
        """
        asked = decode(OpeningRequest, body)
        try:
            challenge_id = compute_challenge_id(asked.request, asked.stage)
            challenge = await self._account.chain.read(queries.read_challenge, challenge_id)
            settled = await self._account.chain.get_request(asked.request)
        except ChainUnreachable as error:
            raise OpeningUnavailable("this worker's node does not answer: ask again") from error
        if challenge is None or challenge.outcome is not None or settled is None:
            raise OpeningUnavailable(f"stage {asked.stage} is not challenged (yet), or no longer")
        if (challenge.window, challenge.point) != (asked.window, asked.point):
            raise OpeningUnavailable(f"window {asked.window} of stage {asked.stage} is not challenged (yet)")
        if asked.point is not None:
            return await trio.to_thread.run_sync(open_point, self.openings, self.signed, asked, limiter=self._limiter)
        windows = settled.stages[asked.stage].windows  # of a path that was cut short each stage has its own
        return await trio.to_thread.run_sync(self.openings.open, body, windows, limiter=self._limiter)

    async def run(self) -> None:
        """Submit pending settlements and forget resolved requests, until cancelled."""
        while True:
            try:
                await self.run_once()
            except ChainUnreachable as error:
                logger.warning("the node does not answer: %s", error)
            except RpcError as error:
                logger.warning("the node refuses to answer: %s", error)
            await trio.sleep(RETRY_S)

    async def run_once(self) -> None:
        """A round over everything kept. Raises ChainUnreachable, RpcError."""
        for path in sorted(self._settlements.glob(f"*{SETTLE_SUFFIX}")):
            request = bytes.fromhex(path.stem)
            if request not in self._sending:
                await self._pursue(request, path)
        for request in await self.held.list_due(self._account.chain):
            logger.info("request %s settles by itself: no statement has come for it", request.hex()[:12])
            try:
                await self.settle(request, self.held.load(request))
            except (OSError, DecodeError) as error:
                logger.error("settlement of %s cannot be read: %s", request.hex()[:12], error)
            self.held.drop(request)
        await self.joins.run_once()
        over = await self._forget_statements()
        for request, stage in self.openings.list_kept():
            if request in over or await self._is_over(request, stage):
                self.openings.delete(request, stage)
                self._claims.pop(request, None)

    async def _forget_statements(self) -> frozenset[bytes]:
        """Delete statements that nobody asks for any more; the requests of those that are resolved."""
        over: set[bytes] = set()
        self._stated = set()
        for one in self.signed.list_kept():
            found = await self._account.chain.get_request(one.statement)
            is_resolved = found is not None and found.open_stages == 0
            if found is not None and not is_resolved:
                self._stated |= set(one.requests)
            if is_resolved:
                over |= set(one.requests)
            if is_resolved or (found is None and time.time() - one.saved_s > UNSETTLED_RECORD_S_MAX):
                self.signed.delete(one.statement)
        return frozenset(over)

    async def count_undecided(self) -> int:
        """Requests whose window here may still be asked for: unpaid if nobody opens it. Raises ChainUnreachable."""
        count = 0
        for request, stage in self.openings.list_kept():
            found = await self._account.chain.get_request(request)
            for one in self.signed.list_of(request) if found is None else ():
                found = found or await self._account.chain.get_request(one.statement)
            if found is None:
                count += self.openings.get_age_s(request, stage) < UNSETTLED_WAIT_S_MAX
            else:
                count += found.stages[stage].status in (StageStatus.AWAITING_DRAW, StageStatus.CHALLENGED)
        return count

    async def _pursue(self, request: bytes, path: Path) -> None:
        """Deletes a settlement once its request is on chain, or can never get there."""
        if await self._account.chain.get_request(request) is not None:
            self._drop(request, path)
            return
        if trio.current_time() < self._due_s.get(request, 0.0):
            return
        call = decode(Settle, path.read_bytes(), EXTRINSIC_BYTES_MAX)
        session = await self._account.chain.get_session(call.order.order.session)
        if session is None or not session.is_settleable:
            logger.error("settlement of %s comes too late: its session is closed", request.hex()[:12])
            self._drop(request, path)
            return
        wait_s = RETRY_S
        if (sent := self._sent.get(request)) is not None:
            if trio.current_time() < sent.due_s:
                return
            try:
                found = await self._account.find(sent.extrinsic, "Settle")
                if found is None and trio.current_time() >= sent.sent_s + POOL_S_MAX:
                    logger.warning("settlement of %s waits in the pool: sent for more", request.hex()[:12])
                    await self._submit(request, call, wait_s, sent)
                return  # in the pool, or in a block this round has not seen yet
            except TransactionLost:
                logger.warning("settlement of %s was lost by the node: sent again", request.hex()[:12])
            except CallFailed as error:
                if error.error not in TEMPORARY_ERRORS:
                    # Sent again it would fail again, and every attempt costs its fee.
                    logger.error("settlement of %s is refused by the chain for good: %s", request.hex()[:12], error)
                    self._drop(request, path)
                    return
                wait_s = sent.wait_s
                logger.warning("settlement of %s has to wait: %s", request.hex()[:12], error)
        await self._submit(request, call, wait_s)

    async def _submit(self, request: bytes, call: Settle, wait_s: float, waiting: _Sent | None = None) -> bytes | None:
        """`waiting` in the pool is replaced, for a larger tip: what the account sends later waits behind it."""
        tries, signed_as = (0, 0) if waiting is None else (waiting.tries, waiting.nonce)

        def note_signed(nonce: int, _extrinsic: bytes) -> None:
            nonlocal signed_as
            signed_as = nonce

        try:
            instead_of = None if waiting is None else waiting.nonce
            extrinsic = await self._account.send(call, compute_tip(tries), note_signed, instead_of)
        except ChainUnreachable as error:
            logger.warning("settlement of %s waits: %s", request.hex()[:12], error)
            return None
        except RpcError as error:
            logger.warning("settlement of %s is refused by the node (tried again): %s", request.hex()[:12], error)
            return None
        now_s = trio.current_time()
        wait_next_s = min(2 * wait_s, RETRY_S_MAX)
        self._sent[request] = _Sent(extrinsic, now_s + wait_s, wait_next_s, signed_as, now_s, tries + 1)
        return extrinsic

    def _keep_left(self) -> None:
        """What ran when this worker was killed may be settled by the others of its path, and drawn."""
        for path, found in read_left(self._running):
            if found is not None and not self._is_kept(found):
                self.openings.save(found)
                logger.info("request %s: %d windows kept from before", path.stem[:12], len(found.output_leaves))
            path.unlink()

    def _is_kept(self, found: RequestRecord) -> bool:
        """Whether a record of as many windows is there: a request that ended is kept whole before its windows go."""
        with contextlib.suppress(OpeningUnavailable, DecodeError):
            kept = self.openings.load(compute_request_id(found.order.order), found.stage)
            return len(kept.output_leaves) >= len(found.output_leaves)
        return False

    def _drop(self, request: bytes, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._sent.pop(request, None)
        self._due_s.pop(request, None)

    async def _is_over(self, request: bytes, stage: int) -> bool:
        """Whether a kept request cannot be challenged any more."""
        if request in self._stated:
            return False
        found = await self._account.chain.get_request(request)
        if found is not None:
            return found.open_stages == 0
        return self.openings.get_age_s(request, stage) > UNSETTLED_RECORD_S_MAX

    def _path(self, request: bytes) -> Path:
        return self._settlements / f"{request.hex()}{SETTLE_SUFFIX}"
