"""Serves the methods on a local socket of the node's process, by the frames of `local_api/wire/frames.py`."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from node.chain.admission import Ticket, TransactionAdmission
from node.chain.bus import BlockBus
from node.local_api.methods.all import METHODS, NodeView, call_method
from node.local_api.methods.author import show_submission
from node.local_api.wire.errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, ApiError
from node.local_api.wire.frames import CALLS_MAX, FRAME_BYTES_MAX, HEAD, SUBSCRIBE_HEADS, Params
from node.local_api.wire.subscriptions import SUBSCRIPTION_METHODS
from node.store.chain_store import FinalizedBlock
from proto_specs.types.chain import Transaction, compute_extrinsic_hash

logger = logging.getLogger("myelin.api")

BULKY_CALLS_MAX = 4


async def serve_api(
    path: Path,
    view: NodeView,
    bus: BlockBus,
    admission: TransactionAdmission,
    *,
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; reports itself started once it takes calls. Only this user may connect. Raises OSError."""
    path.unlink(missing_ok=True)
    socket = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    old_mask = os.umask(0o177)
    try:
        await socket.bind(str(path))
    finally:
        os.umask(old_mask)
    socket.listen(64)
    task_status.started()

    async def handle(stream: trio.SocketStream) -> None:
        await _Connection(stream, view, bus, admission).run()

    try:
        await trio.serve_listeners(handle, [trio.SocketListener(socket)])
    finally:
        path.unlink(missing_ok=True)


async def receive_frame(stream: trio.SocketStream, buffer: bytearray) -> bytes | None:
    """The next frame's payload; None at the end of the stream."""
    while True:
        if len(buffer) >= HEAD.size:
            (length,) = HEAD.unpack_from(buffer)
            if length > FRAME_BYTES_MAX:
                raise ApiError(INVALID_REQUEST, f"a frame of {length} bytes")
            if len(buffer) >= HEAD.size + length:
                payload = bytes(buffer[HEAD.size : HEAD.size + length])
                del buffer[: HEAD.size + length]
                return payload
        data = await stream.receive_some(1 << 16)
        if not data:
            return None
        buffer += data


class _Connection:
    """A client's connection to the socket: the RPC process, or a tool of the operator."""

    def __init__(
        self, stream: trio.SocketStream, view: NodeView, bus: BlockBus, admission: TransactionAdmission
    ) -> None:
        self._stream = stream
        self._admission = admission
        self._view = view
        self._bus = bus
        self._sending = trio.Lock()
        self._bulky = trio.Semaphore(BULKY_CALLS_MAX)

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                buffer = bytearray()
                while (payload := await receive_frame(self._stream, buffer)) is not None:
                    await self._answer(payload, nursery)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client went away
        except* ApiError as group:
            logger.warning("local connection closed: %s", group.exceptions[0])
        finally:
            await self._stream.aclose()

    async def _answer(self, payload: bytes, nursery: trio.Nursery) -> None:
        """Answer at once, or from a task: no bulky read and no batch of signatures delays the frames behind it."""
        try:
            call_id, calls = _parse_frame(payload)
        except ApiError as error:
            return await self._send(_encode({"id": None, "error": error.to_json()}))
        frame = _Frame(call_id, [None] * len(calls))
        transactions: list[Transaction] = []
        size_bytes = 0
        for place, call in enumerate(calls):
            try:
                name, params = _parse_call(call)
                if name == SUBSCRIBE_HEADS:
                    nursery.start_soon(self._send_heads)
                    frame.answers[place] = {"result": True}
                elif METHODS[name].is_submission:
                    one = _call(self._view, name, params)
                    transactions.append(one.transaction)
                    size_bytes += one.size_bytes
                    frame.submitted.append((place, one.extrinsic))
                elif METHODS[name].is_bulky:
                    frame.bulky.append((place, name, params))
                else:
                    frame.answers[place] = {"result": _call(self._view, name, params)}
                    await trio.lowlevel.checkpoint()
            except ApiError as error:
                frame.answers[place] = {"error": error.to_json()}
        ticket = self._admission.hand_in(transactions, size_bytes) if transactions else None
        if ticket is None and not frame.bulky:
            return await self._send(_encode(frame.show()))
        if frame.bulky:
            await self._bulky.acquire()
        nursery.start_soon(self._finish, frame, ticket)
        return None

    async def _finish(self, frame: _Frame, ticket: Ticket | None) -> None:
        if frame.bulky:
            try:
                await trio.to_thread.run_sync(frame.read_bulky, self._view)
            finally:
                self._bulky.release()
        if ticket is not None:
            await ticket.done.wait()
            for (place, extrinsic), outcome in zip(frame.submitted, ticket.outcomes, strict=True):
                try:
                    frame.answers[place] = {"result": show_submission(self._view, extrinsic, outcome)}
                except ApiError as error:
                    frame.answers[place] = {"error": error.to_json()}
        await self._send(_encode(frame.show()))

    async def _send_heads(self) -> None:
        async with self._bus.subscribe() as blocks:
            async for block in blocks:
                await self._send(_encode({"head": _show_head(self._view, block)}))
        # The bus cut this client off for being slow: it has to notice, connect again and look up what it missed.
        await self._stream.aclose()

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            await self._stream.send_all(HEAD.pack(len(data)) + data)


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


