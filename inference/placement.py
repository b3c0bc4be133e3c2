"""Which layers a machine should serve: the range that the network lacks most. Pure, and the same for the same input.

A range counts by what it does for whole paths, since paths join up exactly: one that ends where nobody goes on serves
nobody. In this order, smaller or larger as said:

1. `missing`: how many more workers like this one, and then how many bytes of weights, a complete path through the
   range still needs (least);
2. `flow`: the rows per second that all paths together bear with it (most): the network's bottleneck;
3. `relief`: how much it takes off the layers with the least throughput (most). It decides where no single range can
   raise the bottleneck, because several are equally narrow;
4. `earnings`: its share of the requests, at its price, beside those who ask no more; then the bond that emission
   counts;
5. bytes to fetch (fewest), then the lowest start and end.

Other workers' figures are their own word, so a rate counts up to a few times the median, and one whose bond or KV
memory bears less than a usual request, or that asks much more than this machine would, counts for less or not at all:
nobody keeps others off a range by claims.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.errors import ModelError
from inference.joints import UNBOUNDED, JointGraph
from proto_specs.limits import STAGES_MAX

PERMILLE = 1_000
RATE_US = 1_000_000_000
"""Microseconds of 1,000 seconds: flows and throughputs are rows per 1,000 seconds."""
LAYER_US_UNKNOWN = 5_000
"""What a layer takes for one row where nobody knows better."""
CLAIM_FACTOR_MAX = 4
"""A claimed rate counts up to so many times the median."""
PRICE_FACTOR_MAX = 3
"""A worker that asks more than so many times this machine's price is no competitor: clients would rather come here."""
_RELIEF_SCALE = 10**15
_SHARE_SCALE = 10**6

Table = NDArray[np.int64]


class NothingFits(ModelError):
    """No layer of the model fits the memory or the bond. The message says which and what to change."""


@dataclass(frozen=True, slots=True)
class RangeBytes:
    """Bytes of layer ranges: each layer's, and what the first and the last range hold besides.

    `shared` is part of both ends, once in a range of all layers: the embedding of a model that ties its head to it.
    """

    layers: tuple[int, ...]
    first: int = 0
    last: int = 0
    shared: int = 0

    def count(self, start: int, end: int) -> int:
        """Bytes of layers [start, end)."""
        total = len(self.layers)
        ends = self.first * (start == 0) + self.last * (end == total) - self.shared * (start == 0 and end == total)
        return sum(self.layers[start:end]) + ends

    def make_table(self) -> Table:
        """The same by [start, end], each from 0 to the number of layers; meaningless unless start < end."""
        total = len(self.layers)
        ends = np.concatenate(([0], np.cumsum(np.array(self.layers, np.int64))))
        table = ends[None, :] - ends[:, None]
        table[0, :] += self.first
        table[:, total] += self.last
        table[0, total] -= self.shared
        return np.asarray(table, np.int64)


@dataclass(frozen=True, slots=True)
class HeldRange:
    """Another worker's layers [start, end), as the chain and its own report say.

    `layer_us`: one row through one of its layers, 0: not known. `kv_positions`: its KV memory, 0: not known. `price` is
    nmyl per layer and token, `gross_max` the most nmyl a request that its bond bears.
    """

    worker: bytes
    start: int
    end: int
    layer_us: int
    kv_positions: int
    price: int
    gross_max: int


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that looks for a range. `memory_bytes` bounds its weights together with all of its KV memory.

    `layer_us` as in `HeldRange`. `bond` in nmyl, of which emission counts `bond_per_layer` for each layer. `missing`:
    bytes of the units that are not stored here.
    """

    memory_bytes: int
    kv_positions: int
    layer_us: int
    price: int
    gross_max: int
    bond: int
    bond_per_layer: int
    missing: RangeBytes


@dataclass(frozen=True, slots=True)
class ModelBytes:
    """A model's weights by layer, and its KV memory for one position by layer."""

    weights: RangeBytes
    kv: tuple[int, ...]

    @property
    def layers(self) -> int:
        """How many."""
        return len(self.weights.layers)


