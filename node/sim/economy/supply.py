"""How many MYL there will be, by the runtime's own schedule, and what fees keep everybody without it."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.runtime.staking.emission import compute_emission
from consensus.runtime.staking.state import StakingParams
from node.sim.economy.compare import EconomyRun
from node.sim.economy.plan import EconomyPlan

YEAR_SECONDS = 365 * 24 * 3_600


@dataclass(frozen=True, slots=True)
class SupplyPoint:
    """A year's end: the issuance in nmyl with nothing burned, and with `burned` in all."""

    year: int
    minted: int
    burned: int
    issuance: int


def project_supply(
    params: StakingParams, genesis: int, burn_per_block: int, years: int, block_s: int = 1
) -> list[SupplyPoint]:
    """Year by year, epoch by epoch, if every epoch mints all that it may and every block burns `burn_per_block`.

    What nobody earns is not minted, so this is the most there can be.
    """
    epochs = YEAR_SECONDS // block_s // params.epoch_blocks
    burn = burn_per_block * params.epoch_blocks
    issuance, minted, burned = genesis, 0, 0
    points = [SupplyPoint(0, 0, 0, genesis)]
    for epoch in range(years * epochs):
        new = compute_emission(params, epoch, issuance)
        gone = min(burn, issuance + new)
        minted, burned, issuance = minted + new, burned + gone, issuance + new - gone
        if (epoch + 1) % epochs == 0:
            points.append(SupplyPoint((epoch + 1) // epochs, minted, burned, issuance))
    return points


@dataclass(frozen=True, slots=True)
class RoleBalance:
    """A role without emission: nmyl a block that all of its members together take in, and spend.

    `scale` is what the income grows with while the cost stays: the price for workers, who compute for each request,
    the traffic for validators, whose nodes run anyway.
    """

    role: str
    income: int
    cost: int
    scale: str

    @property
    def break_even_permille(self) -> int:
        """Thousandths of the run's price, or traffic, at which income covers the cost."""
        return -(-1_000 * self.cost // self.income) if self.income > 0 else 0


def measure_roles(plan: EconomyPlan, run: EconomyRun) -> list[RoleBalance]:
    """Workers and validators in a run without emission.

    What grows with traffic is on the income's side for validators (checks and verdicts are work that traffic brings),
    and their node is the cost; for workers computing is the cost.
    """
    workers = sum(amount for name, amount in run.profits.items() if name.startswith("worker"))
    computing = run.costs.get("worker computing", 0)
    validators = sum(amount for name, amount in run.profits.items() if name.startswith("validator"))
    nodes = run.costs.get("validator node", 0)
    blocks = max(1, run.blocks)
    assert not plan.has_emission, "a run on fees alone"
    return [
        RoleBalance("workers", (workers + computing) // blocks, computing // blocks, "price"),
        RoleBalance("validators", (validators + nodes) // blocks, nodes // blocks, "traffic"),
    ]
