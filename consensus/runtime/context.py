"""What a call can see and touch while it runs: the state, the block it is in, and the list of its events."""

from __future__ import annotations

from dataclasses import dataclass, field

from consensus.runtime.events import Event
from consensus.state.overlay import Overlay
from proto_specs.types.chain import Commit


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What the header says about the block in execution. `genesis` is the chain's genesis hash."""

    height: int
    time_ms: int
    proposer: bytes
    beacon: bytes
    genesis: bytes
    parent_hash: bytes
    last_commit: Commit | None


@dataclass(slots=True)
class Environment:
    """One block's execution, as modules see it."""

    state: Overlay
    block: BlockContext
    events: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        """Add to the events of the extrinsic (or phase) that runs now."""
        self.events.append(event)

    def take_events(self) -> tuple[Event, ...]:
        """The events since the last call of this."""
        taken = tuple(self.events)
        self.events.clear()
        return taken
