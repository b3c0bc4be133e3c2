"""Serves the methods on a local socket of the node's process: length-prefixed JSON, calls in, results and heads out.

One connection carries many calls; each has an id that its answer repeats. A connection that asks for `subscribe_heads`
also gets every finalized header with the hashes of its transactions, as {"head": ...}.
"""

from __future__ import annotations

import json
import logging
import os
import struct
from pathlib import Path
from typing import Any

import trio

from node.api.errors import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, ApiError
from node.api.methods import METHODS, NodeView, call_method
from node.chain.bus import BlockBus
from node.store.chain_store import FinalizedBlock
from proto_specs.types.chain import compute_extrinsic_hash

logger = logging.getLogger("myelin.api")

FRAME_BYTES_MAX = 64 << 20
HEAD = struct.Struct(">I")
SUBSCRIBE_HEADS = "subscribe_heads"
BULKY_CALLS_MAX = 4
Params = list[Any] | dict[str, Any]


async def serve_api(path: Path, view: NodeView, bus: BlockBus, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled; started once calls are taken. Only this user may connect. Raises OSError."""
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
        await _Connection(stream, view, bus).run()

    try:
        await trio.serve_listeners(handle, [trio.SocketListener(socket)])
    finally:
        path.unlink(missing_ok=True)


async def receive_frame(stream: trio.SocketStream, buffer: bytearray) -> bytes | None:
    """The next frame's payload, None at the end of the stream."""
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
    """One peer of the socket: the RPC process, or a tool of the operator."""

    def __init__(self, stream: trio.SocketStream, view: NodeView, bus: BlockBus) -> None:
        self._stream = stream
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
            pass  # the peer went away
        except* ApiError as group:
            logger.warning("local connection closed: %s", group.exceptions[0])
        finally:
            await self._stream.aclose()

    async def _answer(self, payload: bytes, nursery: trio.Nursery) -> None:
        """Answer at once, or from a thread: a bulky read delays neither consensus nor other calls."""
        call_id: Any = None
        try:
            call = _parse_call(payload)
            call_id = call["id"]
            name, params = _parse_target(call)
            if name == SUBSCRIBE_HEADS:
                nursery.start_soon(self._send_heads)
                answer: dict[str, Any] = {"id": call_id, "result": True}
            elif METHODS[name].is_bulky:
                await self._bulky.acquire()
                nursery.start_soon(self._answer_bulky, call_id, name, params)
                return
            else:
                answer = {"id": call_id, "result": _call(self._view, name, params)}
        except ApiError as error:
            answer = {"id": call_id, "error": error.to_json()}
        await self._send(_encode(answer))

    async def _answer_bulky(self, call_id: Any, name: str, params: Params) -> None:
        def read() -> bytes:
            try:
                return _encode({"id": call_id, "result": _call(self._view, name, params)})
            except ApiError as error:
                return _encode({"id": call_id, "error": error.to_json()})

        try:
            await self._send(await trio.to_thread.run_sync(read))
        finally:
            self._bulky.release()

    async def _send_heads(self) -> None:
        async with self._bus.subscribe() as blocks:
            async for block in blocks:
                await self._send(_encode({"head": _show_head(self._view, block)}))
        # Cut off for being slow: the peer has to notice, connect again and look up what it missed.
        await self._stream.aclose()

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            await self._stream.send_all(HEAD.pack(len(data)) + data)


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def _parse_call(payload: bytes) -> dict[str, Any]:
    try:
        call = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ApiError(INVALID_REQUEST, "a call is JSON") from error
    if not isinstance(call, dict) or not {"id", "method", "params"} <= call.keys():
        raise ApiError(INVALID_REQUEST, "a call is {id, method, params}")
    return call


def _parse_target(call: dict[str, Any]) -> tuple[str, Params]:
    name, params = call["method"], call["params"]
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
