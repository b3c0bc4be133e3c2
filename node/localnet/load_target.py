"""A validator under load: a WebSocket that takes its transfers in batches and reports every finalized block."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from node.localnet.latency import Finality, LatencyTally
from node.localnet.payers import Payer, Rota

TICK_S = 0.01
BATCH_MAX = 100
"""Calls in a JSON-RPC batch; the node takes no more."""
RETRY_S = 0.2
MESSAGE_BYTES_MAX = 16 << 20
RECEIVE_BYTES = 1 << 16
CONNECT_TIMEOUT_S = 3.0
UNREACHABLE = "node unreachable"
NO_PAYER = "no payer's nonce known"
FORGOTTEN = "forgotten by its node"
NOT_FINAL = "not final in time"
_HEADS = "chain_subscribeFinalizedHeads"

Answered = Callable[[Any, Any], None]
"""(result, error) -> records the answer; the error is None on success."""


@dataclass(frozen=True, slots=True)
class SendSchedule:
    """Transfers are due at `first_s`, `step_s` later, ... before `end_s`, on trio's clock."""

    first_s: float
    step_s: float
    end_s: float

    def get_due_s(self, number: int) -> float | None:
        """The time at which transfer `number` is due; None after the end."""
        due_s = self.first_s + number * self.step_s
        return due_s if due_s < self.end_s else None


