"""A peer in a process of its own: `python -m tests.integration.node.p2p.peer SEED_BYTE [stock]` prints its address.

It stops when its standard input closes. `stock` makes it a plain libp2p host, without anything of ours.
"""

from __future__ import annotations

import contextlib
import struct
import sys

import trio
from libp2p import new_host
from libp2p.abc import IHost, INetStream
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.network.stream.exceptions import StreamError
from multiaddr import Multiaddr

from node.p2p.framing import FramedStream, StreamLimits
from node.p2p.host import open_host
from node.p2p.identity import compute_key_pair
from proto_specs.errors import DecodeError

LISTEN = "/ip4/127.0.0.1/tcp/0"
ECHO = "/myelin-test/echo/1"
SINK = "/myelin-test/sink/1"
STRICT = "/myelin-test/strict/1"
CRASH = "/myelin-test/crash/1"
BLOB = "/myelin-test/blob/1"
FRAME_BYTES_MAX = 8 * 1024 * 1024
QUICK = StreamLimits(heartbeat_s=0.3, dead_peer_s=2.0)
HEADER = struct.Struct(">I")


async def echo(stream: FramedStream, peer_id: str) -> None:
    while True:
        await stream.send(await stream.receive())


async def sink(stream: FramedStream, peer_id: str) -> None:
    await stream.wait_ended()  # without ever reading


async def strict(stream: FramedStream, peer_id: str) -> None:
    while True:
        if await stream.receive() != b"please":
            raise DecodeError("not polite")
        await stream.send(b"thanks")


async def crash(stream: FramedStream, peer_id: str) -> None:
    await stream.receive()
    raise RuntimeError("a bug of the handler")


async def blob(body: bytes, peer_id: str) -> bytes:
    (size,) = HEADER.unpack(body)
    if size > 1 << 30:
        raise DecodeError("asks for too much")
    return bytes(size)


async def run_ours(seed: bytes) -> None:
    async with open_host(seed, [LISTEN]) as host:
        host.serve(ECHO, echo, max_frame_bytes=FRAME_BYTES_MAX, max_streams_per_peer=8, limits=QUICK)
        host.serve(SINK, sink, limits=QUICK)
        host.serve(STRICT, strict, max_streams_per_peer=400, limits=QUICK)
        host.serve(CRASH, crash, limits=QUICK)
        host.serve_requests(BLOB, blob)
        await announce(host.addresses[0])


def build_stock_host(seed: bytes) -> IHost:
    config = ConnectionConfig(min_connections=0, low_watermark=0)
    return new_host(key_pair=compute_key_pair(seed), connection_config=config)


async def read_stock(stream: INetStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.read(size - len(data))
    return data


async def read_frame_stock(stream: INetStream) -> bytes:
    while True:
        (size,) = HEADER.unpack(await read_stock(stream, HEADER.size))
        if size:  # else a heartbeat
            return await read_stock(stream, size)


async def echo_stock(stream: INetStream) -> None:
    with contextlib.suppress(StreamError):  # an exception that leaves a handler stops a stock host
        while True:
            header = await read_stock(stream, HEADER.size)
            await stream.write(header + await read_stock(stream, HEADER.unpack(header)[0]))


async def run_stock(seed: bytes) -> None:
    host = build_stock_host(seed)
    host.set_stream_handler(TProtocol(ECHO), echo_stock)
    async with host.run([Multiaddr(LISTEN)]):
        await announce(str(host.get_addrs()[0]))


async def announce(address: str) -> None:
    print(address, flush=True)
    await trio.lowlevel.wait_readable(sys.stdin.fileno())


if __name__ == "__main__":
    trio.run(run_stock if sys.argv[2:] == ["stock"] else run_ours, bytes([int(sys.argv[1])]) * 32)
