"""How much flows from a model's first layer to its last over ranges that join up. Pure; knows no workers, only edges.

A range [start, end) is an edge from joint `start` to joint `end`. What a path bears is its least edge; what a network
bears is the greatest flow from joint 0 to joint `layers`, by any number of paths at once.

What one more edge s -> e of capacity c makes of the flow F is min(F + c, A[s], B[e]), exactly: a cut that the edge does
not cross has s on the far side, or e on the near one. A[s] is the flow into {s, layers} from 0, B[e] the flow from
{0, e} into `layers`. So all edges that could be added are judged by two flows for each joint.
"""

from __future__ import annotations

from collections.abc import Iterable

UNBOUNDED = 1 << 60


class JointGraph:
    """Edges between joints 0 to `layers`, with the greatest flow over them. Capacities are integers of any one unit."""

    def __init__(self, layers: int, edges: Iterable[tuple[int, int, int]]) -> None:
        """`edges` are (start, end, capacity); those between the same joints add up."""
        self._layers = layers
        merged: dict[tuple[int, int], int] = {}
        for start, end, capacity in edges:
            merged[start, end] = merged.get((start, end), 0) + capacity
        # Arc 2k is an edge, arc 2k + 1 its way back; `_left` is what an arc still bears.
        self._heads: list[int] = []
        self._left: list[int] = []
        self._arcs: list[list[int]] = [[] for _ in range(layers + 1)]
        for (start, end), capacity in sorted(merged.items()):
            self._arcs[start].append(len(self._heads))
            self._arcs[end].append(len(self._heads) + 1)
            self._heads += (end, start)
            self._left += (capacity, 0)
        self._back: list[list[int]] = [[arc ^ 1 for arc in arcs] for arcs in self._arcs]
        self.flow = self._push(0, layers, UNBOUNDED, self._left)
        self._from_first = self._mark(0, self._arcs, is_forward=True)
        self._to_last = self._mark(layers, self._back, is_forward=False)

    def can_gain_from(self, joint: int) -> bool:
        """Whether more could flow from the first layer to this joint."""
        return self._from_first[joint]

    def can_gain_to(self, joint: int) -> bool:
        """Whether more could flow from this joint to the last layer."""
        return self._to_last[joint]

    def compute_gain_from(self, joint: int, limit: int) -> int:
        """How much more could flow from the first layer to this joint, beside the flow there is; at most `limit`."""
        return limit if joint == 0 else self._push(0, joint, limit, list(self._left))

    def compute_gain_to(self, joint: int, limit: int) -> int:
        """How much more could flow from this joint to the last layer, beside the flow there is; at most `limit`."""
        return limit if joint == self._layers else self._push(joint, self._layers, limit, list(self._left))

    def _mark(self, root: int, arcs: list[list[int]], *, is_forward: bool) -> list[bool]:
        """The joints that arcs with something left lead to from `root`, or from which they lead to it."""
        marked = [False] * (self._layers + 1)
        marked[root] = True
        waiting = [root]
        while waiting:
            for arc in arcs[waiting.pop()]:
                joint = self._heads[arc if is_forward else arc ^ 1]
                if not marked[joint] and self._left[arc]:
                    marked[joint] = True
                    waiting.append(joint)
        return marked

    def _push(self, source: int, sink: int, limit: int, left: list[int]) -> int:
        """Push up to `limit` from source to sink and note it in `left` (Dinic): by shortest ways, level by level."""
        pushed = 0
        while pushed < limit:
            levels = self._find_levels(source, sink, left)
            if levels[sink] < 0:
                break
            nexts = [0] * (self._layers + 1)
            while pushed < limit:
                path = self._find_way(source, sink, left, levels, nexts)
                if not path:
                    break
                amount = min(limit - pushed, min(left[arc] for arc in path))
                for arc in path:
                    left[arc] -= amount
                    left[arc ^ 1] += amount
                pushed += amount
        return pushed

    def _find_levels(self, source: int, sink: int, left: list[int]) -> list[int]:
        levels = [-1] * (self._layers + 1)
        levels[source] = 0
        waiting = [source]
        for joint in waiting:  # grows while it is read
            deeper = levels[joint] + 1
            for arc in self._arcs[joint]:
                head = self._heads[arc]
                if levels[head] < 0 and left[arc]:
                    levels[head] = deeper
                    if head == sink:
                        return levels
                    waiting.append(head)
        return levels

    def _find_way(self, source: int, sink: int, left: list[int], levels: list[int], nexts: list[int]) -> list[int]:
        """A way of arcs, each a level deeper; empty when there is none left. `nexts`: arcs tried so far, by joint."""
        path: list[int] = []
        joint = source
        while joint != sink:
            arcs, at = self._arcs[joint], nexts[joint]
            while at < len(arcs):
                arc = arcs[at]
                head = self._heads[arc]
                if left[arc] and levels[head] == levels[joint] + 1:
                    break
                at += 1
            nexts[joint] = at
            if at < len(arcs):
                path.append(arc)
                joint = head
            elif path:
                joint = self._heads[path.pop() ^ 1]
                nexts[joint] += 1
            else:
                break
        return path
