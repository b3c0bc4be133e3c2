"""Random models and fleets for tests of plans, drawn under a seed, and every placement there is on a small one."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import numpy as np

from inference.planning.cost import CostTable
from inference.planning.fleet import CLIENT, Fleet, FleetLink, MachineKind
from inference.planning.shape import LayerShape, ModelShape
from inference.planning.solve import PlacedRange, Placement

MIB = 1 << 20
HEAD = LayerShape(20 * MIB, 20 * MIB, 20 * MIB, 0, 0, 0, 10 * MIB, 10 * MIB, 0, 0, 0)


def make_layer(mib: int = 100, experts: int = 0, window: int = 0) -> LayerShape:
    """A layer of so many MiB, half of them in experts if there are any, two taken."""
    size, of_experts = mib * MIB, mib * MIB // 2 if experts else 0
    return LayerShape(
        stored_bytes=size,
        held_bytes=size,
        dense_bytes=size - of_experts,
        expert_bytes=of_experts // experts if experts else 0,
        experts=experts,
        chosen=min(2, experts),
        parameters=size,
        active_parameters=size - of_experts + (of_experts * 2 // experts if experts else 0),
        attention_flops=4096,
        kv_bytes=1024,
        window=window,
    )


def make_model(layers: list[LayerShape], hidden: int = 1024) -> ModelShape:
    """A model of such layers, bf16 between stages."""
    return ModelShape("drawn", "llama", hidden, 32_000, 1 << 20, 2, False, 30 * MIB, 15 * MIB, tuple(layers), HEAD)


def draw_model(draws: random.Random, layers: int) -> ModelShape:
    """Layers of two sizes, some sparse."""
    return make_model([make_layer(draws.choice([80, 120]), draws.choice([0, 0, 8])) for _ in range(layers)])


def draw_fleet(draws: random.Random, kinds: int, layers: int, most: int = 1) -> Fleet:
    """So many kinds, up to `most` of each, in a few places; together they mostly hold a model of so many layers."""
    sites = ["", *(f"site-{one}" for one in range(max(1, kinds // 3)))]
    share = layers * 100 * MIB / kinds
    made = tuple(
        MachineKind(
            name=f"m{one}",
            count=draws.randint(1, most),
            memory_bytes=200 * MIB + share * draws.uniform(0.8, 3),
            bytes_per_s=draws.uniform(20, 1000) * 1e9,
            flops=draws.uniform(0.5, 80) * 1e12,
            layer_s=draws.choice([0.0, 1e-4]),
            site=draws.choice(sites),
            latency_s=draws.uniform(0.5, 60) * 1e-3,
            up_bytes_per_s=draws.uniform(10, 1000) * 1e6 / 8,
            down_bytes_per_s=draws.uniform(50, 1000) * 1e6 / 8,
        )
        for one in range(kinds)
    )
    links = {(site, site): FleetLink(draws.uniform(0.1, 2) * 1e-3, 125e6) for site in sites if site}
    client = MachineKind(CLIENT, 1, 0.0, latency_s=0.01, up_bytes_per_s=5e6, down_bytes_per_s=25e6)
    return Fleet(made, client, links, hop_s=3e-4)


def draw_table(seed: int, kinds: int, layers: int, most: int) -> CostTable:
    """A table of any numbers, some of them infinite: ends and links that differ by direction as no fleet's do."""
    draws = np.random.default_rng(seed)
    stage = draws.uniform(0, 1, (kinds, layers + 1, layers + 1))
    stage[draws.uniform(size=stage.shape) < 0.2] = np.inf
    stage[:, ~np.triu(np.ones((layers + 1, layers + 1), bool), 1)] = np.inf
    hop, sending, ends = (draws.uniform(0, size, (kinds, kinds)) for size in (1.0, 1.0, 3.0))
    counts = tuple(int(one) for one in draws.integers(1, most + 1, kinds))
    alone = draws.uniform(0, 3, kinds)
    return CostTable(counts, stage, hop, sending, ends, alone, int(draws.choice([0, 3])))


def list_placements(table: CostTable) -> Iterator[Placement]:
    """Every placement that fits: each order of kinds, none more often than there are, with each cut of the layers."""
    members = [kind for kind, count in enumerate(table.counts) for _ in range(count)]
    layers = table.layers
    for stages in range(1, min(len(members), layers) + 1):
        for order in set(itertools.permutations(members, stages)):
            for cuts in itertools.combinations(range(1, layers), stages - 1):
                bounds = [0, *cuts, layers]
                placement = tuple(map(PlacedRange, order, bounds, bounds[1:]))
                if all(table.stage[one.kind, one.start, one.end] < float("inf") for one in placement):
                    yield placement
