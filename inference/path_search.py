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


class PathStep(NamedTuple):
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


class _Weighed(NamedTuple):
    """The least weighed sum from each joint on (`left`), and behind each step (`after`); the path that has it.

    Savings between the last stage and the first are counted behind the last one, whichever the first is.
    """

    of_price: int
    of_time: int
    left: list[int]
    after: list[int]
    first: int
    then: list[int]


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

    def __init__(self, steps: Sequence[PathStep], layers: int, savings: Mapping[tuple[bytes, bytes], int]) -> None:
        self.layers = layers
        self._steps = steps
        self._savings = savings
        self._sources = {source for source, _ in savings}
        self._targets = {target for _, target in savings}
        self._leaving: list[list[int]] = [[] for _ in range(layers)]
        self._stages_left = [_FAR] * layers + [0]
        self._rest_left = [_FAR] * layers + [0]
        for at in sorted(range(len(steps)), key=lambda one: -steps[one].start):
            self._add(at)
        self._followers = self._list_followers()
        self._by_price = self._weigh(1, 0)
        self._by_time = self._weigh(0, 1)
        self._balanced = self._by_price

    def _add(self, at: int) -> None:
        start, end, _, _, rest_us, _ = self._steps[at]
        if self._stages_left[end] == _FAR:
            return
        self._leaving[start].append(at)
        self._stages_left[start] = min(self._stages_left[start], self._stages_left[end] + 1)
        self._rest_left[start] = min(self._rest_left[start], max(self._rest_left[end], rest_us))

    def _list_followers(self) -> dict[int, list[tuple[int, int]]]:
        """For each step those that save time behind it, and how much; -1 stands for the first behind the last."""
        numbers: defaultdict[bytes, list[int]] = defaultdict(list)
        for leaving in self._leaving:
            for at in leaving:
                numbers[self._steps[at].key].append(at)
        found: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for (source, target), saved in self._savings.items():
            for at in numbers[source] if saved < 0 and source in numbers else ():
                end = self._steps[at].end
                starts = [one for one in numbers.get(target, ()) if self._steps[one].start == end % self.layers]
                found[at] += [(-1 if end == self.layers else one, saved) for one in starts]
        return found

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
        known = self._follow(self._by_time)
        if len(known) > STAGES_MAX:
            known = self._find_shortest()
        return self._search(self.predict_us(known), None) or known

    def find_cheapest(self, budget_us: int | None, known: tuple[int, ...]) -> tuple[int, ...]:
        """The path of the least price, then time, stages and keys, that takes `budget_us` at most; `known` is one."""
        self._balanced = self._by_price
        if budget_us is not None:
            if self.compute_price(known) == self._by_price.left[0]:
                return known
            known = self._balance(budget_us, known)
        return self._search(budget_us, self.compute_price(known)) or known

    def _search(self, budget_us: int | None, budget: int | None) -> tuple[int, ...] | None:
        """The best path by (price, time, stages, keys) within a time and a price; None when it takes too many labels.

        Without a `budget` prices do not count.
        """
        heap = [_Label(0, 0, 0, (), 0, 0, 0, 0, ())]
        settled: defaultdict[tuple[int, bytes, bytes], _Settled] = defaultdict(list)
        for _ in range(LABELS_MAX):
            if not heap:
                return None
            label = heapq.heappop(heap)
            if label.joint == self.layers:
                return label.steps
            if not self._is_beaten(label, settled):
                self._extend(label, heap, budget_us, budget)
        return None

    def _extend(self, label: _Label, heap: list[_Label], budget_us: int | None, budget: int | None) -> None:
        _, _, _, keys, joint, price, own_us, rest_us, taken = label
        for at in self._leaving[joint]:
            _, end, step_price, step_us, step_rest_us, key = self._steps[at]
            stages_least = len(keys) + 1 + self._stages_left[end]
            if stages_least > STAGES_MAX:
                continue
            total_us, slowest_us = own_us + step_us, max(rest_us, step_rest_us)
            if self._savings and keys:
                total_us += self._savings.get((keys[-1], key), 0)
                if end == self.layers:
                    total_us += self._savings.get((key, keys[0]), 0)
            rest_least_us = max(slowest_us, self._rest_left[end])
            after_us = self._by_time.after[at] if end < self.layers else 0
            least_us = total_us + after_us + rest_least_us
            if budget_us is not None and least_us > budget_us:
                continue
            paid = price_least = 0
            if budget is not None:
                paid = price + step_price
                price_least = paid + self._by_price.left[end]
                of_price, of_time = self._balanced.of_price, self._balanced.of_time
                if budget_us is not None and of_time:
                    # What is left of the time bounds how much of the price may be saved by taking more of it.
                    spare_us = of_time * (budget_us - rest_least_us - total_us)
                    after = self._balanced.after[at] if end < self.layers else 0
                    price_least = max(price_least, paid - (spare_us - after) // of_price)
                if price_least > budget:
                    continue
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
        slow, fast = self._follow(self._by_price), known
        for _ in range(WEIGHTS_TRIED_MAX):
            slow_us, fast_us = self._sum_own(slow), self._sum_own(fast)
            saved = self.compute_price(fast) - self.compute_price(slow)
            if saved <= 0 or slow_us <= fast_us:
                break
            self._balanced = self._weigh(slow_us - fast_us, saved)
            path = self._follow(self._balanced)
            if path in (slow, fast):
                break
            if self.predict_us(path) <= budget_us and len(path) <= STAGES_MAX:
                fast = path
                if self.compute_price(path) < self.compute_price(known):
                    known = path
            else:
                slow = path
        return known

    def _weigh(self, of_price: int, of_time: int) -> _Weighed:
        """What a weighed sum of price and time is at least, from each joint and behind each step."""
        left, best = [_FAR] * self.layers + [0], [-1] * (self.layers + 1)
        after, then = [0] * len(self._steps), [-1] * len(self._steps)
        whole = [0] * len(self._steps)
        for joint in range(self.layers - 1, -1, -1):
            for at in self._leaving[joint]:
                _, end, price, own_us, _, _ = self._steps[at]
                least, follower = left[end], best[end]
                for one, saved in self._followers.get(at, ()) if self._followers else ():
                    total = of_time * saved + (whole[one] if one >= 0 else 0)
                    if total < least:
                        least, follower = total, one
                after[at], then[at] = least, follower
                whole[at] = of_price * price + of_time * own_us + least
                if whole[at] < left[joint]:
                    left[joint], best[joint] = whole[at], at
        return _Weighed(of_price, of_time, left, after, best[0], then)

    def _follow(self, weighed: _Weighed) -> tuple[int, ...]:
        path = [weighed.first]
        while self._steps[path[-1]].end < self.layers:
            path.append(weighed.then[path[-1]])
        return tuple(path)

    def _sum_own(self, path: Sequence[int]) -> int:
        return self.predict_us(path) - max(self._steps[at].rest_us for at in path)

    def _find_shortest(self) -> tuple[int, ...]:
        path: list[int] = []
        joint = 0
        while joint < self.layers:
            path.append(min(self._leaving[joint], key=lambda at: self._stages_left[self._steps[at].end]))
            joint = self._steps[path[-1]].end
        return tuple(path)
