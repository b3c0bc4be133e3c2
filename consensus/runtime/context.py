"""What a call can see and touch while it runs: the state, the block it is in, and the list of its events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from consensus.runtime.errors import CallError
from consensus.runtime.events import Event
from consensus.state.overlay import Overlay
from proto_specs.types.chain import Commit

_INNER_NUMBER_MIN = 1 << 63
_INNER_CALLS_BITS = 24


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
    events_reserved: int = 0
    """How many events of this extrinsic are reserved for calls that contain the running call."""
    inner_calls: int = 0
    """Calls run inside other calls so far in this block."""
    inner_number: int | None = None
    """Number of the inner call that runs now, unique on the chain; None outside of inner calls. It is at least 2^63, so
    it never equals a transaction's nonce."""

    def emit(self, event: Event) -> None:
        """Add to the events of the extrinsic (or phase) that runs now."""
        self.events.append(event)

    @contextmanager
    def enter_inner(self) -> Iterator[None]:
        """Number the inner call that runs in this context."""
        outer = self.inner_number
        self.inner_calls += 1
        self.inner_number = _INNER_NUMBER_MIN + (self.block.height << _INNER_CALLS_BITS) + self.inner_calls
        try:
            yield
        finally:
            self.inner_number = outer

    def take_events(self) -> tuple[Event, ...]:
        """Returns the events since the previous call and forgets them."""
        taken = tuple(self.events)
        self.events.clear()
        return taken


@dataclass(frozen=True, slots=True)
class Inner:
    """How a call runs the calls it holds. `dispatch` runs in the caller's layer and raises CallError; `attempt` runs in
    a new layer, undoes only the inner call when it fails, and returns the error."""

    dispatch: Callable[[Environment, bytes, Any], None]
    attempt: Callable[[Environment, bytes, Any], CallError | None]
