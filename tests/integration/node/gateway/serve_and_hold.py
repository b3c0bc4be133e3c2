"""A process that serves one stream without end: what a test kills."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from node.gateway.service import run_gateway
from node.gateway.settings import GatewaySettings
from tests.unit.node.gateway.fake_inference import FakeInference, FixedCatalog, make_model, say


async def serve(directory: Path) -> None:
    """Print the port; then serve."""
    inference = FakeInference(script=say("abcdefgh"), hold_at=4)
    settings = GatewaySettings(directory, 200_000, port=0, is_open=True)
    async with trio.open_nursery() as nursery:
        catalog = FixedCatalog((make_model(),))
        port = await nursery.start(run_gateway, settings, inference, catalog, trio.lowlevel.checkpoint)
        print(port, flush=True)


if __name__ == "__main__":
    trio.run(serve, Path(sys.argv[1]))
