"""Those who do more than serve and judge: they order from themselves, fill blocks, or take answers they do not pay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consensus.runtime.inference.events import ChallengeDrawn
from consensus.runtime.system.state import read_params
from consensus.runtime.weights import compute_call_weight
from node.sim.economy.conduct import HONEST, Conduct
from node.sim.economy.market import Market
from node.sim.economy.parties import SimAccount
from node.sim.economy.truth import SimulatedWorker
from node.sim.economy.work import Lengths, OpenedSession
from proto_specs.types import calls
from proto_specs.types.common import NMYL_PER_MYL

CHEAP = Lengths(1, 1)
"""The least that can be ordered."""


class SelfRequests:
    """Orders from its own worker, over others for the other stages, as cheaply as can be, and serves that honestly."""

    def __init__(
        self, session: OpenedSession, worker: SimulatedWorker, per_block_permille: int, lengths: Lengths = CHEAP
    ) -> None:
        self._session, self._worker, self._lengths = session, worker, lengths
        self._rate, self._owed = per_block_permille, 0

    def act(self, market: Market) -> None:
        """So many a block, as a share of a thousand."""
        self._owed += self._rate
        while self._owed >= 1_000:
            self._owed -= 1_000
            if market.is_working(self._worker):
                path = [self._worker if one.stage == self._worker.stage else one for one in market.draw_own_path()]
                conducts: list[Conduct | None] = [HONEST if one is self._worker else None for one in path]
                market.serve(self._session, path, [self._lengths], conducts, is_wanted=False)


class Flooder:
    """Fills blocks while `wants` says so, with calls that no reserve of a block is for, for a tip above others'.

    A block ends at the first transaction without room: two that take more than half of one each leave no other in.
    """

    def __init__(self, account: SimAccount, tip: int, wants: Callable[[Market], bool]) -> None:
        self._account, self._tip, self._wants = account, tip, wants
        self.blocks = 0

    def act(self, market: Market) -> None:
        """Two transactions for the next block, unless earlier ones still wait."""
        if not self._wants(market):
            market.ledger.withdraw(self._account.account)
            return
        self.blocks += 1
        waiting = sum(one.signer == self._account.account for one in market.ledger.pending)
        for _ in range(2 - waiting):
            market.ledger.submit(self._account.account, make_filling(market), self._tip)


def make_filling(market: Market) -> calls.BatchEach:
    """A call that weighs a little more than half of a block."""
    one = calls.ReportAbsent(bytes(32))
    half = read_params(market.ledger.state).block_weight_max // 2
    count = half // compute_call_weight(one) + 1
    return calls.BatchEach((one,) * min(count, 256))


class DrawnWatch:
    """Knows for how long a committee sits about one of these workers, as of the events that a market tells."""

    def __init__(self, market: Market, *workers: SimulatedWorker) -> None:
        self._keys = {one.account.worker_key.public_key for one in workers}
        self.until = 0
        market.listeners.append(self._note)

    def _note(self, event: Any) -> None:
        if isinstance(event, ChallengeDrawn) and event.worker in self._keys:
            self.until = max(self.until, event.reveal_deadline)

    def is_watched(self, market: Market) -> bool:
        """Whether one of them is being judged."""
        return market.ledger.height < self.until


class EscapingClient:
    """Takes answers in a burst, closes its session in the same block and keeps settlements out until it is closed."""

    def __init__(self, client: SimAccount, burst: int) -> None:
        self._client, self._burst = client, burst
        self._session: OpenedSession | None = None
        self._closes = 0

    def act(self, market: Market) -> None:
        """Once."""
        if self._session is None:
            self._session = market.open_session(self._client, 2 * self._burst * NMYL_PER_MYL)
            return
        if self._closes:
            return
        market.ledger.submit(self._client.account, calls.CloseSession(self._session.id), tip=2)
        notice = market.read_inference_params().session_notice_blocks
        self._closes = market.ledger.height + 1 + notice
        for _ in range(self._burst):
            market.serve(self._session, market.draw_own_path(), [market.draw_lengths(is_own=True)])

    def is_escaping(self, market: Market) -> bool:
        """Whether settlements are to be kept out."""
        return market.ledger.height < self._closes


class DoublePromiser:
    """Opens a session for one answer, and promises its slice to as many paths as share no worker, every `every` blocks.

    The answers are worth their price: what it does not pay is its profit.
    """

    def __init__(self, client: SimAccount, paths: int, every: int) -> None:
        self._client, self._paths, self._every = client, paths, every
        self._ready: tuple[OpenedSession, Lengths] | None = None

    def act(self, market: Market) -> None:
        """A session in one block, its promises in the next one."""
        if self._ready is not None:
            session, lengths = self._ready
            self._ready = None
            start = session.promised
            for number in range(self._paths):
                session.promised, session.sequence = start, number
                path = [market.workers[stage * market.plan.workers_per_stage + number] for stage in range(3)]
                market.serve(session, path, [lengths])
        elif market.ledger.height % self._every == 0:
            lengths = market.draw_lengths(is_own=True)
            session = market.open_session(self._client, market.compute_worth(lengths), self._paths)
            self._ready = (session, lengths)
