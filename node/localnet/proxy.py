"""A TCP proxy between every two validators: like a network it delays, and keeps groups apart. Knows no protocol.

Between two groups it neither refuses nor resets: bytes and new connections wait, as lost packets do, until the groups
are joined again or an end gives up. Run as `python -m node.localnet.proxy CONFIG`; takes orders on a unix socket, a
JSON object a line: {"groups": [["alice"], ["bob"]]}, answered by {"ok": true}.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from node.localnet.errors import LocalnetError
from node.localnet.groups import Groups, is_connected

CHUNK_BYTES = 1 << 16
CHUNKS_MAX = 256
"""Chunks of a direction that are read and not yet passed on: what a network would have in flight."""
CONNECTIONS_MAX = 256
LINE_BYTES_MAX = 1 << 16
ORDER_TIMEOUT_S = 5.0
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ProxyLink:
    """Connections to `port` are those of `source` to `dest`, which listens at `dest_port`."""

    source: str
    dest: str
    port: int
    dest_port: int


class Switch:
    """The current groups."""

    def __init__(self, groups: Groups = ()) -> None:
        self._groups = groups
        self._changed = trio.Event()

    def set_groups(self, groups: Groups) -> None:
        """Set new groups; waiting connections check again."""
        self._groups = groups
        self._changed.set()
        self._changed = trio.Event()

    async def wait_connected(self, one: str, other: str) -> None:
        """Return once the two are in the same group."""
        while not is_connected(self._groups, one, other):
            await self._changed.wait()


async def serve_link(
    link: ProxyLink, switch: Switch, delay_ms: int, *, task_status: Any = trio.TASK_STATUS_IGNORED
) -> None:
    """Pass on the connections of a link until cancelled. Raises OSError when the port is taken."""
    slots = trio.Semaphore(CONNECTIONS_MAX)

    async def handle(near: trio.SocketStream) -> None:
        try:
            slots.acquire_nowait()
        except trio.WouldBlock:
            return
        try:
            await switch.wait_connected(link.source, link.dest)
            far = await trio.open_tcp_stream(HOST, link.dest_port)
            async with far, trio.open_nursery() as nursery:
                for source, dest in ((near, far), (far, near)):
                    nursery.start_soon(_pump, source, dest, link, switch, delay_ms)
        except* OSError:
            pass  # no process listens there now: the dialler sees its connection closed
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # one end went away, so the other end is closed
        finally:
            slots.release()

    await trio.serve_tcp(handle, link.port, host=HOST, task_status=task_status)


async def _pump(
    source: trio.SocketStream, dest: trio.SocketStream, link: ProxyLink, switch: Switch, delay_ms: int
) -> None:
    """Pass on a direction: each chunk goes out `delay_ms` after it was read, and never while the two are apart."""
    sender, receiver = trio.open_memory_channel[tuple[float, bytes]](CHUNKS_MAX)

    async def read() -> None:
        async with sender:
            while data := await source.receive_some(CHUNK_BYTES):
                await sender.send((trio.current_time() + delay_ms / 1_000, data))

    async with receiver, trio.open_nursery() as nursery:
        nursery.start_soon(read)
        async for due_s, data in receiver:
            await trio.sleep_until(due_s)
            await switch.wait_connected(link.source, link.dest)
            await dest.send_all(data)
    await dest.send_eof()


async def serve_orders(path: Path, switch: Switch, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    """Take orders on the socket until cancelled. Only this user may connect."""
    path.unlink(missing_ok=True)
    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    old_mask = os.umask(0o177)
    try:
        await listener.bind(str(path))
    finally:
        os.umask(old_mask)
    listener.listen(8)

    async def handle(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(ORDER_TIMEOUT_S):
            try:
                switch.set_groups(parse_order(await _read_line(stream)))
                await stream.send_all(b'{"ok": true}\n')
            except LocalnetError as error:
                await stream.send_all(json.dumps({"ok": False, "error": str(error)}).encode() + b"\n")

    task_status.started()
    await trio.serve_listeners(handle, [trio.SocketListener(listener)])


def parse_order(line: bytes) -> Groups:
    """The groups of an order. Raises LocalnetError."""
    try:
        match json.loads(line):
            case {"groups": list(groups)}:
                return parse_group_lists(groups)
    except (ValueError, RecursionError):
        pass
    raise LocalnetError("an order is {'groups': [[name, ...], ...]}")


def parse_group_lists(groups: Sequence[Any]) -> Groups:
    if not all(isinstance(group, list) and all(isinstance(name, str) for name in group) for group in groups):
        raise ValueError("groups are lists of names")
    return tuple(tuple(group) for group in groups)


async def send_order(path: Path, groups: Groups) -> None:
    """Tell the proxy the groups; returns once they are kept apart. Raises LocalnetError."""
    try:
        with trio.fail_after(ORDER_TIMEOUT_S):
            async with await trio.open_unix_socket(str(path)) as stream:
                await stream.send_all(json.dumps({"groups": groups}).encode() + b"\n")
                answer = json.loads(await _read_line(stream))
    except (OSError, ValueError, trio.BrokenResourceError, trio.TooSlowError) as error:
        raise LocalnetError(f"the proxy does not answer ({error}): `myelin localnet up` starts it again") from error
    if answer != {"ok": True}:
        raise LocalnetError(f"the proxy refused: {answer}")


async def _read_line(stream: trio.SocketStream) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
        data = await stream.receive_some(LINE_BYTES_MAX)
        if not data:
            break
        line += data
    return line


async def run_proxy(
    links: Sequence[ProxyLink],
    socket: Path,
    groups: Groups,
    delay_ms: int,
    *,
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve all links and the orders, until cancelled. Raises OSError."""
    switch = Switch(groups)
    async with trio.open_nursery() as nursery:
        for link in links:
            await nursery.start(serve_link, link, switch, delay_ms)
        await nursery.start(serve_orders, socket, switch)
        task_status.started()


def main() -> None:
    """Run `python -m node.localnet.proxy CONFIG`, until a signal ends it."""
    config = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    links = [ProxyLink(**one) for one in config["links"]]
    groups = parse_group_lists(config["groups"])
    trio.run(run_proxy, links, Path(config["socket"]), groups, int(config["delay_ms"]))


if __name__ == "__main__":
    main()
