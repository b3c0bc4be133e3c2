"""The bytes that crossed a boundary of a request, by window, and the leaves over them. Knows no network, no model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from proto_specs.errors import MyelinError
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.merkle import EMPTY_ROOT, MerkleFrontier
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import (
    FIRST_PREVIOUS,
    Leaf,
    SignedLeaf,
    compute_leaf_hash,
    compute_payload_hash,
)
from proto_specs.types.wire import FailureCode


class BoundaryError(MyelinError):
    """The other side broke the rules of a boundary: wrong position, size, or checksum. `code` says how to fail."""

    def __init__(self, message: str, code: FailureCode = FailureCode.BAD_INPUT) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class _Window:
    count: int = 0
    payload: bytearray = field(default_factory=bytearray)
    trace: bytearray = field(default_factory=bytearray)
    is_stored: bool = False
    """Its bytes are where `read` of the log finds them, no longer here."""
    leaf: Leaf | None = None
    leaf_hash: bytes = b""
    output_signature: bytes = b""
    input_signature: bytes = b""


class BoundaryLog:
    """Append-only log of a boundary: payloads by window of 32 positions, then one leaf per window in order.

    Behind what is logged, rows may be held: they are drafted, and logged once it is known that they stand.
    """

    def __init__(self, request: bytes, boundary: int, width: int, dtype: int) -> None:
        self._request = request
        self._boundary = boundary
        self._width = width
        self._dtype = dtype
        self._windows: list[_Window] = []
        self._frontier = MerkleFrontier()
        self._roots: list[bytes] = []
        self._read: Callable[[int], tuple[bytes, bytes]] | None = None
        self._held: list[bytes] = []
        self._sound = 0
        self.positions = 0
        self.leaves = 0
        """Windows with a leaf; the next leaf is for the window of this number."""
        self.signed = 0
        """Windows whose leaf both neighbours have signed; the next countersignature is for this window number."""

    @property
    def windows(self) -> int:
        """Windows begun so far."""
        return len(self._windows)

    @property
    def reached(self) -> int:
        """Positions logged, and those held behind them."""
        return self.positions + len(self._held)

    def append(self, start: int, count: int, payload: bytes, trace: bytes = b"") -> None:
        """Log `count` positions from `start`. Raises BoundaryError on a gap or when they straddle two windows."""
        if start != self.positions:
            raise BoundaryError(f"boundary {self._boundary}: expected position {self.positions}, got {start}")
        if not 1 <= count <= WINDOW_POSITIONS - start % WINDOW_POSITIONS:
            raise BoundaryError(f"boundary {self._boundary}: {count} positions from {start} straddle a window")
        if start % WINDOW_POSITIONS == 0:
            self._windows.append(_Window())
        window = self._windows[-1]
        if window.leaf is not None:
            raise BoundaryError(f"boundary {self._boundary}: rows came after the last leaf")
        window.count += count
        window.payload += payload
        window.trace += trace
        self.positions += count

    def hold(self, count: int, payload: bytes, unsound: int = 0) -> None:
        """Hold `count` drafted rows behind those logged, of their window. The last `unsound` of them must not stand.

        Raises BoundaryError when they do not fit in the window.
        """
        assert not self._held, "held rows are settled before more come"
        if not 1 <= count <= -self.positions % WINDOW_POSITIONS:
            raise BoundaryError(f"boundary {self._boundary}: {count} drafted positions leave the window they are in")
        size = len(payload) // count
        self._held = [payload[at * size : (at + 1) * size] for at in range(count)]
        self._sound = self.reached - unsound

    def confirm(self, position: int) -> None:
        """The held rows before `position` stand. Raises BoundaryError when nothing is logged or held up to there."""
        if not self.positions <= position <= self.reached:
            raise BoundaryError(f"boundary {self._boundary}: expected position {self.positions}, got {position}")
        if not self._held or position == self.positions:
            return
        if position > self._sound:
            raise BoundaryError(f"the row of position {self._sound} is beyond what can be sent for this model")
        rows = self._held[: position - self.positions]
        del self._held[: len(rows)]
        self.append(self.positions, len(rows), b"".join(rows))

    def settle(self, position: int) -> int:
        """As `confirm`, and the other held rows are forgotten; returns how many those are."""
        self.confirm(position)
        dropped = len(self._held)
        self._held = []
        return dropped

    def get_count(self, window: int) -> int:
        """Positions logged of a window, 0 to 32."""
        return self._windows[window].count if window < len(self._windows) else 0

    def get_payload(self, window: int) -> bytes:
        """The exact wire bytes of a window."""
        kept = self._windows[window]
        return self._fetch(window)[0] if kept.is_stored else bytes(kept.payload)

    def get_trace(self, window: int) -> bytes:
        """The sender's private trace of a window."""
        kept = self._windows[window]
        return self._fetch(window)[1] if kept.is_stored else bytes(kept.trace)

    def release(self, window: int, read: Callable[[int], tuple[bytes, bytes]]) -> None:
        """Give up a closed window's bytes and trace: from now on `read` has them."""
        kept = self._windows[window]
        assert kept.leaf is not None, "a window that is released takes no more rows"
        self._read = read
        kept.is_stored, kept.payload, kept.trace = True, bytearray(), bytearray()

    def _fetch(self, window: int) -> tuple[bytes, bytes]:
        assert self._read is not None, "a stored window has its reader"
        return self._read(window)

    def make_leaf(self, window: int) -> Leaf:
        """The leaf over the logged rows of `window`. All earlier windows have their leaf."""
        logged = self._windows[window]
        before = self._windows[window - 1].leaf if window else None
        assert window == 0 or before is not None, "leaves are made in order"
        return Leaf(
            request=self._request,
            boundary=self._boundary,
            window=window,
            start=window * WINDOW_POSITIONS,
            count=logged.count,
            width=self._width,
            dtype=self._dtype,
            payload_hash=compute_payload_hash(bytes(logged.payload)),
            trace_hash=compute_payload_hash(bytes(logged.trace)) if logged.trace else ZERO_HASH,
            previous=FIRST_PREVIOUS if before is None else self._windows[window - 1].leaf_hash,
        )

    def close_window(self, leaf: Leaf, output_signature: bytes) -> None:
        """Fix the leaf of the next window, with the sender's signature; from then on the window takes no more rows."""
        assert leaf.window == self.leaves, "leaves are closed in order"
        window = self._windows[leaf.window]
        window.leaf, window.leaf_hash, window.output_signature = leaf, compute_leaf_hash(leaf), output_signature
        self._roots.append(self._frontier.append(window.leaf_hash))
        self.leaves += 1

    def get_leaf(self, window: int) -> Leaf | None:
        """The leaf of a window, once it is closed."""
        return self._windows[window].leaf if window < len(self._windows) else None

    def add_signed(self, input_signature: bytes) -> None:
        """Keep the receiver's signature for the next leaf that lacks it."""
        assert self.signed < self.leaves, "a leaf is closed before it is countersigned"
        self._windows[self.signed].input_signature = input_signature
        self.signed += 1

    def get_signed_leaf(self, window: int) -> SignedLeaf:
        """The leaf of a window, when it has both signatures."""
        one = self._windows[window]
        assert window < self.signed, "asked for before it was countersigned"
        assert one.leaf is not None, "what is signed is a leaf"
        return SignedLeaf(one.leaf, one.output_signature, one.input_signature)

    def get_signed(self, windows: int | None = None) -> tuple[SignedLeaf, ...]:
        """The leaves of the first `windows` windows (None: all), when each of them has both signatures."""
        windows = len(self._windows) if windows is None else windows
        assert windows <= self.signed, "asked for before every leaf was countersigned"
        return tuple(map(self.get_signed_leaf, range(windows)))

    def compute_root(self, windows: int | None = None) -> bytes:
        """Merkle root over the leaf hashes of the first `windows` windows (None: all), which have their leaves."""
        windows = len(self._windows) if windows is None else windows
        assert windows <= self.leaves, "asked for before every window had its leaf"
        return self._roots[windows - 1] if windows else EMPTY_ROOT

    def cut(self, windows: int) -> None:
        """Forget everything after the first `windows` windows, and what is held."""
        self._held = []
        del self._windows[windows:]
        self.positions = sum(one.count for one in self._windows)
        self.leaves = min(self.leaves, windows)
        self.signed = min(self.signed, windows)
