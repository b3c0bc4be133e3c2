"""The running requests of a worker by id, and the routing of their frames."""

from __future__ import annotations

import trio

from node.client.link import FrameLink, get_request_id, make_failed
from node.p2p.errors import NetworkError
from node.worker.active import ActiveRequest
from proto_specs.types.request import Order
from proto_specs.types.wire import Accepted, Failed, FailureCode, Frame, Settled


class Requests:
    """The running requests by id, and the links over which their frames come."""

    def __init__(self) -> None:
        self._active: dict[bytes, ActiveRequest] = {}
        self._ended = trio.Event()

    def __len__(self) -> int:
        return len(self._active)

    def __contains__(self, request: bytes) -> bool:
        return request in self._active

    def add(self, active: ActiveRequest) -> None:
        """Register an opened request, so that frames reach it."""
        assert active.request not in self._active, "a request runs once"
        self._active[active.request] = active

    async def run(self, active: ActiveRequest) -> None:
        """Run an added request to its end."""
        try:
            await active.run()
        finally:
            del self._active[active.request]
            self._ended.set()
            self._ended = trio.Event()

    async def wait_idle(self) -> None:
        """Return when no request runs."""
        while self._active:
            await self._ended.wait()

    def list_running(self) -> list[ActiveRequest]:
        """All that run."""
        return list(self._active.values())

    def find_before(self, order: Order) -> list[ActiveRequest]:
        """The requests of the answer that a continuation goes on with, the latest first; there are few."""
        continuation = order.continuation
        if continuation is None:
            return []
        found = [
            one
            for one in self._active.values()
            if one.order.session == order.session
            and continuation.request in (one.request, one.order.continuation and one.order.continuation.request)
        ]
        return sorted(found, key=lambda one: one.order.epoch, reverse=True)

    def list_settled_here(self) -> list[ActiveRequest]:
        """Requests whose last stage this is."""
        return [one for one in self._active.values() if one.is_last]

    async def read_link(self, link: FrameLink) -> None:
        """Route a neighbour's frames until the link ends; then tell the requests that depend on the link.

        Raises DecodeError for garbage and StrayFrame, which close the stream.
        """
        try:
            await link.receive_each(lambda frame: self.route(frame, link))
        except NetworkError:
            pass
        finally:
            link.is_lost = True
            for active in list(self._active.values()):
                active.link_lost(link)

    def route(self, frame: Frame, link: FrameLink) -> None:
        """Hand a frame to its request. A frame about an unknown request is answered, so its sender does not wait."""
        request = get_request_id(frame)
        active = self._active.get(request) if request is not None else None
        if active is not None:
            active.post(frame, link)
        elif request is not None and not isinstance(frame, Failed | Accepted | Settled):
            link.send(make_failed(request, FailureCode.INTERNAL, "no such request is under way here"))