@dataclass
class LoadTarget:
    """A validator and its share of the transfers. `schedule` is set once all targets are ready."""

    url: str
    rota: Rota
    genesis: bytes
    tally: LatencyTally
    schedule: SendSchedule | None = None
    is_ready: trio.Event = field(default_factory=trio.Event)
    is_settled: trio.Event = field(default_factory=trio.Event)
    _taken: int = 0
    _due_s: dict[str, float] = field(default_factory=dict)
    """The due times of transfers that are sent and not yet seen final, by extrinsic hash."""
    _calls: dict[int, Answered] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    """Addresses whose nonce has been asked for."""
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    async def run(self) -> None:
        """Connect, and reconnect after each break, until cancelled. Transfers that fall due meanwhile have failed."""
        while True:
            try:
                await self._connect_and_serve()
            except* (ConnectionClosed, HandshakeError, OSError, trio.BrokenResourceError, trio.TooSlowError):
                pass  # the node is down or was killed: a load measures both
            self._calls.clear()
            self._asked.clear()
            for payer in self.rota.payers:
                payer.nonce = None
            await trio.sleep(RETRY_S)
            for _ in self._take_due():
                self.tally.fail(UNREACHABLE)

    def give_up(self) -> None:
        """Count the due transfers that are not final as failed."""
        for _ in self._take_due():
            self.tally.fail(UNREACHABLE)
        for _ in range(len(self._due_s)):
            self.tally.fail(NOT_FINAL)
        self._due_s.clear()

    async def _connect_and_serve(self) -> None:
        """Connect and serve. The stream is ours, not the library's, so that it is closed in every case."""
        where = urlsplit(self.url)
        assert where.hostname is not None, "the plan's addresses have one"
        with trio.fail_after(CONNECT_TIMEOUT_S):
            stream = await trio.open_tcp_stream(where.hostname, where.port or 80)
        async with stream, trio.open_nursery() as nursery:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                socket = await wrap_client_stream(
                    nursery,
                    stream,
                    where.netloc,
                    "/",
                    max_message_size=MESSAGE_BYTES_MAX,
                    receive_buffer_size=RECEIVE_BYTES,
                )
            await self._serve(socket)

    async def _serve(self, socket: WebSocketConnection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, socket)
            await self._call(socket, [(_HEADS, [], _ignore)])
            await self._call(socket, [self._make_status_call(one) for one in list(self._due_s)])
            while True:
                await self._ask_nonces(socket)
                await self._call(socket, self._make_transfers())
                if self.schedule is not None and trio.current_time() >= self.schedule.end_s and not self._due_s:
                    self.is_settled.set()
                await trio.sleep(TICK_S)

    async def _call(self, socket: WebSocketConnection, calls: Sequence[tuple[str, list[Any], Answered]]) -> None:
        """Send calls in batches; `_receive` takes the answers."""
        for at in range(0, len(calls), BATCH_MAX):
            batch = []
            for method, params, answered in calls[at : at + BATCH_MAX]:
                number = next(self._ids)
                self._calls[number] = answered
                batch.append({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            await socket.send_message(json.dumps(batch))

    async def _ask_nonces(self, socket: WebSocketConnection) -> None:
        """Ask for the nonces that are unknown: at the beginning, and after a refusal."""
        lost = [one for one in self.rota.payers if one.nonce is None and one.address not in self._asked]
        self._asked.update(one.address for one in lost)
        calls = [("system_accountNextIndex", [one.address], self._make_nonce_taker(one)) for one in lost]
        await self._call(socket, calls)

    def _make_transfers(self) -> list[tuple[str, list[Any], Answered]]:
        """The calls of the transfers that are due now."""
        calls: list[tuple[str, list[Any], Answered]] = []
        for due_s in self._take_due():
            payer = self.rota.pick()
            if payer is None:
                self.tally.fail(NO_PAYER)
                continue
            data, extrinsic = payer.sign_next(self.genesis)
            self._due_s[extrinsic] = due_s
            self.tally.submitted += 1
            calls.append(("author_submitExtrinsic", [data], self._make_submission_taker(payer, extrinsic)))
        return calls

    def _take_due(self) -> list[float]:
        """The due times of the transfers that are due and not yet taken."""
        found: list[float] = []
        now_s = trio.current_time()
        while self.schedule is not None and (due_s := self.schedule.get_due_s(self._taken)) is not None:
            if due_s > now_s:
                break
            self._taken += 1
            self.tally.offered += 1
            found.append(due_s)
        return found

    async def _receive(self, socket: WebSocketConnection) -> None:
        while True:
            message = json.loads(await socket.get_message())
            for one in message if isinstance(message, list) else [message]:
                if "id" not in one:
                    self._take_head(one["params"]["result"])
                elif (answered := self._calls.pop(one["id"], None)) is not None:
                    answered(one.get("result"), one.get("error"))

    def _take_head(self, head: dict[str, Any]) -> None:
        now_s, where = trio.current_time(), Finality(int(head["height"]), str(head["hash"]))
        for extrinsic in head["extrinsics"]:
            self._finalize(extrinsic, where, now_s)

    def _finalize(self, extrinsic: str, where: Finality, now_s: float) -> None:
        due_s = self._due_s.pop(extrinsic, None)
        if due_s is not None:
            self.tally.finalize(extrinsic, where, due_s, now_s)

    def _make_nonce_taker(self, payer: Payer) -> Answered:
        def take(result: Any, _error: Any) -> None:
            self._asked.discard(payer.address)
            payer.nonce = result
            if not self._asked:
                self.is_ready.set()

        return take

    def _make_submission_taker(self, payer: Payer, extrinsic: str) -> Answered:
        def take(_result: Any, error: Any) -> None:
            if error is None:
                self.tally.accepted += 1
                return
            payer.nonce = None
            if self._due_s.pop(extrinsic, None) is not None:
                data = error.get("data")
                self.tally.fail(data["reason"] if isinstance(data, dict) and "reason" in data else error["message"])

        return take

    def _make_status_call(self, extrinsic: str) -> tuple[str, list[Any], Answered]:
        """Ask what became of a transfer while there was no connection."""

        def take(result: Any, error: Any) -> None:
            if result is not None and result["status"] == "finalized":
                self._finalize(extrinsic, Finality(int(result["height"]), None), trio.current_time())
            elif result is None and error is None and self._due_s.pop(extrinsic, None) is not None:
                self.tally.fail(FORGOTTEN)

        return "author_extrinsicStatus", [extrinsic], take


def _ignore(_result: Any, _error: Any) -> None:
    """Ignore an answer that has no use."""
