"""A worker's end as a wish: asked for by a signal, the chain's record, or whoever runs it; carried out elsewhere."""

from __future__ import annotations

import trio


class Departure:
    """Asked once, for the first reason given. `is_serving` says whether there is anything to drain."""

    def __init__(self) -> None:
        self.is_serving = False
        self.reason = ""
        self.tells_chain = True
        self._asked = trio.Event()

    @property
    def is_asked(self) -> bool:
        """Whether the worker is to end."""
        return self._asked.is_set()

    def ask(self, reason: str, *, tells_chain: bool = True) -> None:
        """Take no new requests, let the running ones finish, end. The chain is told, unless it says so itself."""
        if not self.is_asked:
            self.reason, self.tells_chain = reason, tells_chain
            self._asked.set()

    async def wait_asked(self) -> None:
        """Return when the worker is to end."""
        await self._asked.wait()
