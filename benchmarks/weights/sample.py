"""The cost of an execution: its time, and its state accesses. Plain integers; knows no chain."""

from __future__ import annotations

from dataclasses import dataclass

PARTS = ("ns", "reads", "seeks", "rows", "writes")


@dataclass(frozen=True, slots=True)
class Sample:
    """`ns` of CPU time with the state in memory, and exact counts: keys read from below the block's own changes, ranges
    opened there, rows met in them, keys changed.
    """

    ns: int
    reads: int
    seeks: int
    rows: int
    writes: int

    def __add__(self, other: Sample) -> Sample:
        return Sample(*(a + b for a, b in zip(self.parts, other.parts, strict=True)))

    def __sub__(self, other: Sample) -> Sample:
        """The difference, at least zero in every part."""
        return Sample(*(max(a - b, 0) for a, b in zip(self.parts, other.parts, strict=True)))

    @property
    def parts(self) -> tuple[int, ...]:
        """The values in the order of `PARTS`."""
        return self.ns, self.reads, self.seeks, self.rows, self.writes

    def multiply(self, count: int) -> Sample:
        """The cost of `count` executions."""
        return Sample(*(part * count for part in self.parts))

    def divide(self, count: int) -> Sample:
        """An equal share, rounded up."""
        return Sample(*(-(-part // count) for part in self.parts))


@dataclass(frozen=True, slots=True)
class Measurement:
    """A scenario of a call, measured at a size.

    `component` names a number that can be read off the call ("" when the scenario has none); `size` is its value.
    """

    call: str
    scenario: str
    component: str
    size: int
    sample: Sample


NOTHING = Sample(0, 0, 0, 0, 0)
