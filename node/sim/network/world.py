"""What a simulated network is made of: the figures of a scenario, and machines and places drawn from them.

This is the model, no product code: how fast machines compute, how much they hold, and how far they are from each other.
Its figures are those of homes: consumer GPUs behind some 50 Mbit/s up, in six regions of the earth, that serve a model
of 70B parameters in four bits. No machine holds all of it.
"""

from __future__ import annotations

import enum
import math
import random
from dataclasses import dataclass, replace

from inference.placement import ModelBytes, RangeBytes

LAYERS = 80
LAYER_BYTES = 500_000_000
END_BYTES = 600_000_000
"""Embedding, or head."""
KV_BYTES = 4_096
"""Of a layer and position: eight heads of 128, keys and values, two bytes each."""
ROW_BYTES = 16_384
"""A row of hidden states on its way to the next stage: 8,192 values of two bytes."""
MODEL = ModelBytes(RangeBytes((LAYER_BYTES,) * LAYERS, END_BYTES, END_BYTES), (KV_BYTES,) * LAYERS)

MEMORY_GB = ((6, 15), (8, 30), (12, 25), (16, 15), (24, 15))
"""Of a machine, and how many of a hundred have it."""
LAYER_US_MEDIAN, LAYER_US_SIGMA = 1_100.0, 0.45
"""What a layer takes for a row: reading 500 MB at 450 GB/s."""
PRICE_MEDIAN, PRICE_SIGMA, PRICE_MAX = 10.0, 0.35, 40
"""Nmyl per layer and token; what workers ask, and what clients allow."""
UP_MBIT_MEDIAN, UP_SIGMA, UP_MBIT_MIN = 50.0, 0.7, 8.0
DOWN_MBIT = 200.0
REGIONS = ((0.0, 0.0, 30), (14.0, 4.0, 15), (40.0, 4.0, 25), (66.0, 8.0, 12), (-70.0, 40.0, 12), (50.0, -55.0, 6))
"""Where in the plane of milliseconds, and how many of a hundred live there."""
SPREAD_MS = 3.0
ACCESS_MS_MEDIAN, ACCESS_SIGMA = 4.0, 0.5
JITTER = 0.1
PROMPT_MEDIAN, PROMPT_SIGMA, PROMPT_MAX = 200.0, 0.9, 1_500
ANSWER_MEDIAN, ANSWER_SIGMA, ANSWER_MAX = 150.0, 0.7, 512


class Scenario(enum.StrEnum):
    """What befalls the network."""

    CALM = "calm"
    """Nobody leaves."""
    CHURN = "churn"
    """A tenth leaves every hour, most of them without a word, and as many come."""
    CORRELATED = "correlated"
    """As CHURN; besides, every quarter of an hour a third of the workers of one region falls silent at one moment."""
    LIARS = "liars"
    """As CHURN; a tenth of the workers says that it is five times as fast as it is."""
    FLASH = "flash"
    """As CHURN; for a sixth of the time four times as many requests come."""


@dataclass(frozen=True, slots=True)
class WorldPlan:
    """A network and what befalls it. Rates are per hour, shares in thousandths; the defaults are those of CHURN.

    `requests_per_s` is of the whole network. Of those who leave, `drain_permille` stop as SIGTERM does, `hang_permille`
    answer pings and compute nothing, and of the rest half are killed (their peers see it at once) and half fall silent.
    """

    workers: int
    gateways: int
    minutes: int
    requests_per_s: float
    leave_permille: int = 100
    drain_permille: int = 200
    hang_permille: int = 50
    liar_permille: int = 0
    lie_factor: int = 5
    outage_every_s: float = 0.0
    outage_permille: int = 330
    outage_s: float = 600.0
    flash_factor: int = 1
    cheap_permille: int = 200
    look_s: float = 60.0


def make_plan(scenario: Scenario, workers: int, minutes: int) -> WorldPlan:
    """A scenario's defaults. One request a second for 333 workers, a gateway for 100."""
    plan = WorldPlan(
        workers=workers,
        gateways=max(2, workers // 100),
        minutes=minutes,
        requests_per_s=workers / 333,
        look_s=max(60.0, workers * 0.3),
    )
    match scenario:
        case Scenario.CALM:
            return replace(plan, leave_permille=0)
        case Scenario.CORRELATED:
            return replace(plan, outage_every_s=900.0)
        case Scenario.LIARS:
            return replace(plan, liar_permille=100)
        case Scenario.FLASH:
            return replace(plan, flash_factor=4)
    return plan


@dataclass(frozen=True, slots=True)
class Spot:
    """Where somebody lives: coordinates and the way to the next exchange, in milliseconds."""

    region: int
    x_ms: float
    y_ms: float
    access_ms: float

    def compute_way_s(self, other: Spot) -> float:
        """One way, without jitter, in seconds."""
        return (self.access_ms + other.access_ms + math.hypot(self.x_ms - other.x_ms, self.y_ms - other.y_ms)) / 1_000


@dataclass(frozen=True, slots=True)
class Rig:
    """A machine: `memory_bytes` for weights and KV, `layer_us` a row through a layer, `price` per layer and token."""

    spot: Spot
    memory_bytes: int
    layer_us: int
    price: int
    up_bytes_s: float
    kv_positions: int
    is_liar: bool


def draw_spot(rng: random.Random) -> Spot:
    """Somewhere on earth."""
    region = rng.choices(range(len(REGIONS)), [share for _, _, share in REGIONS])[0]
    x_ms, y_ms, _ = REGIONS[region]
    access_ms = min(40.0, rng.lognormvariate(math.log(ACCESS_MS_MEDIAN), ACCESS_SIGMA))
    return Spot(region, rng.gauss(x_ms, SPREAD_MS), rng.gauss(y_ms, SPREAD_MS), access_ms)


def draw_rig(rng: random.Random, liar_permille: int) -> Rig:
    """A machine as people have them."""
    gigabytes = rng.choices([size for size, _ in MEMORY_GB], [share for _, share in MEMORY_GB])[0]
    mbit = max(UP_MBIT_MIN, rng.lognormvariate(math.log(UP_MBIT_MEDIAN), UP_SIGMA))
    return Rig(
        spot=draw_spot(rng),
        memory_bytes=gigabytes * 10**9,
        layer_us=round(rng.lognormvariate(math.log(LAYER_US_MEDIAN), LAYER_US_SIGMA)),
        price=max(1, min(PRICE_MAX, round(rng.lognormvariate(math.log(PRICE_MEDIAN), PRICE_SIGMA)))),
        up_bytes_s=mbit * 125_000,
        kv_positions=4_096 if gigabytes < 12 else 8_192,
        is_liar=rng.randrange(1_000) < liar_permille,
    )


def draw_lengths(rng: random.Random) -> tuple[int, int]:
    """Tokens of a prompt and of its answer."""
    prompt = round(rng.lognormvariate(math.log(PROMPT_MEDIAN), PROMPT_SIGMA))
    answer = round(rng.lognormvariate(math.log(ANSWER_MEDIAN), ANSWER_SIGMA))
    return max(4, min(PROMPT_MAX, prompt)), max(2, min(ANSWER_MAX, answer))
