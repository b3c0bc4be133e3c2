"""The part of the chain that routing and placement read: who serves what, as of the last block. No product code.

What a worker announces, and that it is away, is seen from the next block on. A worker that answers no probe is marked
absent by the verifiers, after `ABSENT_S`.
"""

from __future__ import annotations

from collections.abc import Callable

from node.client.chain_view import WorkerEntry
from node.sim.network.events import VirtualTime
from node.sim.network.workers import MODEL_ID
from node.sim.network.world import LAYERS
from proto_specs.types.manifest import Architecture, ExecutionProfile, Manifest, ServiceClass

BLOCK_S = 3.0
ABSENT_S = 90.0

MANIFEST = Manifest(
    name="simulated",
    architecture=Architecture("llama", LAYERS, 8_192, 32_000, 4_096, ()),
    service_class=int(ServiceClass.EXACT),
    wire_dtype=0,
    eos_tokens=(),
    units=(),
    profile=ExecutionProfile("", "", "", 0, 0, 1, 0),
    ranges=(),
    thresholds=(),
)


class ListedWorkers:
    """Fulfils `WorkerSource`."""

    def __init__(self, virtual: VirtualTime) -> None:
        self.version = 0
        self._virtual = virtual
        self._entries: dict[bytes, WorkerEntry] = {}
        self._listed: tuple[WorkerEntry, ...] = ()
        self._pending: dict[bytes, WorkerEntry | None] = {}
        self._height = 1
        self._on_block: list[Callable[[int], None]] = []

    def start(self, on_block: Callable[[int], None]) -> None:
        """Make blocks from now on; `on_block` is told of each that changed something."""
        self._on_block.append(on_block)
        self._virtual.after(BLOCK_S, self._make_block)

    def announce(self, entry: WorkerEntry) -> None:
        """A worker's registration, or what has changed of it: in the next block."""
        self._pending[entry.worker] = entry

    def remove(self, worker: bytes) -> None:
        """A worker retires: in the next block."""
        self._pending[worker] = None

    def get_entry(self, worker: bytes) -> WorkerEntry | None:
        """A worker as of the last block."""
        return self._entries.get(worker)

    def list_now(self) -> tuple[WorkerEntry, ...]:
        """All of them, as of the last block."""
        return self._listed

    def make_first(self) -> None:
        """Everything announced so far is in the first block."""
        self._apply()

    async def get_height(self) -> int:
        """See WorkerSource."""
        return self._height

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        """See WorkerSource."""
        assert model == MODEL_ID, "there is one model"
        return self._listed

    async def get_manifest(self, model: bytes) -> Manifest | None:
        """See WorkerSource."""
        return MANIFEST if model == MODEL_ID else None

    def _make_block(self) -> None:
        self._virtual.after(BLOCK_S, self._make_block)
        self._height += 1
        if self._pending:
            self._apply()
            for told in self._on_block:
                told(self._height)

    def _apply(self) -> None:
        for worker, entry in self._pending.items():
            if entry is None:
                self._entries.pop(worker, None)
            else:
                self._entries[worker] = entry
        self._pending.clear()
        self._listed = tuple(self._entries.values())
        self.version += 1
