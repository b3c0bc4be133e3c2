"""Where a light client gets what it asks for. Nothing that comes from there is believed."""

from __future__ import annotations

from typing import Protocol

from consensus.light.verify import Handover
from proto_specs.types.gossip import LightBlock


class LightSource(Protocol):
    """A full node, somehow reached."""

    @property
    def name(self) -> str:
        """For people."""

    async def get_block(self, height: int) -> LightBlock | None:
        """The light block of a height, 0 being the newest; None when it has none. Raises SourceLost."""

    async def get_handover(self, height: int) -> Handover | None:
        """Who was elected by the state after a block; None when that state is not kept. Raises SourceLost."""
