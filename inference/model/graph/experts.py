"""Mixtures of experts: which experts a row takes, and their gated feed-forward, computed for the chosen ones alone.

Every expert is a branch of the graph that runs when a row of the call chose it, with the product of dense layers, so
that experts are exact in every form and the weights of those nobody chose are not touched (decision 0014). A row's
experts are added in their order: other rows of the call have no say in it, and where bits have to be equal (a profile
of two decode rows) not in a single bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from inference.model.graph.kit import GraphKit
from inference.model.graph.provider import Provider

_LEAST_SUM = 1e-20
"""What DeepSeek-V3 adds to the sum of a row's weights before it divides by it."""


@dataclass(frozen=True)
class Routing:
    """How rows choose among `experts`: the `chosen` best by score, within the best groups if there are groups.

    Scores are a softmax over all experts, or each expert's `by_sigmoid`; a bias counts for the choice alone, not for
    the weight. A group's score is the sum of its `group_best` best. Ties take the lower index.
    """

    experts: int
    chosen: int
    renormalised: bool
    scale: float = 1.0
    by_sigmoid: bool = False
    groups: int = 1
    groups_chosen: int = 1
    group_best: int = 1
    passed_over: float = 0.0
    """The score of experts in groups that were not chosen."""


def build_routing(kit: GraphKit, logits: str, routing: Routing, bias: str | None = None) -> tuple[str, str]:
    """Chosen experts [R, chosen] int64 and their weights, fp32, from the router's logits [R, experts]."""
    scores = kit.node("Sigmoid", [logits]) if routing.by_sigmoid else kit.node("Softmax", [logits], axis=-1)
    merit = scores if bias is None else kit.add(scores, bias)
    if routing.groups > 1 and routing.groups_chosen < routing.groups:
        merit = _keep_groups(kit, merit, routing)
    _, chosen = _pick(kit, merit, routing.chosen)
    weights = kit.node("GatherElements", [scores, chosen], axis=-1)
    if routing.renormalised:
        total = _add_up(kit, weights, routing.chosen)
        if routing.by_sigmoid:
            total = kit.add(total, kit.constant("least_sum", np.array(_LEAST_SUM, np.float32)))
        weights = kit.node("Div", [weights, total])
    return chosen, weights if routing.scale == 1 else kit.scale(weights, routing.scale)


def build_experts(kit: GraphKit, rows: str, chosen: str, weights: str, experts: int, base: str | None = None) -> str:
    """`base` [R, C], or zeros, plus the weighted outputs of each row's experts: parts gate, up and down of this layer.

    rows [R, C]; chosen, weights [R, k].
    """
    counts, places, shares = _sort_by_expert(kit, chosen, weights, experts)
    asked, mine, share = (
        [f"{kit.prefix}expert.{place}.{what}" for place in range(experts)] for what in ("asked", "rows", "share")
    )
    kit.node("Split", [kit.node("Cast", [counts], to=TensorProto.BOOL)], outputs=asked, axis=0, num_outputs=experts)
    kit.node("Split", [places, counts], outputs=mine, axis=0)
    kit.node("Split", [shares, counts], outputs=share, axis=0)
    total = base or _fill(kit, rows, np.array([0], np.float32))
    for place in range(experts):

        def build(place: int = place, total: str = total) -> str:
            """`total` with the expert's weighted output added to the rows that chose it."""
            taken = kit.node("GatherND", [rows, _repeat_first(kit, mine[place])])  # [n, C], or [n + 1, C]
            gate, up = (kit.linear_of_expert(taken, part, place) for part in ("gate", "up"))
            output = kit.linear_of_expert(kit.multiply(kit.silu(gate), up), "down", place)
            if kit.has_equal_bits:
                output = kit.cut(output, 0, -1)
            weighted = kit.multiply(output, share[place])
            return kit.node("ScatterND", [total, mine[place], weighted], reduction="add")

        total = kit.branch(asked[place], total, build)
    return total