@dataclass(frozen=True, slots=True)
class UsualRequest:
    """What a worker should bear: `positions` of KV memory, and a bond for as many tokens at its price."""

    positions: int = 1_024


USUAL = UsualRequest()


@dataclass(frozen=True, slots=True)
class Worth:
    """What a range [start, end) is to the network. Flows are rows per 1,000 s.

    `workers_missing`: further workers, as large as this machine, that a complete path through it needs (0: it is part
    of one); `kib_missing`: the weights that these would hold. `detour`: stages beyond those a path may have.
    """

    start: int
    end: int
    workers_missing: int
    kib_missing: int
    detour: int
    flow: int
    relief: int
    earnings: int
    counted_bond: int
    bytes_memory: int
    bytes_missing: int

    @property
    def is_on_path(self) -> bool:
        """Whether there is a complete path through it."""
        return not (self.workers_missing or self.detour)


_COUNT_SHIFT, _KIB_SHIFT = 52, 10
_KIB_MAX = (1 << (_COUNT_SHIFT - _KIB_SHIFT)) - 1
_FAR = np.int64(1) << 61


class RangeNetwork:
    """The others' ranges, ready to judge every range that a machine could take."""

    def __init__(
        self, model: ModelBytes, machine: Machine, held: Sequence[HeldRange], usual: UsualRequest = USUAL
    ) -> None:
        self._model, self._machine = model, machine
        layers = model.layers
        competing = [
            one
            for one in sorted(held, key=lambda one: one.worker)
            if 0 <= one.start < one.end <= layers and one.price <= PRICE_FACTOR_MAX * machine.price
        ]
        rates = compute_layer_rates(competing, machine.layer_us)
        weighed = [(one, _weigh(one, rate, usual)) for one, rate in zip(competing, rates[:-1], strict=True)]
        self._held = [(one, rate) for one, rate in weighed if rate]
        self._rate = rates[-1]
        self._memory = model.weights.make_table() + machine.kv_positions * RangeBytes(model.kv).make_table()
        self._bears = machine.gross_max // max(1, machine.price * usual.positions)
        self._before, self._after = self._compute_ways()
        self.graph = JointGraph(layers, [(one.start, one.end, rate) for one, rate in self._held])
        self._throughput, self._cheaper = self._sum_throughputs()

    @property
    def flow(self) -> int:
        """What the network bears without this machine, in rows per 1,000 s."""
        return self.graph.flow

    @cached_property
    def missing(self) -> tuple[int, int, int]:
        """(workers, KiB, stages too many) that a complete path needs without this machine; zeros: there is one."""
        return _split(int(_cap_stages(self._before[-1])))

    def judge(self, start: int, end: int) -> Worth:
        """The worth of one range, whether or not it fits the machine."""
        gain = min(self._rate // (end - start), self.graph.compute_gain_from(start, UNBOUNDED))
        gain = min(gain, self.graph.compute_gain_to(end, UNBOUNDED)) if gain else 0
        return self._describe(start, end, self.flow + gain)

    def choose(self) -> Worth:
        """The best range of all that fit. Raises NothingFits."""
        starts, ends = np.nonzero(self._find_fitting())
        if not len(starts):
            raise NothingFits(self._explain_unfit())
        cost = _cap_stages(self._before[starts] + self._after[ends] + 1)
        best = cost == cost.min()
        starts, ends = starts[best], ends[best]
        starts, ends, flow = self._keep_best_flow(starts, ends)
        relief, earnings = self._shares
        fetched = self._machine.missing.make_table()[starts, ends]
        keys = (ends, starts, fetched, -self._count_bond(ends - starts), -earnings[starts, ends], -relief[starts, ends])
        at = np.lexsort(keys)[0]
        return self._describe(int(starts[at]), int(ends[at]), flow)

    def _find_fitting(self) -> NDArray[np.bool_]:
        """Which ranges [start, end] the memory and the bond bear."""
        joints = np.arange(self._model.layers + 1)
        lengths = joints[None, :] - joints[:, None]
        found: NDArray[np.bool_] = (lengths > 0) & (lengths <= self._bears)
        found &= self._memory <= self._machine.memory_bytes
        return found

    def _explain_unfit(self) -> str:
        if self._bears < 1:
            return "the bond bears not one layer of a usual request at this price: raise --bond or lower the prices"
        least = min(int(self._memory[at, at + 1]) for at in range(self._model.layers))
        return (
            f"not one layer fits: the smallest needs {least / 1e6:.0f} MB with its KV memory, --memory allows"
            f" {self._machine.memory_bytes / 1e6:.0f} MB: raise it, or lower --kv-positions"
        )

    def _compute_ways(self) -> tuple[Table, Table]:
        """The least cost of a way from the first layer to each joint, and from each joint to the last.

        A held range costs a stage; a stretch that this machine would fit, a worker and its bytes; a layer that it would
        not, two. Costs are (workers, KiB, stages) in one number.
        """
        layers = self._model.layers
        kib = np.minimum(-(-self._model.weights.make_table() // 1024), _KIB_MAX)
        virtual = (1 << _COUNT_SHIFT) + (kib << _KIB_SHIFT) + 1
        step = np.where(self._find_fitting(), virtual, _FAR)
        for at in range(layers):
            step[at, at + 1] = min(step[at, at + 1], virtual[at, at + 1] + (1 << _COUNT_SHIFT))
        for one, _ in self._held:
            step[one.start, one.end] = 1
        before, after = np.full(layers + 1, _FAR), np.full(layers + 1, _FAR)
        before[0] = after[layers] = 0
        for joint in range(1, layers + 1):
            before[joint] = (before[:joint] + step[:joint, joint]).min()
        for joint in range(layers - 1, -1, -1):
            after[joint] = (after[joint + 1 :] + step[joint, joint + 1 :]).min()
        return before, after

    def _keep_best_flow(self, starts: Table, ends: Table) -> tuple[Table, Table, int]:
        """The ranges with which most flows, and how much. Best hopes first: most joints are never asked for a flow."""
        rates = self._rate // (ends - starts)
        can_gain_from = np.array([self.graph.can_gain_from(one) for one in range(self._model.layers + 1)])
        can_gain_to = np.array([self.graph.can_gain_to(one) for one in range(self._model.layers + 1)])
        hopeful = np.nonzero(can_gain_from[starts] & can_gain_to[ends] & (rates > 0))[0]
        if not len(hopeful):
            return starts, ends, self.flow
        limit = int(rates[hopeful].max())
        gains_from: dict[int, int] = {}
        gains_to: dict[int, int] = {}
        best = 0
        kept: list[int] = []
        for at in hopeful[np.argsort(-rates[hopeful], kind="stable")].tolist():
            start, end, gain = int(starts[at]), int(ends[at]), int(rates[at])
            if gain < best:
                break
            if start not in gains_from:
                gains_from[start] = self.graph.compute_gain_from(start, limit)
            gain = min(gain, gains_from[start])
            if gain < best:
                continue
            if end not in gains_to:
                gains_to[end] = self.graph.compute_gain_to(end, limit)
            gain = min(gain, gains_to[end])
            if gain > best:
                best, kept = gain, []
            if gain == best:
                kept.append(at)
        return starts[kept], ends[kept], self.flow + best

    def _sum_throughputs(self) -> tuple[Table, Table]:
        """Rows per 1,000 s by layer: of all ranges on a path (of all, while there is no path); of those no dearer."""
        total, cheaper = [0] * (self._model.layers + 1), [0] * (self._model.layers + 1)  # what changes at each joint
        is_complete = self.missing == (0, 0, 0)
        before, after = self._before.tolist(), self._after.tolist()
        for one, rate in self._held:
            if is_complete and (before[one.start] + after[one.end]) >> _COUNT_SHIFT:
                continue
            for changes in (total, cheaper) if one.price <= self._machine.price else (total,):
                changes[one.start] += rate
                changes[one.end] -= rate
        return np.cumsum(np.array(total[:-1], np.int64)), np.cumsum(np.array(cheaper[:-1], np.int64))

    @cached_property
    def _shares(self) -> tuple[Table, Table]:
        """(relief, earnings) of all ranges [start, end]. Integers, so that equal ranges are exactly equal."""
        layers = self._model.layers
        relief, earnings = np.zeros((layers + 1, layers + 1), np.int64), np.zeros((layers + 1, layers + 1), np.int64)
        narrow = _RELIEF_SCALE // (self._throughput + 1)
        for length in range(1, layers + 1):
            rate = max(1, self._rate // length)
            eased = narrow - _RELIEF_SCALE // (self._throughput + rate + 1)
            share = _SHARE_SCALE * rate // (self._cheaper + rate)
            starts = np.arange(layers + 1 - length)
            for table, by_layer in ((relief, eased), (earnings, share)):
                sums = np.concatenate(([0], np.cumsum(by_layer)))
                table[starts, starts + length] = sums[length:] - sums[: layers + 1 - length]
        return relief, earnings * self._machine.price

    def _count_bond(self, lengths: Any) -> Any:
        return np.minimum(self._machine.bond, self._machine.bond_per_layer * lengths)

    def _describe(self, start: int, end: int, flow: int) -> Worth:
        cost = int(_cap_stages(self._before[start] + self._after[end] + 1))
        workers, kib, detour = _split(cost)
        relief, earnings = self._shares
        return Worth(
            start=start,
            end=end,
            workers_missing=workers,
            kib_missing=kib,
            detour=detour,
            flow=flow,
            relief=int(relief[start, end]),
            earnings=int(earnings[start, end]),
            counted_bond=int(self._count_bond(end - start)),
            bytes_memory=int(self._memory[start, end]),
            bytes_missing=self._machine.missing.count(start, end),
        )


def choose_range(model: ModelBytes, machine: Machine, held: Sequence[HeldRange], usual: UsualRequest = USUAL) -> Worth:
    """The range that the network lacks most, of those that fit the machine. Raises NothingFits."""
    return RangeNetwork(model, machine, held, usual).choose()


def compute_layer_rates(held: Sequence[HeldRange], layer_us: int) -> list[int]:
    """Rows per 1,000 s through one layer: of each of the others, and last of this machine. Unknown ones: the median.

    The median is over what all say of themselves; one alone is believed. Claims above `CLAIM_FACTOR_MAX` times it
    count as that much.
    """
    said = [one.layer_us for one in held]
    known = sorted(one for one in [*said, layer_us] if one > 0)
    median = known[len(known) // 2] if known else LAYER_US_UNKNOWN
    least = max(1, median // CLAIM_FACTOR_MAX)
    return [RATE_US // max(least, one if one > 0 else median) for one in [*said, layer_us]]


def _weigh(one: HeldRange, layer_rate: int, usual: UsualRequest) -> int:
    """Rows per 1,000 s through its range, less where it lacks KV memory or bond for a usual request."""
    length = one.end - one.start
    by_kv = PERMILLE if not one.kv_positions else min(PERMILLE, one.kv_positions * PERMILLE // usual.positions)
    gross = max(1, one.price * length * usual.positions)
    return layer_rate // length * min(by_kv, PERMILLE, one.gross_max * PERMILLE // gross) // PERMILLE


def _cap_stages(cost: Any) -> Any:
    """A cost in which stages count only beyond those that a path may have."""
    stages = cost & ((1 << _KIB_SHIFT) - 1)
    return cost - stages + np.maximum(0, stages - STAGES_MAX)


def _split(cost: int) -> tuple[int, int, int]:
    return cost >> _COUNT_SHIFT, (cost >> _KIB_SHIFT) & _KIB_MAX, cost & ((1 << _KIB_SHIFT) - 1)
