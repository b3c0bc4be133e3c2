"""Every deviation by name: who is tempted, what it has, and what it does instead of its duty."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from consensus.runtime.inference.committee_state import read_conduct
from consensus.runtime.inference.events import ChallengeDrawn
from consensus.runtime.receipts import ExecutedBlock
from node.sim.economy.actors import DoublePromiser, DrawnWatch, EscapingClient, Flooder, SelfRequests
from node.sim.economy.committees import FriendlyVerifier, LazyVerifier, SilentVerifier
from node.sim.economy.conduct import CautiousWorker, Conduct, IncapableWorker, RateWorker, SteadyWorker
from node.sim.economy.market import Market
from node.sim.economy.truth import SimulatedWorker
from node.sim.economy.work import Lengths
from proto_specs.types.common import NMYL_PER_MYL

SYBIL_BOND = 300 * NMYL_PER_MYL
TEMPTED = ("worker-0", "worker-4", "worker-8")
"""The first worker of each stage, as `_list_tempted` has them."""
CHEAPER_PERMILLE = 600
"""What a cheat saves that computes with smaller weights."""


class EconomyScenario(enum.StrEnum):
    """What the tempted one does."""

    HONEST = "honest"
    LAZY = "lazy"
    WITHHOLDING = "withholding"
    CAUTIOUS = "cautious"
    CHEATING = "cheating"
    COLLUDING = "colluding"
    SELF_DEALING = "self-dealing"
    SYBIL = "sybil"
    NO_CAPACITY = "no-capacity"
    DECLINING = "declining"
    CENSORING = "censoring"
    FLOODING = "flooding"
    ESCAPING = "escaping"
    LAZY_VERIFIER = "lazy-verifier"
    SILENT_VERIFIER = "silent-verifier"
    DOUBLE_PROMISE = "double-promise"


@dataclass(frozen=True, slots=True)
class Deviation:
    """A deviation. `purse` are the names of the accounts that act as one: what counts is the sum of their profits.

    `deviate` is done in the deviating run, once measuring began, with a strength out of `strengths`, of which the first
    is the usual one. `unit` says what a strength is. `plan` changes the plan, of both runs. `persons` do the same, each
    by itself: figures are for one. `comply` is what honesty does besides the usual, with the same capital.
    """

    summary: str
    purse: tuple[str, ...]
    deviate: Callable[[Market, int], None]
    strengths: tuple[int, ...] = (0,)
    unit: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)
    persons: int = 1
    comply: Callable[[Market], None] | None = None


def _compute_less(market: Market, permille: int) -> None:
    for worker in _list_tempted(market):
        worker.policy = SteadyWorker(Conduct(permille, 1_000, opens_bad=True))


def _withhold(market: Market, per_block_permille: int) -> None:
    for worker in _list_tempted(market):
        worker.policy = SteadyWorker(Conduct(1_000, 1_000, opens_bad=False))
        if per_block_permille:
            market.actors.append(SelfRequests(market.get_session("spare-0"), worker, per_block_permille))


def _withhold_cautiously(market: Market, spare: int) -> None:
    """Withhold until so few unavailabilities are left before the jail, and serve honestly until they are forgotten."""

    def can_afford(worker: SimulatedWorker) -> bool:
        strikes = read_conduct(market.ledger.state, worker.account.account).strikes
        return strikes + spare < market.read_inference_params().unavailable_max

    for worker in _list_tempted(market):
        worker.policy = CautiousWorker(Conduct(1_000, 1_000, opens_bad=False), partial(can_afford, worker))


def _cheat(market: Market, rate_permille: int) -> None:
    for worker in _list_tempted(market):
        worker.policy = RateWorker(Conduct(1_000, CHEAPER_PERMILLE, opens_bad=True), rate_permille)


def _compute_nothing(market: Market) -> None:
    market.workers[0].policy = SteadyWorker(Conduct(1_000, 1_000, opens_bad=True))


def _collude(market: Market, permille: int) -> None:
    _compute_nothing(market)
    friends = {market.workers[0].account.account}
    for one in market.validators[: market.plan.validators * permille // 1_000]:
        market.duty.join(one, market.parties[one.name], FriendlyVerifier(friends))


def _deal_with_itself(market: Market, per_block_permille: int) -> None:
    market.actors.append(
        SelfRequests(market.get_session("spare-0"), market.workers[0], per_block_permille, Lengths(64, 64))
    )


def _decline(market: Market, rate_permille: int) -> None:
    """Cheat, and do not propose a block that draws the cheat."""
    market.workers[0].policy = RateWorker(Conduct(1_000, CHEAPER_PERMILLE, opens_bad=True), rate_permille)
    own, key = market.workers[0].account.worker_key.public_key, market.validators[0].consensus_key.public_key

    def declines(proposer: bytes, executed: ExecutedBlock) -> bool:
        drawn = (one for one in executed.events.initialize if isinstance(one, ChallengeDrawn))
        return proposer == key and any(one.worker == own for one in drawn)

    market.ledger.declines = declines


def _censor(market: Market, permille: int) -> None:
    """Cheat, and leave all verdicts out of one's blocks."""
    _compute_nothing(market)
    censors = {one.consensus_key.public_key for one in market.validators[: market.plan.validators * permille // 1_000]}
    market.ledger.censors = lambda proposer, one: one.is_verdict and proposer in censors


def _flood(market: Market, tip: int) -> None:
    """Cheat, and fill the blocks while a committee sits about it."""
    _compute_nothing(market)
    watch = DrawnWatch(market, market.workers[0])
    market.actors.append(Flooder(market.get_account("spare-0"), tip, watch.is_watched))


def _escape(market: Market, burst: int) -> None:
    client = EscapingClient(market.get_account("spare-0"), burst)
    market.actors.append(client)
    market.actors.append(Flooder(market.get_account("spare-1"), 1, client.is_escaping))


def _judge_lazily(market: Market, count: int) -> None:
    for index, one in enumerate(market.validators[:count]):
        market.duty.join(one, market.parties[one.name], LazyVerifier(f"lazy-{index}"))


def _say_nothing(market: Market, count: int) -> None:
    for one in market.validators[:count]:
        market.duty.join(one, market.parties[one.name], SilentVerifier())


def _promise_twice(market: Market, paths: int) -> None:
    market.actors.append(DoublePromiser(market.get_account("spare-0"), paths, 10))


def _list_tempted(market: Market) -> list[SimulatedWorker]:
    """A worker of each stage."""
    return market.workers[:: market.plan.workers_per_stage]


def _bond_once(market: Market) -> None:
    market.add_worker("spare-1", 0, SYBIL_BOND, is_listed=False)


def _bond_often(market: Market, keys: int) -> None:
    for index in range(keys):
        market.add_worker(f"spare-{index + 1}", 0, SYBIL_BOND // keys, is_listed=False)


def _pretend(market: Market, _strength: int) -> None:
    market.add_worker("spare-1", 0, SYBIL_BOND, is_listed=False).policy = IncapableWorker()


def _name_validators(count: int) -> tuple[str, ...]:
    return tuple(f"validator-{index}" for index in range(count))


DEVIATIONS: dict[EconomyScenario, Deviation] = {
    EconomyScenario.HONEST: Deviation("does its duty", ("worker-0",), lambda _market, _strength: None),
    EconomyScenario.LAZY: Deviation(
        "computes a share of the windows and makes up the rest",
        TEMPTED,
        _compute_less,
        (500, 100, 1_000),
        "permille of windows made up",
        persons=3,
    ),
    EconomyScenario.WITHHOLDING: Deviation(
        "computes nothing and does not open what would fail",
        (*TEMPTED, "spare-0"),
        _withhold,
        (0, 500, 2_000),
        "permille of a cheap honest self-request a block",
        persons=3,
    ),
    EconomyScenario.CAUTIOUS: Deviation(
        "withholds as long as one more miss does not jail it, and serves honestly until misses are forgotten",
        TEMPTED,
        _withhold_cautiously,
        (1, 2),
        "misses kept in hand",
        persons=3,
    ),
    EconomyScenario.CHEATING: Deviation(
        "computes a share of the requests with weights that cost 60 % less",
        TEMPTED,
        _cheat,
        (1_000, 10, 30, 100, 300),
        "permille of requests",
        persons=3,
    ),
    EconomyScenario.COLLUDING: Deviation(
        "computes nothing and has a share of the verifiers' stake for its friends",
        ("worker-0", *_name_validators(9)),
        _collude,
        (300, 100, 200, 400, 500, 600, 700, 800, 900),
        "permille of the verifiers' stake",
    ),
    EconomyScenario.SELF_DEALING: Deviation(
        "orders from its own worker",
        ("worker-0", "spare-0"),
        _deal_with_itself,
        (1_000, 3_000),
        "permille of a self-request a block",
    ),
    EconomyScenario.SYBIL: Deviation(
        "splits a bond over several keys of one machine, for the emission",
        ("spare-1", "spare-2", "spare-3"),
        _bond_often,
        (3, 2),
        "keys",
        comply=_bond_once,
    ),
    EconomyScenario.NO_CAPACITY: Deviation(
        "bonds for the emission and has no machine",
        ("spare-1",),
        _pretend,
        comply=_bond_once,
    ),
    EconomyScenario.DECLINING: Deviation(
        "cheats, and does not propose a block that draws it",
        ("worker-0", "validator-0"),
        _decline,
        (1_000, 100),
        "permille of requests",
    ),
    EconomyScenario.CENSORING: Deviation(
        "computes nothing, and leaves verdicts out of its blocks",
        ("worker-0", *_name_validators(6)),
        _censor,
        (300, 600),
        "permille of the proposers",
    ),
    EconomyScenario.FLOODING: Deviation(
        "computes nothing, and fills blocks while it is judged",
        ("worker-0", "spare-0"),
        _flood,
        (1, 1_000_000),
        "nmyl of tip",
    ),
    EconomyScenario.ESCAPING: Deviation(
        "a client takes a burst of answers, closes its session and fills the blocks until it is closed",
        ("spare-0", "spare-1"),
        _escape,
        (100, 400),
        "answers",
    ),
    EconomyScenario.LAZY_VERIFIER: Deviation(
        "a verifier says PASS and computes nothing", ("validator-0",), _judge_lazily, (1, 3, 6), "lazy verifiers of ten"
    ),
    EconomyScenario.SILENT_VERIFIER: Deviation(
        "a verifier says nothing", ("validator-0",), _say_nothing, (1, 3), "silent verifiers of ten"
    ),
    EconomyScenario.DOUBLE_PROMISE: Deviation(
        "a client promises the same nmyl to several paths",
        ("spare-0",),
        _promise_twice,
        (2, 3, 4),
        "paths",
    ),
}
