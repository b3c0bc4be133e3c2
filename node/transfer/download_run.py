"""Runs on trio what `download.py` decides: asks peers, waits for the next change, keeps the right chunks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from node.transfer.download import Download, Fetch


class DownloadRun:
    """The requests of one download."""

    def __init__(self, download: Download, save: Callable[[int, bytes], None]) -> None:
        """`save` writes a chunk to disk; it is called in a thread, one at a time."""
        self.download = download
        self._save = save
        self._saving = trio.Lock()
        self._changed = trio.Event()

    async def run(self, fetch: Callable[[Fetch], Awaitable[None]], on_change: Callable[[int], None]) -> bool:
        """Run until every chunk is there or no peer is left to ask; returns which. `on_change` gets the number missing.

        `fetch` is one whole request; it reports its end by `keep`, `fail` or `self.download.take_chunk`.
        """
        download = self.download

        async def fetch_one(one: Fetch) -> None:
            await fetch(one)
            self._changed.set()

        async with trio.open_nursery() as nursery:
            while not download.is_done and not download.is_stuck:
                for one in download.assign(_read_monotonic_ms()):
                    nursery.start_soon(fetch_one, one)
                now_ms = _read_monotonic_ms()
                with trio.move_on_after(max(0, download.compute_wake_ms(now_ms) - now_ms) / 1_000):
                    await self._changed.wait()
                self._changed = trio.Event()
                on_change(download.missing_count)
            nursery.cancel_scope.cancel()
        return download.is_done

    async def keep(self, fetch: Fetch, data: bytes) -> None:
        """Keep a right chunk: it is on disk before it counts."""
        async with self._saving:  # one that two peers were asked for may come twice
            if self.download.is_missing(fetch.index):
                await trio.to_thread.run_sync(self._save, fetch.index, data)
            self.download.take_chunk(fetch, data)

    def fail(self, fetch: Fetch) -> None:
        """Report that no answer came."""
        self.download.take_failure(fetch, _read_monotonic_ms())


def _read_monotonic_ms() -> int:
    return int(trio.current_time() * 1_000)
