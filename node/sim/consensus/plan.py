"""The plan that a seed makes for a simulation: how bad the network is, which nodes crash, which nodes lie."""

from __future__ import annotations

import random
from dataclasses import dataclass

from consensus.bft.timeouts import Timeouts
from node.sim.consensus.byzantine import Behaviour

HEIGHTS_DEFAULT = 20
VALIDATORS_DEFAULT = 4
BLOCK_INTERVAL_MS = 300
TIMEOUTS = Timeouts(600, 200, 300, 200, 300, 200)
JUMP_MS_MAX = 20_000
LIVENESS_MS = 60_000
"""The time after healing within which every honest node must have the wanted height."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A simulation. Probabilities are of a message; times are in ms."""

    seed: int
    validators: int
    heights: int
    fault_ms: int
    loss: float
    duplication: float
    flapping: float
    """Share of the quarter-second slots in which one direction between two nodes is dead."""
    delay_ms_max: int
    straggler: float
    straggler_ms_max: int
    job_ms_max: int
    crashes: int
    partitions: int
    skew_ms_max: int
    clock_jumps: int
    """The number of times that a node's clock jumps, by up to `JUMP_MS_MAX` either way. Healing corrects all clocks."""
    byzantine: tuple[Behaviour, ...]
    has_joiner: bool
    """A further node bonds and stands for election while the faults go on."""
    has_leaver: bool
    """The last of the first validators retires once the joiner is there to replace it."""


def make_plan(seed: int, validators: int = VALIDATORS_DEFAULT, heights: int = HEIGHTS_DEFAULT) -> Plan:
    """The plan of a seed. At most f = (validators - 1) // 3 validators are byzantine."""
    dice = random.Random(f"plan {seed}")
    faulty = (validators - 1) // 3
    liars = dice.randint(0, faulty) if dice.random() < 0.6 else 0
    is_rough = dice.random() < 0.7
    has_joiner = dice.random() < 0.3
    return Plan(
        seed=seed,
        validators=validators,
        heights=heights,
        fault_ms=dice.randint(heights * BLOCK_INTERVAL_MS // 2, heights * BLOCK_INTERVAL_MS * 2),
        loss=dice.choice((0.0, 0.05, 0.2, 0.4)) if is_rough else 0.0,
        flapping=dice.choice((0.0, 0.3, 0.5, 0.7)) if dice.random() < 0.5 else 0.0,
        duplication=dice.choice((0.0, 0.1)),
        delay_ms_max=dice.choice((20, 60, 150)),
        straggler=dice.choice((0.0, 0.05)) if is_rough else 0.0,
        straggler_ms_max=3_000,
        job_ms_max=dice.choice((5, 40)),
        crashes=dice.choice((0, 2, 5)),
        partitions=dice.choice((0, 1, 2)),
        skew_ms_max=dice.choice((0, 200, 2_000)),
        clock_jumps=random.Random(f"clocks {seed}").choice((0, 0, 1, 3)),
        byzantine=tuple(dice.choice(tuple(Behaviour)) for _ in range(liars)),
        has_joiner=has_joiner,
        has_leaver=has_joiner and not liars and dice.random() < 0.5,
    )