def _repeat_first(kit: GraphKit, places: str) -> str:
    """Rows of an expert, the first twice where bits count: kernels compute a single row otherwise than several."""
    return kit.node("Concat", [places, kit.cut(places, 0, 1)], axis=0) if kit.has_equal_bits else places


def _sort_by_expert(kit: GraphKit, chosen: str, weights: str, experts: int) -> tuple[str, str, str]:
    """How many rows chose each expert, [experts]; of all choices, by expert, then by row, the row and weight [R k, 1].

    What is sorted is expert x (R k) + place, so that equal experts keep the order of their rows.
    """
    flat = kit.reshape(chosen, -1)  # [R k]
    size = kit.node("Shape", [flat])
    zero, one = (kit.constant(f"integer.{value}", np.array(value, np.int64)) for value in (0, 1))
    if kit.provider is Provider.CUDA:  # there a shape's arithmetic would run on the CPU
        ones = _fill(kit, flat, np.array([1], np.int64))
        places = kit.node("Sub", [kit.node("CumSum", [ones, zero]), one])
    else:
        places = kit.node("Range", [zero, kit.node("Squeeze", [size]), one])
    keys = kit.add(kit.multiply(flat, size), places)
    ordered, order = kit.name_outputs("sorted", 2)
    kit.node("TopK", [keys, size], outputs=(ordered, order), largest=0, axis=0)
    per_row = kit.node("Shape", [chosen], start=1)  # [1]: k
    columns = kit.constant("second_axis", np.array([1], np.int64))
    rows = kit.node("Unsqueeze", [kit.node("Div", [order, per_row]), columns])
    shares = kit.node("Unsqueeze", [kit.node("Gather", [kit.reshape(weights, -1), order]), columns])
    nobody = kit.constant(f"nobody.{experts}", np.zeros(experts, np.int64))
    ones = _fill(kit, flat, np.array([1], np.int64))
    return kit.node("ScatterElements", [nobody, flat, ones], axis=0, reduction="add"), rows, shares


def _keep_groups(kit: GraphKit, merit: str, routing: Routing) -> str:
    """Merit [R, experts] with that of experts outside the best groups replaced."""
    members = routing.experts // routing.groups
    grouped = kit.reshape(merit, -1, routing.groups, members)
    best, _ = _pick(kit, grouped, routing.group_best)
    group_scores = kit.reshape(_add_up(kit, best, routing.group_best), -1, routing.groups)
    _, kept = _pick(kit, group_scores, routing.groups_chosen)
    nowhere = _fill(kit, group_scores, np.array([0], np.float32))
    mask = kit.node("ScatterElements", [nowhere, kept, _fill(kit, kept, np.array([1], np.float32))], axis=-1)
    is_kept = kit.node("Cast", [kit.reshape(mask, -1, routing.groups, 1)], to=TensorProto.BOOL)
    other = kit.constant(f"number.{routing.passed_over!r}", np.array(routing.passed_over, np.float32))
    return kit.reshape(kit.node("Where", [is_kept, grouped, other]), -1, routing.experts)


def _add_up(kit: GraphKit, values: str, count: int) -> str:
    """Sums over the last axis, [..., 1]: by a product, in which a row has the same bits whatever the others are."""
    return kit.node("MatMul", [values, kit.constant(f"ones.{count}", np.ones((count, 1), np.float32))])


def _pick(kit: GraphKit, scores: str, count: int) -> tuple[str, str]:
    """The best `count` along the last axis and their places, best first."""
    best, places = kit.name_outputs("best", 2)
    kit.node("TopK", [scores, _constant(kit, f"count.{count}", count)], outputs=(best, places))
    return best, places


def _fill(kit: GraphKit, like: str, value: NDArray[Any]) -> str:
    shape = kit.node("Shape", [like])
    return kit.node("ConstantOfShape", [shape], value=numpy_helper.from_array(value))


def _constant(kit: GraphKit, name: str, value: int) -> str:
    return kit.constant(name, np.array([value], np.int64))
