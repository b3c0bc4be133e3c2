"""The RPC process's link to its node: many calls over a local socket, which is reconnected when it breaks (asyncio)."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from node.local_api.wire.errors import NODE_UNREACHABLE, ApiError
from node.local_api.wire.frames import FRAME_BYTES_MAX, HEAD, SUBSCRIBE_HEADS, Params
from proto_specs.errors import MyelinError

logger = logging.getLogger("myelin.rpc")

CALL_TIMEOUT_S = 30.0
RETRY_S = 0.2
GIVE_UP_S = 15.0


class NodeGone(MyelinError):
    """The node's socket could not be reached for 15 s."""


class NodeLink:
    """Calls the node, and passes every finalized header to `on_head`."""

    def __init__(self, path: Path, on_head: Callable[[dict[str, Any]], None]) -> None:
        self._path = path
        self._on_head = on_head
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, params: Params) -> Any:
        """A call's result. Raises ApiError, also when the node cannot be reached."""
        (answer,) = await self.call_many([(method, params)])
        if isinstance(answer, ApiError):
            raise answer
        return answer

    async def call_many(self, calls: Sequence[tuple[str, Params]]) -> list[Any]:
        """A result or an ApiError for each call, in a single frame; the same error for all when the node is away."""
        if self._writer is None:
            return [ApiError(NODE_UNREACHABLE, "the node is not running or restarts: try again")] * len(calls)
        call_id = next(self._ids)
        future = self._waiting[call_id] = asyncio.get_running_loop().create_future()
        try:
            self._send({"id": call_id, "calls": calls})
            answers = await asyncio.wait_for(future, CALL_TIMEOUT_S)
        except TimeoutError:
            text = f"the node did not answer within {CALL_TIMEOUT_S:.0f} s"
            return [ApiError(NODE_UNREACHABLE, text)] * len(calls)
        except ApiError as error:
            return [error] * len(calls)
        finally:
            self._waiting.pop(call_id, None)
        return [_read_answer(one) for one in answers]

    async def run(self) -> None:
        """Stay connected. Raises NodeGone after 15 s without the node: its supervisor is gone too."""
        loop = asyncio.get_running_loop()
        last_seen_s = loop.time()
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(str(self._path))
            except OSError as error:
                if loop.time() - last_seen_s > GIVE_UP_S:
                    raise NodeGone(f"no node at {self._path} for {GIVE_UP_S:.0f} s") from error
                await asyncio.sleep(RETRY_S)
                continue
            try:
                self._send({"id": 0, "calls": [[SUBSCRIBE_HEADS, []]]})
                await self._read(reader)
            except (OSError, asyncio.IncompleteReadError):
                logger.info("the connection to the node ended; connecting again")
            finally:
                self._drop()
            last_seen_s = loop.time()

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message, separators=(",", ":")).encode()
        assert self._writer is not None, "connected"
        self._writer.write(HEAD.pack(len(data)) + data)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            (length,) = HEAD.unpack(await reader.readexactly(HEAD.size))
            assert length <= FRAME_BYTES_MAX, "the node is ours"
            message = json.loads(await reader.readexactly(length))
            if "head" in message:
                self._on_head(message["head"])
                continue
            future = self._waiting.get(message["id"])
            if future is None or future.done():
                continue
            future.set_result(message["answers"])

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ApiError(NODE_UNREACHABLE, "the node went away during the call: try again"))


def _read_answer(answer: dict[str, Any]) -> Any:
    error = answer.get("error")
    if error is None:
        return answer["result"]
    return ApiError(error["code"], error["message"], error.get("data"))
