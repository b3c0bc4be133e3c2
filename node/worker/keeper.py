"""What outlives a request on a worker: records to open, settlements to get on chain. Survives kill -9 at any point."""

from __future__ import annotations

import logging
from pathlib import Path

import trio

from inference.serving.record import RequestRecord
from node.client.account import Account
from node.rpc.client import RpcError
from node.serving.chain import ChainUnreachable
from node.serving.disk import write_synced
from node.worker.openings import OpeningStore
from proto_specs.codec import decode, encode
from proto_specs.limits import EXTRINSIC_BYTES_MAX
from proto_specs.types.calls import Settle

logger = logging.getLogger("myelin.worker")

SETTLE_SUFFIX = ".settle"
RETRY_S = 3.0
UNSETTLED_RECORD_S_MAX = 24 * 3600
"""A record whose request never came on chain is forgotten after a day: nobody can be challenged for it any more."""


class DiskKeeper:
    """`Keeper` over a directory and an account."""

    def __init__(self, directory: Path, account: Account) -> None:
        self.openings = OpeningStore(directory / "openings")
        self._settlements = directory / "settlements"
        self._settlements.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._account = account
        self._fresh: set[bytes] = set()
        """Sent since the last round: given one round's time to come on chain before they are sent again."""

    async def retain(self, record: RequestRecord) -> None:
        """See Keeper."""
        await trio.to_thread.run_sync(self.openings.save, record)

    async def settle(self, request: bytes, call: Settle) -> bytes | None:
        """See Keeper. What cannot be sent now is sent by `run` later."""
        await trio.to_thread.run_sync(write_synced, self._path(request), encode(call))
        self._fresh.add(request)
        return await self._submit(request, call)

    async def run(self) -> None:
        """Get pending settlements on chain and forget what is resolved, until cancelled."""
        while True:
            try:
                await self._retry_settlements()
                await self._forget_resolved()
            except ChainUnreachable as error:
                logger.warning("the node does not answer: %s", error)
            await trio.sleep(RETRY_S)

    async def _submit(self, request: bytes, call: Settle) -> bytes | None:
        try:
            return await self._account.send(call)
        except ChainUnreachable as error:
            logger.warning("settlement of %s waits: %s", request.hex()[:12], error)
        except RpcError as error:
            logger.warning("settlement of %s is refused (tried again): %s", request.hex()[:12], error)
        return None

    async def _retry_settlements(self) -> None:
        """A settlement leaves the disk once its request is on chain, or once its session no longer takes it."""
        for path in sorted(self._settlements.glob(f"*{SETTLE_SUFFIX}")):
            request = bytes.fromhex(path.stem)
            if await self._account.chain.get_request(request) is not None:
                path.unlink(missing_ok=True)
                continue
            call = decode(Settle, path.read_bytes(), EXTRINSIC_BYTES_MAX)
            session = await self._account.chain.get_session(call.order.order.session)
            if session is None or not session.is_settleable:
                logger.error("settlement of %s comes too late: its session is closed", request.hex()[:12])
                path.unlink(missing_ok=True)
            elif request not in self._fresh:
                await self._submit(request, call)
        self._fresh.clear()

    async def _forget_resolved(self) -> None:
        for request, stage in self.openings.list_kept():
            found = await self._account.chain.get_request(request)
            is_resolved = found is not None and found.open_stages == 0
            is_stale = found is None and self.openings.get_age_s(request, stage) > UNSETTLED_RECORD_S_MAX
            if is_resolved or is_stale:
                self.openings.delete(request, stage)

    def _path(self, request: bytes) -> Path:
        return self._settlements / f"{request.hex()}{SETTLE_SUFFIX}"
