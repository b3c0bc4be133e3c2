"""The rows that a stage has of the order before, when a continuation goes on. Pure; knows no request's state.

While a continuation brings the very bytes that the stage has received before, the stage has computed them, and its KV
memory holds them: it answers with the rows it sent then. From the first other byte on it computes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference.serving.events import Compute, Computed
from proto_specs.limits import WINDOW_POSITIONS


@dataclass(frozen=True, slots=True)
class KeptRows:
    """Wire bytes by window, of `input_bytes` and `output_bytes` a row, that cover the same first `positions`."""

    inputs: Sequence[bytes]
    outputs: Sequence[bytes]
    input_bytes: int
    output_bytes: int

    @property
    def positions(self) -> int:
        """Rows that were received and answered."""
        received = sum(map(len, self.inputs)) // self.input_bytes
        return min(received, sum(map(len, self.outputs)) // self.output_bytes)

    def split(self, work: Compute) -> tuple[Computed | None, Compute | None]:
        """The answer to the first rows of `work`, which were computed before, and the work that is left."""
        same = self.count_same(work.start, work.payload)
        known = Computed(work.start, same, self.read_output(work.start, same), b"", ()) if same else None
        rest = work.payload[same * self.input_bytes :]
        return known, Compute(work.start + same, work.count - same, rest) if rest else None

    def count_same(self, start: int, payload: bytes) -> int:
        """How many rows of `payload`, from position `start` on within a window, are those received before."""
        window, at = divmod(start, WINDOW_POSITIONS)
        rows = len(payload) // self.input_bytes
        if window >= min(len(self.inputs), len(self.outputs)):
            return 0
        known = self.inputs[window][at * self.input_bytes :]
        answered = len(self.outputs[window]) // self.output_bytes - at
        rows = min(rows, len(known) // self.input_bytes, answered)
        if rows < 1 or payload.startswith(known[: rows * self.input_bytes]):
            return max(rows, 0)
        size = self.input_bytes
        same = (payload[one * size : (one + 1) * size] == known[one * size : (one + 1) * size] for one in range(rows))
        return next((number for number, is_same in enumerate(same) if not is_same), rows)

    def read_output(self, start: int, count: int) -> bytes:
        """The wire bytes sent for [start, start + count), within a window."""
        window, at = divmod(start, WINDOW_POSITIONS)
        return self.outputs[window][at * self.output_bytes : (at + count) * self.output_bytes]
