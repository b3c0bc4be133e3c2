"""The rows that a stage has of the order before, when a continuation goes on. Pure; knows no request's state.

While a continuation brings the very bytes that the stage has received before, the stage has computed them, and its KV
memory holds them: it answers with the rows it sent then. From the first other byte on it computes again.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.serving.boundary import BoundaryLog
from inference.serving.events import Compute, Computed
from proto_specs.limits import WINDOW_POSITIONS


@dataclass(frozen=True, slots=True)
class KeptRows:
    """Wire bytes by window, of `input_bytes` and `output_bytes` a row: what was received, and what was answered."""

    received: BoundaryLog
    sent: BoundaryLog
    input_bytes: int
    output_bytes: int

    def split(self, work: Compute) -> tuple[Computed | None, Compute | None]:
        """The answer to the first rows of `work`, which were computed before, and the work that is left."""
        same = self.count_same(work.start, work.payload)
        known = Computed(work.start, same, self.read_output(work.start, same), b"", ()) if same else None
        rest = work.payload[same * self.input_bytes :]
        return known, Compute(work.start + same, work.count - same, rest) if rest else None

    def count_same(self, start: int, payload: bytes) -> int:
        """How many rows of `payload`, from position `start` on within a window, are those received and answered."""
        window, at = divmod(start, WINDOW_POSITIONS)
        size = self.input_bytes
        known = min(self.received.get_count(window), self.sent.get_count(window)) - at
        rows = min(len(payload) // size, known)
        if rows < 1:
            return 0
        before = self.received.get_payload(window)[at * size : (at + rows) * size]
        if payload.startswith(before):
            return rows
        pairs = ((payload[one : one + size], before[one : one + size]) for one in range(0, rows * size, size))
        return next((number for number, (left, right) in enumerate(pairs) if left != right), rows)

    def read_output(self, start: int, count: int) -> bytes:
        """The wire bytes sent for [start, start + count), within a window."""
        window, at = divmod(start, WINDOW_POSITIONS)
        return self.sent.get_payload(window)[at * self.output_bytes : (at + count) * self.output_bytes]
