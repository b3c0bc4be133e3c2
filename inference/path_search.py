"""The search behind `routing.py`: paths over joints between layers by price and time, exact over integers. Pure.

A label is a path from layer 0 to a joint. Labels are taken up in the order of what a path through them costs at least,
so the first that is complete is the best one.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from proto_specs.limits import STAGES_MAX

LABELS_MAX = 3_000
"""Labels that a search takes up: beyond, the best path known so far is taken. Real networks take fewer than 200."""
WEIGHTS_TRIED_MAX = 8
_FAR = 1 << 62


class Step(NamedTuple):
    """A stage that a path may have: layers [start, end) for `price`.

    A path takes the sum of `own_us` and the greatest `rest_us` of its stages, in microseconds.
    """

    start: int
    end: int
    price: int
    own_us: int
    rest_us: int
    key: bytes


class _Label(NamedTuple):
    """The first four are what it costs at least, and order labels; the rest is what it has by now."""

    price_least: int
    least_us: int
    stages_least: int
    keys: tuple[bytes, ...]
    joint: int
    price: int
    own_us: int
    rest_us: int
    steps: tuple[int, ...]


_Settled = list[tuple[int, int, int, int, int, tuple[bytes, ...]]]


def count_stages(ranges: Sequence[tuple[int, int]], layers: int) -> int:
    """The fewest ranges [start, end) that join up from 0 to `layers`; more than STAGES_MAX when there are none."""
    left = [_FAR] * layers + [0]
    for start, end in sorted(ranges, reverse=True):
        left[start] = min(left[start], left[end] + 1)
    return left[0]


class PathSearch:
    """Steps that lead from layer 0 to `layers`. `savings` are corrections in microseconds between two keys in a row.

    The last stage is followed by the first, unless it is the only one.
    """

    def __init__(self, steps: Sequence[Step], layers: int, savings: Mapping[tuple[bytes, bytes], int]) -> None:
        self.layers = layers
        self._steps = steps
        self._savings = savings
        self._sources: dict[bytes, int] = {}
        for (source, _), saved in savings.items():
            self._sources[source] = min(saved, self._sources.get(source, 0))
        self._targets = {target for _, target in savings}
        self._leaving: list[list[int]] = [[] for _ in range(layers)]
        self._stages_left = [_FAR] * layers + [0]
        self._price_left = [_FAR] * layers + [0]
        self._own_left = [_FAR] * layers + [0]
        self._rest_left = [_FAR] * layers + [0]
        self._weighed_left = [0] * (layers + 1)
        self._weights = (1, 0)
        for at in sorted(range(len(steps)), key=lambda one: -steps[one].start):
            self._add(at)

    def _add(self, at: int) -> None:
        start, end, price, _, rest_us, _ = self._steps[at]
        if self._stages_left[end] == _FAR:
            return
        self._leaving[start].append(at)
        self._stages_left[start] = min(self._stages_left[start], self._stages_left[end] + 1)
        self._price_left[start] = min(self._price_left[start], self._price_left[end] + price)
        self._own_left[start] = min(self._own_left[start], self._own_left[end] + self._get_least(at))
        self._rest_left[start] = min(self._rest_left[start], max(self._rest_left[end], rest_us))

    def _get_least(self, at: int) -> int:
        """The least that a step adds, whoever follows it."""
        step = self._steps[at]
        return step.own_us + self._sources.get(step.key, 0)

    def predict_us(self, path: Sequence[int]) -> int:
        """What a path takes."""
        taken = [self._steps[at] for at in path]
        follower = [*taken[1:], taken[0]] if len(taken) > 1 else []
        saved = sum(self._savings.get((one.key, then.key), 0) for one, then in zip(taken, follower, strict=False))
        return sum(one.own_us for one in taken) + max(one.rest_us for one in taken) + saved

    def compute_price(self, path: Sequence[int]) -> int:
        """What a path costs."""
        return sum(self._steps[at].price for at in path)

    def find_fastest(self) -> tuple[int, ...]:
        """The path (as numbers of steps) of the least time, then the fewest stages, then the lowest keys."""
        found = self._search(None, by_price=False) or self._follow(self._weigh(0, 1))
        return found if len(found) <= STAGES_MAX else self._find_shortest()

    def find_cheapest(self, budget_us: int | None, known: tuple[int, ...]) -> tuple[int, ...]:
        """The path of the least price, then time, stages and keys, that takes `budget_us` at most; `known` is one."""
        self._weights = (1, 0)
        if budget_us is not None:
            if self.compute_price(known) == self._price_left[0]:
                return known
            known = self._balance(budget_us, known)
        return self._search(budget_us, by_price=True) or known

    def _search(self, budget_us: int | None, *, by_price: bool) -> tuple[int, ...] | None:
        """The best path by (price, time, stages, keys), or without the price; None when it takes too long."""
        heap = [_Label(0, 0, 0, (), 0, 0, 0, 0, ())]
        settled: defaultdict[tuple[int, bytes, bytes], _Settled] = defaultdict(list)
        for _ in range(LABELS_MAX):
            if not heap:
                return None
            label = heapq.heappop(heap)
            if label.joint == self.layers:
                return label.steps
            if not self._is_beaten(label, settled):
                self._extend(label, heap, budget_us, by_price)
        return None

    def _extend(self, label: _Label, heap: list[_Label], budget_us: int | None, by_price: bool) -> None:
        _, _, _, keys, joint, price, own_us, rest_us, taken = label
        for at in self._leaving[joint]:
            _, end, step_price, step_us, step_rest_us, key = self._steps[at]
            stages_least = len(keys) + 1 + self._stages_left[end]
            if stages_least > STAGES_MAX:
                continue
            total_us, slowest_us = own_us + step_us, max(rest_us, step_rest_us)
            pending_us = 0
            if self._savings and keys:
                total_us += self._savings.get((keys[-1], key), 0)
                if end == self.layers:
                    total_us += self._savings.get((key, keys[0]), 0)
            if self._savings and end < self.layers:
                pending_us = self._sources.get(key, 0)
            rest_least_us = max(slowest_us, self._rest_left[end])
            least_us = total_us + pending_us + self._own_left[end] + rest_least_us
            if budget_us is not None and least_us > budget_us:
                continue
            paid = price + step_price if by_price else 0
            price_least = paid + self._price_left[end] if by_price else 0
            if by_price and budget_us is not None and self._weights[1]:
                # What is left of the budget bounds how much of the price may be saved by taking more time.
                of_price, of_time = self._weights
                spare_us = budget_us - rest_least_us - total_us - pending_us
                price_least = max(price_least, paid - (of_time * spare_us - self._weighed_left[end]) // of_price)
            made = (*keys, key)
            heapq.heappush(
                heap,
                _Label(price_least, least_us, stages_least, made, end, paid, total_us, slowest_us, (*taken, at)),
            )

    def _is_beaten(self, label: _Label, settled: defaultdict[tuple[int, bytes, bytes], _Settled]) -> bool:
        """Whether a label that was taken up before is as good whatever follows; otherwise it is noted."""
        _, _, _, keys, joint, price, own_us, rest_us, _ = label
        last = keys[-1] if keys and keys[-1] in self._sources else b""
        first = keys[0] if keys and keys[0] in self._targets else b""
        stages = len(keys)
        surplus = max(0, stages + self.layers - joint - STAGES_MAX)  # stages that may be too many at the end
        known = settled[joint, last, first]
        for other in known:
            if (
                other[0] <= price
                and other[1] <= own_us
                and other[2] <= rest_us
                and other[3] <= surplus
                and (other[0] < price or other[1] < own_us or (other[4], other[5]) <= (stages, keys))
            ):
                return True
        known.append((price, own_us, rest_us, surplus, stages, keys))
        return False

    def _balance(self, budget_us: int, known: tuple[int, ...]) -> tuple[int, ...]:
        """Find the weights of price and time that bound the search best; the cheapest path within the budget met."""
        slow = self._follow(self._weigh(1, 0))
        fast = known
        for _ in range(WEIGHTS_TRIED_MAX):
            slow_us, fast_us = self._sum_own(slow), self._sum_own(fast)
            saved = self.compute_price(fast) - self.compute_price(slow)
            if saved <= 0 or slow_us <= fast_us:
                break
            path = self._follow(self._weigh(slow_us - fast_us, saved))
            if path in (slow, fast):
                break
            if self.predict_us(path) <= budget_us and len(path) <= STAGES_MAX:
                fast = path
                if self.compute_price(path) < self.compute_price(known):
                    known = path
            else:
                slow = path
        return known

    def _weigh(self, of_price: int, of_time: int) -> list[int]:
        """For each joint the step that is best by a weighted sum; notes the sums."""
        left = [_FAR] * self.layers + [0]
        best = [-1] * self.layers
        for joint in range(self.layers - 1, -1, -1):
            for at in self._leaving[joint]:
                step = self._steps[at]
                total = of_price * step.price + of_time * self._get_least(at) + left[step.end]
                if total < left[joint]:
                    left[joint], best[joint] = total, at
        self._weighed_left, self._weights = left, (of_price, of_time)
        return best

    def _follow(self, best: list[int]) -> tuple[int, ...]:
        path: list[int] = []
        joint = 0
        while joint < self.layers:
            path.append(best[joint])
            joint = self._steps[best[joint]].end
        return tuple(path)

    def _sum_own(self, path: Sequence[int]) -> int:
        return sum(self._get_least(at) for at in path)

    def _find_shortest(self) -> tuple[int, ...]:
        best = [
            min(leaving, key=lambda at: self._stages_left[self._steps[at].end], default=-1) for leaving in self._leaving
        ]
        return self._follow(best)
