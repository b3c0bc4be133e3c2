"""Two runs of one seed, one with the deviation and one without: what the tempted one gains or loses by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from consensus.runtime.balances.events import FeesBurned
from consensus.runtime.balances.state import read_issuance
from consensus.runtime.inference.committee_events import VerifierMissed, WorkerCharged
from consensus.runtime.inference.events import (
    ChallengeResolved,
    FeeBurned,
    VerifierSilent,
    WorkerEjected,
    WorkerJailed,
    WorkerSlashed,
)
from consensus.runtime.inference.promise_events import ClientConvicted
from consensus.runtime.staking.events import ValidatorDeclined
from node.sim.economy.market import Market
from node.sim.economy.plan import EconomyPlan
from node.sim.economy.scenarios import DEVIATIONS, EconomyScenario
from proto_specs.types.calls import Outcome

COUNTED = (
    ValidatorDeclined,
    WorkerSlashed,
    WorkerCharged,
    WorkerJailed,
    WorkerEjected,
    VerifierSilent,
    VerifierMissed,
    ClientConvicted,
)


@dataclass(frozen=True, slots=True)
class EconomyRun:
    """What became of everybody in a run. Money is nmyl over the whole run; `counts` are events.

    `costs` are expenses outside of the chain by role and kind; `failures` are calls that the runtime refused.
    """

    profits: dict[str, int]
    costs: dict[str, int]
    fees: dict[str, int]
    counts: dict[str, int]
    failures: dict[str, int]
    burned_fees: int
    burned_shares: int
    minted: int
    served: int
    blocks: int
    weight: int

    def sum_profits(self, names: Iterable[str]) -> int:
        """What these accounts gained together."""
        return sum(self.profits[one] for one in names)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A deviation against honesty with the same capital, over the same requests."""

    scenario: EconomyScenario
    strength: int
    seed: int
    epochs: int
    honest: EconomyRun
    deviating: EconomyRun

    @property
    def honest_profit(self) -> int:
        """Of a tempted one if it is honest, in nmyl over the run."""
        return self._share(self.honest)

    @property
    def deviating_profit(self) -> int:
        """Of a tempted one if it is not."""
        return self._share(self.deviating)

    @property
    def margin(self) -> int:
        """What the deviation loses, in nmyl over the run; negative when it pays."""
        return self.honest_profit - self.deviating_profit

    @property
    def harm(self) -> int:
        """What all others lose by it, in nmyl over the run."""
        others = self.honest.profits.keys() - set(DEVIATIONS[self.scenario].purse)
        return self.honest.sum_profits(others) - self.deviating.sum_profits(others)

    def _share(self, run: EconomyRun) -> int:
        deviation = DEVIATIONS[self.scenario]
        return run.sum_profits(deviation.purse) // deviation.persons


def run_market(plan: EconomyPlan, seed: int, deviate: Callable[[Market], None] | None = None) -> EconomyRun:
    """One run: with a deviation from the moment that measuring begins, or without."""
    market = Market(plan, seed)
    market.warm_up()
    counts: Counter[str] = Counter()
    burned = {FeesBurned: 0, FeeBurned: 0}

    def count(event: Any) -> None:
        if isinstance(event, COUNTED):
            counts[type(event).__name__] += 1
        elif isinstance(event, ChallengeResolved):
            counts[Outcome(event.outcome).name] += 1
        elif isinstance(event, FeesBurned | FeeBurned):
            burned[type(event)] += event.amount

    market.listeners.append(count)
    ledger = market.ledger
    served, blocks, weight, issuance = market.requests, ledger.height, ledger.weight, read_issuance(ledger.state)
    fees = dict(ledger.fees)
    if deviate is not None:
        deviate(market)
    market.run()
    costs: Counter[str] = Counter()
    for name, party in market.parties.items():
        for what, amount in party.parts.items():
            costs[f"{name.partition('-')[0]} {what}"] += amount
    names = {one.account.account: name for name, one in market.parties.items()}
    return EconomyRun(
        profits={name: one.read_profit(ledger.state, market.began[name]) for name, one in market.parties.items()},
        costs=dict(sorted(costs.items())),
        fees={names[who]: amount - fees.get(who, 0) for who, amount in ledger.fees.items()},
        counts=dict(sorted(counts.items())),
        failures=dict(sorted(ledger.failures.items())),
        burned_fees=burned[FeesBurned],
        burned_shares=burned[FeeBurned],
        minted=read_issuance(ledger.state) - issuance + sum(burned.values()),
        served=market.requests - served,
        blocks=ledger.height - blocks,
        weight=ledger.weight - weight,
    )


class Baselines:
    """Honest runs, each made once."""

    def __init__(self) -> None:
        self._runs: dict[tuple[EconomyPlan, int, Callable[[Market], None] | None], EconomyRun] = {}

    def get(self, plan: EconomyPlan, seed: int, comply: Callable[[Market], None] | None) -> EconomyRun:
        """The honest run of a plan and seed."""
        found = self._runs.get((plan, seed, comply))
        if found is None:
            found = self._runs[plan, seed, comply] = run_market(plan, seed, comply)
        return found


def compare(
    scenario: EconomyScenario,
    plan: EconomyPlan,
    seed: int,
    strength: int | None = None,
    baselines: Baselines | None = None,
) -> Comparison:
    """The deviation, of its usual strength unless another is given, against the honest run."""
    deviation = DEVIATIONS[scenario]
    used = deviation.strengths[0] if strength is None else strength
    changed = replace(plan, **deviation.plan)
    honest = (baselines or Baselines()).get(changed, seed, deviation.comply)
    deviating = run_market(changed, seed, lambda market: deviation.deviate(market, used))
    return Comparison(scenario, used, seed, plan.epochs, honest, deviating)
