"""Whoever promises disjoint slices below the session's bound can pay every order that is out, whatever comes first."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import Session
from proto_specs.types import calls
from proto_specs.types.request import SignedOrder
from tests.unit.consensus.runtime.inference.inference_world import PRICE, World
from tests.unit.consensus.runtime.inference.statement_world import make_honest_leaf, sign_statement, state_leaves

PROMPT_PRICE = 6 * 40 * (PRICE // 2)
TOKEN_PRICE = 6 * PRICE
TOKENS_MAX = 100


class Promises(RuleBasedStateMachine):
    """A client that fills its session's positions from 0 on, and workers that settle when and for what they like."""

    @initialize(deposit=st.integers(1_000_000, 3_000_000))
    def start(self, deposit: int) -> None:
        self.world = World(session_expiry_blocks=10_000)
        self.world.session = self.world.open_session(deposit=deposit)
        self.taken = 0
        self.sequence = 0
        self.out: list[SignedOrder] = []
        self.tops, self.prices, self.deposit = 0, 0, deposit

    def read(self) -> Session:
        session = queries.read_session(self.world.chain.state, self.world.session)
        assert session is not None
        return session

    @rule(size=st.integers(PROMPT_PRICE, PROMPT_PRICE + (TOKENS_MAX + 5) * TOKEN_PRICE))
    def order(self, size: int) -> None:
        """Promise the next positions, or all that is left of them, or none when a prompt would not be paid."""
        end = min(self.taken + size, self.read().promisable)
        if end - self.taken >= PROMPT_PRICE:
            fields = {"slice_start": self.taken, "slice_end": end, "tokens_max": TOKENS_MAX}
            self.out.append(self.world.order(self.sequence, **fields))
            self.taken, self.sequence = end, self.sequence + 1

    @precondition(lambda self: self.out)
    @rule(data=st.data(), worker=st.integers(0, 2))
    def settle(self, data: st.DataObject, worker: int) -> None:
        signed = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        size = signed.order.slice_end - signed.order.slice_start
        tokens = data.draw(st.integers(0, min((size - PROMPT_PRICE) // TOKEN_PRICE, TOKENS_MAX)))
        self.pay(signed, tokens, worker)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def settle_statement(self, data: st.DataObject) -> None:
        """Any of the orders that are out, in one statement, each for as much as its slice allows or less."""
        taken = sorted(data.draw(st.sets(st.integers(0, len(self.out) - 1), min_size=1)))
        leaves = []
        for place in taken:
            order = self.out[place].order
            most = min((order.slice_end - order.slice_start - PROMPT_PRICE) // TOKEN_PRICE, TOKENS_MAX)
            tokens = data.draw(st.integers(0, most))
            leaves.append(make_honest_leaf(order, tokens))
            self.prices += PROMPT_PRICE + tokens * TOKEN_PRICE
        self.out = [one for place, one in enumerate(self.out) if place not in taken]
        self.world.chain.expect_ok(self.world.client, sign_statement(self.world, state_leaves(self.world, leaves)))

    def pay(self, signed: SignedOrder, tokens: int, worker: int) -> None:
        self.world.chain.expect_ok(self.world.workers[worker], self.world.settle_order(signed, tokens))
        self.prices += PROMPT_PRICE + tokens * TOKEN_PRICE

    @rule(amount=st.integers(1, 1_000_000))
    def top_up(self, amount: int) -> None:
        self.world.chain.expect_ok(self.world.client, calls.TopUpSession(self.world.session, amount))
        self.tops += amount

    @invariant()
    def every_order_that_is_out_is_covered(self) -> None:
        if hasattr(self, "world"):
            session = self.read()
            assert session.escrow == self.deposit + self.tops - self.prices
            assert session.escrow >= sum(one.order.slice_end - one.order.slice_start for one in self.out)

    def teardown(self) -> None:
        """Whatever is still out settles at the most that its slice allows."""
        for signed in getattr(self, "out", []):
            size = signed.order.slice_end - signed.order.slice_start
            self.pay(signed, min((size - PROMPT_PRICE) // TOKEN_PRICE, TOKENS_MAX), 0)


TestPromises = Promises.TestCase
TestPromises.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
