"""One libp2p stream as the byte stream that framing needs; libp2p's exceptions become ours here and nowhere else."""

from __future__ import annotations

import trio
from libp2p.abc import INetStream
from libp2p.network.stream.net_stream import NetStream
from libp2p.stream_muxer.exceptions import MuxedStreamEOF

from node.p2p.errors import StreamReset
from node.p2p.yamux_stream import Sink, YamuxStream


class MuxedByteStream:
    """`framing.ByteStream` over a libp2p stream."""

    __slots__ = ("_muxed", "_stream")

    def __init__(self, stream: INetStream) -> None:
        assert isinstance(stream, NetStream)
        self._stream = stream
        assert isinstance(stream.muxed_stream, YamuxStream)
        self._muxed = stream.muxed_stream  # past NetStream's state lock, which costs a task switch at every call

    async def read(self, limit: int) -> bytes:
        """Return 1..limit bytes, or b"" at the end of the stream. Raises StreamReset."""
        try:
            return await self._muxed.read(limit)
        except MuxedStreamEOF:
            return b""
        except Exception as error:  # libp2p lets exceptions of every layer below through
            raise StreamReset(f"read failed: {type(error).__name__}: {error}") from error

    async def write(self, data: bytes) -> None:
        """Write all of `data`. Raises StreamReset."""
        try:
            await self._muxed.write(data)
        except Exception as error:
            raise StreamReset(f"write failed: {type(error).__name__}: {error}") from error

    def push_to(self, sink: Sink | None) -> None:
        """Offer what arrives to `sink` first; what it declines is there to be read."""
        self._muxed.push_to(sink)

    def write_now(self, data: bytes) -> bool:
        """Write all of `data` if that needs no waiting; else False, and nothing was written."""
        return self._muxed.write_now(data)

    async def finish(self) -> None:
        """Close the write side. Raises StreamReset."""
        try:
            await self._muxed.close()
        except Exception as error:
            raise StreamReset(f"close failed: {type(error).__name__}: {error}") from error

    async def wait_torn(self) -> None:
        """Return once the stream has been reset or its connection is gone."""
        await self._muxed.wait_torn()

    async def reset(self) -> None:
        """Drop the stream in both directions; never raises."""
        try:
            await self._stream.reset()
        except Exception:  # a stream whose connection is gone is as good as reset
            await trio.lowlevel.checkpoint_if_cancelled()
