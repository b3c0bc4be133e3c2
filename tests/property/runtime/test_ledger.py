"""Random blocks against a plain dict ledger: balances, stakes and nonces agree, and the root is that of the items."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from consensus.runtime.balances.state import read_account
from consensus.runtime.executive import execute_block
from consensus.runtime.staking.state import read_stake
from consensus.state.tree import update
from genesis.dev import build_dev_spec, get_dev_identity
from proto_specs.types import calls
from tests.unit.consensus.runtime.chain import Chain

NAMES = ("bob", "charlie", "dave")
WHO = st.sampled_from(NAMES)
AMOUNTS = st.one_of(st.integers(0, 3_000_000), st.integers(0, 1 << 50), st.integers(0, (1 << 64) - 1))
UNBONDING_BLOCKS = 6


class Ledger(RuleBasedStateMachine):
    """Every rule is one block with one call; the ledger predicts whether it succeeds and what it leaves."""

    def __init__(self) -> None:
        super().__init__()
        spec = build_dev_spec()
        staking = replace(spec.params.staking, unbonding_blocks=UNBONDING_BLOCKS, evidence_blocks=3)
        self.chain = Chain(replace(spec, params=replace(spec.params, staking=staking)))
        self.least = spec.params.balances.existential_deposit
        self.root = self.chain.genesis.tree.root
        self.pages = {path: page for path, page in self.chain.genesis.tree.node_writes.items() if page is not None}
        self.free = {name: self.chain.free(get_dev_identity(name)) for name in NAMES}
        self.bonded = dict.fromkeys(NAMES, 0)
        self.queue: dict[str, list[tuple[int, int]]] = {name: [] for name in NAMES}
        self.nonces = dict.fromkeys(NAMES, 0)

    def submit(self, name: str, call: calls.Call) -> bool:
        """One block; keeps the tree and checks that executing it again gives the very same block."""
        transaction = self.chain.sign(get_dev_identity(name), call)
        again = execute_block(self.chain.state, self.chain.context(), (), [transaction])
        executed = self.chain.block([transaction])
        assert executed == again
        self.keep_tree()
        self.nonces[name] += 1
        self.free[name] -= executed.receipts[0].fee
        return executed.receipts[0].error is None

    def keep_tree(self) -> None:
        """Apply the last block to the tree."""
        assert self.chain.last is not None
        result = update(self.pages.get, self.root, self.chain.last.changes)
        self.root = result.root
        for path, page in result.node_writes.items():
            if page is None:
                del self.pages[path]
            else:
                self.pages[path] = page

    def total(self, name: str) -> int:
        return self.free[name] + self.bonded[name] + sum(amount for amount, _ in self.queue[name])

    @rule(source=WHO, dest=WHO, amount=AMOUNTS)
    def transfer(self, source: str, dest: str, amount: int) -> None:
        succeeded = self.submit(source, calls.Transfer(get_dev_identity(dest).account, amount))
        left = self.total(source) - amount
        is_right = 0 < amount <= self.free[source]
        if source != dest:
            is_right = is_right and (left == 0 or left >= self.least) and self.total(dest) + amount >= self.least
        else:
            is_right = is_right and self.total(source) >= self.least
        assert succeeded == is_right
        if succeeded:
            self.free[source] -= amount
            self.free[dest] += amount

    @rule(who=WHO, amount=AMOUNTS)
    def bond(self, who: str, amount: int) -> None:
        succeeded = self.submit(who, calls.Bond(amount))
        assert succeeded == (0 < amount <= self.free[who])
        if succeeded:
            self.free[who] -= amount
            self.bonded[who] += amount

    @rule(who=WHO, amount=AMOUNTS)
    def unbond(self, who: str, amount: int) -> None:
        succeeded = self.submit(who, calls.Unbond(amount))
        assert succeeded == (0 < amount <= self.bonded[who])
        if succeeded:
            self.bonded[who] -= amount
            self.queue[who].append((amount, self.chain.height + UNBONDING_BLOCKS))

    @rule(who=WHO)
    def withdraw(self, who: str) -> None:
        succeeded = self.submit(who, calls.WithdrawUnbonded())
        matured = sum(amount for amount, height in self.queue[who] if height <= self.chain.height)
        assert succeeded == (matured > 0)
        self.queue[who] = [one for one in self.queue[who] if one[1] > self.chain.height]
        self.free[who] += matured

    @rule()
    def empty_block(self) -> None:
        self.chain.block()
        self.keep_tree()

    @invariant()
    def ledger_agrees(self) -> None:
        for name in NAMES:
            account = get_dev_identity(name).account
            found = read_account(self.chain.state, account)
            assert (found.nonce, found.free) == (self.nonces[name], self.free[name])
            assert found.free + found.reserved == self.total(name)
            assert read_stake(self.chain.state, account).bonded == self.bonded[name]

    def teardown(self) -> None:
        """The root kept block by block is the root of the items."""
        rebuilt = update(lambda path: None, bytes(32), sorted(self.chain.state.items.items()))
        assert rebuilt.root == self.root
        assert rebuilt.node_writes == self.pages


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
