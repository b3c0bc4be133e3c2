"""Random requests, verdicts and exits: after every block the money adds up and every exposure is what is open.

The checks themselves are in `chain.check_invariants`, which runs after each block.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from consensus.runtime.inference import queries
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import ChallengeDrawn
from consensus.runtime.inference.state import DueKind, SessionStatus
from genesis.dev import get_dev_identity
from proto_specs.types import calls
from proto_specs.types.calls import Outcome
from tests.unit.consensus.runtime.inference.inference_world import BOND, World
from tests.unit.consensus.runtime.inference.statement_world import state_requests


class Market(RuleBasedStateMachine):
    """One session, three workers, one verifier; challenges are judged at random or run out."""

    @initialize(base_ppm=st.sampled_from([0, 300_000, 1_000_000]), slash=st.sampled_from([0, 500, 1_000]))
    def start(self, base_ppm: int, slash: int) -> None:
        self.world = World(
            base_challenge_ppm=base_ppm,
            probation_value=1,
            fail_slash_permille=slash,
            worker_bond_min=BOND // 3,
            commit_blocks=3,
            reveal_blocks=3,
            worker_unbonding_blocks=9,
            session_expiry_blocks=60,
            retention_blocks=4,
        )
        self.sequence = 0
        self.drawn: list[ChallengeDrawn] = []

    def note(self, events: list[object]) -> None:
        self.drawn += [one for one in events if isinstance(one, ChallengeDrawn)]

    @rule(tokens=st.integers(0, 100), final=st.booleans(), worker=st.integers(0, 2))
    def settle(self, tokens: int, final: bool, worker: int) -> None:
        call = self.world.settle(self.sequence, tokens, final)
        self.sequence += 1
        self.world.chain.submit(self.world.workers[worker], call)
        assert self.world.chain.last is not None
        self.note(list(self.world.chain.last.events.initialize))

    @rule(tokens=st.integers(1, 100), count=st.integers(1, 6), overlap=st.integers(0, 1))
    def settle_statement(self, tokens: int, count: int, overlap: int) -> None:
        """Some requests at once; with an `overlap` the first is one that may be settled already."""
        first = max(self.sequence - overlap, 0)
        call = state_requests(self.world, range(first, first + count), tokens)
        self.sequence = first + count
        self.world.chain.submit(self.world.client, call)
        assert self.world.chain.last is not None
        self.note(list(self.world.chain.last.events.initialize))

    @rule(blocks=st.integers(1, 4))
    def wait(self, blocks: int) -> None:
        self.note(self.world.chain.skip(blocks))

    @precondition(lambda self: self.drawn)
    @rule(outcome=st.sampled_from(list(Outcome)))
    def judge(self, outcome: Outcome) -> None:
        one, alice = self.drawn.pop(), self.world.verifiers[0]
        for call in self.world.verdict(one.challenge, alice, outcome):
            self.world.chain.submit(alice, call)
            assert self.world.chain.last is not None
            self.note(list(self.world.chain.last.events.initialize))

    @rule(worker=st.integers(0, 2))
    def retire(self, worker: int) -> None:
        who = self.world.workers[worker]
        self.world.chain.submit(who, calls.RetireWorker(who.worker_key.public_key))

    @rule(worker=st.integers(0, 2), is_reported=st.booleans())
    def go_away(self, worker: int, is_reported: bool) -> None:
        key = self.world.workers[worker].worker_key.public_key
        if is_reported:
            self.world.chain.submit(self.world.verifiers[0], calls.ReportAbsent(key))
        else:
            self.world.chain.submit(self.world.workers[worker], calls.LeaveWorker(key))

    @rule(worker=st.integers(0, 2), price=st.integers(1, 2_000))
    def come_back(self, worker: int, price: int) -> None:
        who = self.world.workers[worker]
        self.world.chain.submit(who, calls.UpdateWorker(who.worker_key.public_key, "peer", (), price, price))

    @rule(amount=st.integers(0, 10**10))
    def top_up(self, amount: int) -> None:
        self.world.chain.submit(self.world.client, calls.TopUpSession(self.world.session, amount))

    @rule()
    def close(self) -> None:
        self.world.chain.submit(self.world.client, calls.CloseSession(self.world.session))

    @rule()
    def reopen(self) -> None:
        self.world.session = self.world.open_session()

    def teardown(self) -> None:
        """Left alone, everything resolves: no request stays open, no escrow is stuck, no deadline is left behind."""
        if not hasattr(self, "world"):
            return
        chain = self.world.chain
        chain.skip(80)
        assert not list(chain.state.iterate(b"inference.request:"))
        assert not list(chain.state.iterate(b"inference.challenge:"))
        assert not list(chain.state.iterate(b"inference.open_challenge:"))
        assert not list(chain.state.iterate(b"inference.session:"))
        assert not list(chain.state.iterate(b"inference.sequences_used:"))
        assert not list(chain.state.iterate(b"inference.request_by_session:"))
        waiting = {kind for _, kind, _ in inference.due.iterate(chain.state)}
        assert waiting <= {DueKind.FORGET_WORKER, DueKind.VERIFIER_EXPIRY}, "whether a registration is still of use"
        assert not list(chain.state.iterate(b"inference.verification_deposit:"))
        for name in ("bob", "charlie", "dave"):
            for _, worker in queries.list_workers_of(chain.state, get_dev_identity(name).account):
                assert (worker.open_stages, worker.unresolved) == (0, 0)
        session = queries.read_session(chain.state, self.world.session)
        assert session is None or session.status == SessionStatus.CLOSED


TestMarket = Market.TestCase
TestMarket.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
