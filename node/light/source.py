"""Where a light client gets its data. It trusts no answer before it is verified."""

from __future__ import annotations

from typing import Protocol

from consensus.light.verify import Handover
from proto_specs.types.gossip import LightBlock


class LightSource(Protocol):
    """A full node, reached over libp2p or JSON-RPC."""

    @property
    def name(self) -> str:
        """The source's name in messages."""

    async def get_block(self, height: int) -> LightBlock | None:
        """The light block of a height, 0 being the newest; None when the source has none. Raises SourceLost."""

    async def get_handover(self, height: int) -> Handover | None:
        """The set elected by the state after a block; None when that state is not kept. Raises SourceLost."""
