"""Audits on a worker: windows that the beacon drew are computed between requests, kept, and shown to whoever judges.

An answer is on disk before it is shown, so that a worker signs one output for an audit, however often it is started.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import Challenge
from inference.engine.audit_inputs import make_audit_inputs
from inference.engine.rows import Hidden, Rows
from inference.engine.wire_dtype import encode_rows
from inference.errors import ModelError
from inference.model.store import ShardStore
from node.client.chain_view import ChainUnreachable
from node.client.rpc_chain import RpcChain
from node.client.rpc_errors import RpcError
from node.machine.files import write_synced
from proto_specs.codec import encode
from proto_specs.ed25519 import SigningKey
from proto_specs.types.audit import sign_audit
from proto_specs.types.manifest import Manifest, WireDtype

logger = logging.getLogger("myelin.worker")

SUFFIX: Final = ".audit"
POLL_S: Final = 1.0


class AsideComputing(Protocol):
    """What computes between the steps of requests."""

    async def run_aside(self, rows: Rows) -> Hidden:
        """The output of rows of no request. Raises ModelError."""


class AuditChain(Protocol):
    """The question to the chain."""

    async def list_open_audits(self, worker: bytes) -> list[tuple[bytes, Challenge]]:
        """See queries. Raises ChainUnreachable, RpcError."""


class RpcAuditChain:
    """`AuditChain` over a node's RPC."""

    def __init__(self, chain: RpcChain) -> None:
        self._chain = chain

    async def list_open_audits(self, worker: bytes) -> list[tuple[bytes, Challenge]]:
        """See AuditChain."""
        return await self._chain.read(queries.list_open_audits, worker)


@dataclass(frozen=True)
class AuditedShard:
    """What is audited: layers [start, end) of a model, under a worker's key."""

    store: ShardStore
    model: bytes
    manifest: Manifest
    start: int
    end: int
    key: SigningKey


class AuditDesk:
    """Answers the audits of one worker."""

    def __init__(self, directory: Path, shard: AuditedShard, chain: AuditChain, compute: AsideComputing) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._shard = shard
        self._chain = chain
        self._compute = compute

    async def run(self) -> None:
        """Compute what is drawn, until cancelled."""
        while True:
            try:
                await self.run_once()
            except (ChainUnreachable, RpcError) as error:
                logger.warning("audits are not seen, the node does not answer: %s", error)
            except (ModelError, OSError, MemoryError) as error:
                logger.error("an audit cannot be answered: %s", error or "memory is short")
            await trio.sleep(POLL_S)

    async def run_once(self) -> None:
        """Answer what is open and not answered, and forget the rest. Raises ChainUnreachable, RpcError, ModelError,
        OSError."""
        drawn = await self._chain.list_open_audits(self._shard.key.public_key)
        subjects = {challenge.request for _, challenge in drawn}
        for path in self._directory.glob(f"*{SUFFIX}"):
            if bytes.fromhex(path.stem) not in subjects:
                path.unlink(missing_ok=True)
        for _, challenge in drawn:
            if challenge.model == self._shard.model and not self._get_path(challenge.request).exists():
                await self._answer(challenge.request)

    def find(self, subject: bytes) -> bytes | None:
        """The encoded answer to an audit; None where there is none (yet)."""
        try:
            return self._get_path(subject).read_bytes()
        except FileNotFoundError:
            return None

    async def _answer(self, subject: bytes) -> None:
        shard = self._shard
        inputs = await trio.to_thread.run_sync(
            make_audit_inputs, shard.store, shard.model, shard.manifest, shard.start, subject
        )
        rows = await self._compute.run_aside(inputs)
        payload = encode_rows(rows, WireDtype(shard.manifest.wire_dtype))
        answer = sign_audit(subject, shard.manifest, (shard.start, shard.end), payload, shard.key)
        await trio.to_thread.run_sync(write_synced, self._get_path(subject), encode(answer))
        logger.info("audit %s: %d positions computed", subject.hex()[:12], len(rows))

    def _get_path(self, subject: bytes) -> Path:
        return self._directory / f"{subject.hex()}{SUFFIX}"