@dataclass(slots=True)
class _Frame:
    """The calls of a frame and their answers so far; some calls still wait for a thread or for the pool."""

    id: Any
    answers: list[dict[str, Any] | None]
    submitted: list[tuple[int, bytes]] = field(default_factory=list)
    bulky: list[tuple[int, str, Params]] = field(default_factory=list)

    def read_bulky(self, view: NodeView) -> None:
        for place, name, params in self.bulky:
            try:
                self.answers[place] = {"result": _call(view, name, params)}
            except ApiError as error:
                self.answers[place] = {"error": error.to_json()}

    def show(self) -> dict[str, Any]:
        return {"id": self.id, "answers": self.answers}


def _parse_frame(payload: bytes) -> tuple[Any, list[Any]]:
    """(id, calls). Raises ApiError."""
    try:
        frame = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ApiError(INVALID_REQUEST, "a frame is JSON") from error
    if not isinstance(frame, dict) or not isinstance(frame.get("calls"), list) or "id" not in frame:
        raise ApiError(INVALID_REQUEST, 'a frame is {"id", "calls"}')
    if len(frame["calls"]) > CALLS_MAX:
        raise ApiError(INVALID_REQUEST, f"a frame has at most {CALLS_MAX} calls")
    return frame["id"], frame["calls"]


def _parse_call(call: Any) -> tuple[str, Params]:
    if not isinstance(call, list) or len(call) != 2:
        raise ApiError(INVALID_REQUEST, "a call is [method, params]")
    name, params = call
    if isinstance(name, str) and name in SUBSCRIPTION_METHODS:
        raise ApiError(METHOD_NOT_FOUND, f"{name} is for WebSockets: connect to ws:// at the same port")
    if not isinstance(name, str) or (name not in METHODS and name != SUBSCRIBE_HEADS):
        raise ApiError(METHOD_NOT_FOUND, f"there is no method {name!r:.80}; rpc_methods lists them")
    if not isinstance(params, list | dict):
        raise ApiError(INVALID_PARAMS, "params have to be a list or an object")
    return name, params


def _call(view: NodeView, name: str, params: Params) -> Any:
    try:
        return call_method(view, name, params)
    except ApiError:
        raise
    except Exception as error:
        logger.exception("%s failed", name)
        raise ApiError(INTERNAL_ERROR, f"{name} failed inside the node; its log says why") from error


def _show_head(view: NodeView, block: FinalizedBlock) -> dict[str, Any]:
    extrinsics = [f"0x{compute_extrinsic_hash(one).hex()}" for one in block.block.transactions]
    return {**view.show(block.block.header), "hash": f"0x{block.head.block_hash.hex()}", "extrinsics": extrinsics}
