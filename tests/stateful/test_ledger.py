"""Random blocks against the plain-dict ledger: after every step the same money, the same receipts, the same root."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from benchmarks.manifests import build_manifest
from consensus.runtime.context import BlockContext
from consensus.runtime.errors import BlockError
from consensus.runtime.executive import execute_block, propose_block
from consensus.runtime.inference import state as inference
from consensus.state.reader import DictState
from consensus.state.tree import EMPTY_ROOT, update
from genesis.dev import DevIdentity, build_dev_spec, get_dev_identity
from genesis.spec import ChainSpec
from proto_specs.codec import decode, encode
from proto_specs.limits import SESSION_SEQUENCES_MAX
from proto_specs.types import calls
from proto_specs.types.chain import Transaction, TransactionBody, sign_transaction
from proto_specs.types.manifest import compute_model_id
from tests.stateful.books import list_books
from tests.stateful.ledger import Forecast, Ledger, Told
from tests.unit.consensus.runtime.chain import Chain
from tests.unit.consensus.runtime.inference.inference_world import LAYERS

STEPS_NIGHTLY = 10_000
PEOPLE = [get_dev_identity(name) for name in ("alice", "bob", "charlie", "dave", "pauper")]
MODEL = compute_model_id(build_manifest(LAYERS))
INITIALIZE, FINALIZE = {"SessionClosed", "ClientBondReturned"}, {"TipsPaid", "FeesBurned"}
"""Events of a block's phases that the books foretell; others are of modules without a book."""


MakeCall = Callable[["LedgerMachine", bytes], Any]


@dataclass(frozen=True, slots=True)
class Amount:
    """`offset` plus something known only when the block is made: a balance of the signer's, or nothing."""

    of: str
    offset: int

    def resolve(self, ledger: Ledger, who: bytes) -> int:
        """The amount, within what can be encoded."""
        bonded = next(book.data.get(who, [0])[0] for book in ledger.books if calls.Bond in book.list_calls())
        free, total = ledger.free.get(who, 0), ledger.count_total(who)
        known: dict[str, int] = {"": 0, "free": free, "total": total, "bonded": bonded}
        return min(max(known[self.of] + self.offset, 0), (1 << 64) - 1)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A transaction to be. `nonce_offset` is from the right one; `birth_offset` from the last block, or None."""

    who: DevIdentity
    make_call: MakeCall
    tip: Amount
    nonce_offset: int
    birth_offset: int | None
    period_blocks: int
    is_signed: bool


SMALL, LARGE = st.integers(0, 3_000_000), st.integers(0, 10**13)
NEAR = st.integers(-3, 3) | st.integers(-2_000_000, 2_000_000) | st.integers(-(10**12), 0)
AMOUNTS = st.one_of(
    st.builds(Amount, st.just(""), SMALL),
    st.builds(Amount, st.just(""), LARGE),
    st.builds(Amount, st.just("bonded"), NEAR),
    st.builds(Amount, st.sampled_from(["free", "total"]), NEAR),
)
DEST = st.sampled_from(PEOPLE)


def _late(build: Callable[..., Any], *strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[MakeCall]:
    """Calls built when their block is made: `build(machine, signer, *drawn)`."""
    return st.tuples(*strategies).map(lambda drawn: lambda machine, who: build(machine, who, *drawn))


CALLS: dict[type, st.SearchStrategy[MakeCall]] = {
    calls.Transfer: _late(lambda m, w, to, one: calls.Transfer(to.account, m.amount(one, w)), DEST, AMOUNTS),
    calls.TransferAll: _late(lambda m, w, to, keep: calls.TransferAll(to.account, keep), DEST, st.booleans()),
    calls.Bond: _late(lambda m, w, one: calls.Bond(m.amount(one, w)), AMOUNTS),
    calls.Unbond: _late(lambda m, w, one: calls.Unbond(m.amount(one, w)), AMOUNTS),
    calls.WithdrawUnbonded: _late(lambda m, w: calls.WithdrawUnbonded()),
    calls.Remark: _late(lambda m, w, data: calls.Remark(data), st.binary(max_size=40)),
    calls.OpenSession: _late(
        lambda m, w, one, model, most: calls.OpenSession(model, bytes(32), 1, m.amount(one, w), most),
        AMOUNTS,
        st.sampled_from([MODEL, MODEL, MODEL, bytes(32)]),
        st.integers(0, 3) | st.just(SESSION_SEQUENCES_MAX + 1),
    ),
    calls.TopUpSession: _late(
        lambda m, w, index, one: calls.TopUpSession(m.session(index, w), m.amount(one, w)), st.integers(0, 40), AMOUNTS
    ),
    calls.CloseSession: _late(lambda m, w, index: calls.CloseSession(m.session(index, w)), st.integers(0, 40)),
}
OPENED = st.builds(Amount, st.just(""), st.integers(1_000_000, 10**9))
CLIENT_CALLS = st.one_of(
    _late(lambda m, w, one: calls.OpenSession(MODEL, bytes(32), 1, m.amount(one, w), 3), OPENED),
    _late(
        lambda m, w, index, one: calls.TopUpSession(m.session(2 * index, w), m.amount(one, w)),
        st.integers(0, 5),
        OPENED,
    ),
    _late(lambda m, w, index: calls.CloseSession(m.session(2 * index, w)), st.integers(0, 5)),
)
"""Of clients who do nothing wrong: those of CALLS seldom get as far as a session with something in it."""


CANDIDATES = st.builds(
    Candidate,
    who=st.sampled_from(PEOPLE),
    make_call=st.one_of(list(CALLS.values())),
    tip=st.builds(Amount, st.sampled_from([""] * 30 + ["free"]), st.integers(-3_000_000, 2_000)),
    nonce_offset=st.sampled_from([0] * 15 + [-1, 1]),
    birth_offset=st.sampled_from([None] * 10 + [0, 0, -1, -3, -6, 1]),
    period_blocks=st.sampled_from([64, 64, 1, 5, 4_097]),
    is_signed=st.sampled_from([True] * 15 + [False]),
)
CLIENTS = st.builds(
    Candidate,
    who=st.sampled_from(PEOPLE),
    make_call=CLIENT_CALLS,
    tip=st.just(Amount("", 0)),
    nonce_offset=st.just(0),
    birth_offset=st.none(),
    period_blocks=st.just(0),
    is_signed=st.just(True),
)


class LedgerMachine(RuleBasedStateMachine):
    """Every step is one block or some empty ones."""

    steps: ClassVar[int] = 0
    seen: ClassVar[Counter[str]] = Counter()

    @initialize(client_bond_blocks=st.sampled_from([3, 5]))
    def begin(self, client_bond_blocks: int) -> None:
        """A chain on which bonds return before their session is forgotten, or with it."""
        self.chain = Chain(build_spec(client_bond_blocks))
        self.chain.expect_ok(get_dev_identity("client"), calls.RegisterModel(encode(build_manifest(LAYERS))))
        self.ledger = Ledger(
            self.chain.spec, self.chain.genesis.hash, self.chain.state, list_books(self.chain.spec, [MODEL])
        )
        self.start = DictState(dict(self.chain.state.items))
        self.history: list[tuple[BlockContext, list[bytes]]] = []
        self.replica = DictState(dict(self.start.items))
        self.root, self.pages = self._build_tree(self.start)
        self.sessions: list[tuple[bytes, bytes]] = [(bytes(32), bytes(32))]
        """(session, client), and one that there never was."""

    def amount(self, amount: Amount, who: bytes) -> int:
        return amount.resolve(self.ledger, who)

    def session(self, index: int, who: bytes) -> bytes:
        """One of the signer's own for an even index, any other for an odd one, counted from the last."""
        own = [one for one in self.sessions if one[1] == who]
        found = own if own and index % 2 == 0 else self.sessions
        return found[-1 - index // 2 % len(found)][0]

    def make(self, one: Candidate, waiting: Counter[bytes]) -> Transaction:
        """The candidate as a transaction for the next block."""
        who, ledger = one.who.account, self.ledger
        nonce = max(ledger.nonces.get(who, 0) + waiting[who] + one.nonce_offset, 0)
        birth, period = 0, 0
        if one.birth_offset is not None:
            birth, period = max(self.chain.height + one.birth_offset, 0), one.period_blocks
        call = one.make_call(self, who)
        body = TransactionBody(who, nonce, call, self.amount(one.tip, who), birth, period)
        birth_hash = self.chain.block_hash(birth) if period else ledger.genesis
        made = sign_transaction(body, ledger.genesis, birth_hash, one.who.account_key)
        if not one.is_signed:
            made = replace(made, signature=made.signature[:-1] + bytes([made.signature[-1] ^ 1]))
        if one.nonce_offset == 0 and one.is_signed:
            waiting[who] += 1
        return made

    @rule(candidates=st.lists(CANDIDATES, min_size=1, max_size=9))
    def block(self, candidates: list[Candidate]) -> None:
        """A block of what may be in it, by forecast and by the runtime."""
        waiting: Counter[bytes] = Counter()
        made = [(self.make(one, waiting), one.is_signed) for one in candidates]
        context = self.chain.context()
        forecast = self.ledger.run_block(context.height, self.chain.proposer.account, made)
        taken, proposed = propose_block(self.chain.state, context, (), [one for one, _ in made])
        assert taken == tuple(forecast.taken), (forecast.refused, taken)
        self.refuse_one_by_one(context, forecast)
        executed = self.chain.block(forecast.taken)
        assert executed == proposed
        self.compare_receipts(forecast)
        self.replay(context, forecast.taken)
        for receipt in executed.receipts:
            for event in receipt.events:
                if type(event).__name__ == "SessionOpened":
                    self.sessions.append((event.session, event.client))  # type: ignore[union-attr]
        self.count(forecast)

    @rule(candidates=st.lists(CLIENTS, min_size=1, max_size=6))
    def clients(self, candidates: list[Candidate]) -> None:
        """A block of calls about sessions, most of which succeed."""
        self.block(candidates)

    @rule(blocks=st.sampled_from([1, 4, 7, 16]))
    def wait(self, blocks: int) -> None:
        """Blocks without transactions."""
        for _ in range(blocks):
            context = self.chain.context()
            forecast = self.ledger.run_block(context.height, self.chain.proposer.account, ())
            self.chain.block()
            self.compare_receipts(forecast)
            self.replay(context, [])
            self.count(forecast)

    def refuse_one_by_one(self, context: BlockContext, forecast: Forecast) -> None:
        """A block with a refused transaction in it is refused whole, and names the reason."""
        for before, one, reason in forecast.refused:
            with pytest.raises(BlockError, match=f"^transaction {before}: {reason}: "):
                execute_block(self.chain.state, context, (), [*forecast.taken[:before], one])

    def compare_receipts(self, forecast: Forecast) -> None:
        """Receipts and phases say what the ledger says."""
        executed = self.chain.last
        assert executed is not None
        for receipt, expected in zip(executed.receipts, forecast.receipts, strict=True):
            error = None if receipt.error is None else (receipt.error.module, receipt.error.error)
            found = (receipt.extrinsic, error, receipt.fee, receipt.tip, receipt.weight)
            assert found == (expected.extrinsic, expected.error, expected.fee, expected.tip, expected.weight)
            told = tell(receipt.events)
            if error is not None:
                told = [one[:3] for one in told]
            assert told == expected.events
        assert [one for one in tell(executed.events.initialize) if one[0] in INITIALIZE] == forecast.initialize
        assert [one for one in tell(executed.events.finalize) if one[0] in FINALIZE] == forecast.finalize

    def replay(self, context: BlockContext, taken: list[Transaction]) -> None:
        """Another node gets the bytes of the block; tree and state go on."""
        encoded = [encode(one) for one in taken]
        self.history.append((context, encoded))
        executed = execute_block(self.replica, context, (), [decode(Transaction, one) for one in encoded])
        assert executed == self.chain.last
        self.replica.apply(executed.changes)
        result = update(self.pages.get, self.root, executed.changes)
        self.root = result.root
        for path, page in result.node_writes.items():
            if page is None:
                self.pages.pop(path, None)
            else:
                self.pages[path] = page

    def count(self, forecast: Forecast) -> None:
        LedgerMachine.steps += 1
        for one, expected in zip(forecast.taken, forecast.receipts, strict=True):
            LedgerMachine.seen[
                f"{type(one.body.call).__name__}: {expected.error[1] if expected.error else 'done'}"
            ] += 1
        LedgerMachine.seen.update(reason for _, _, reason in forecast.refused)
        LedgerMachine.seen.update(one[0] for one in forecast.initialize)
        LedgerMachine.seen["LeftOver"] += bool(inference.due_from.read(self.chain.state))

    @invariant()
    def the_ledger_agrees(self) -> None:
        self.ledger.compare(self.chain.state)

    def teardown(self) -> None:
        """From the start again, block by block from bytes: the same items and the same root."""
        again = DictState(dict(self.start.items))
        for context, encoded in self.history:
            again.apply(execute_block(again, context, (), [decode(Transaction, one) for one in encoded]).changes)
        assert again.items == self.chain.state.items == self.replica.items
        root, pages = self._build_tree(again)
        assert (root, pages) == (self.root, self.pages)

    def _build_tree(self, state: DictState) -> tuple[bytes, dict[bytes, bytes]]:
        tree = update(lambda path: None, EMPTY_ROOT, sorted(state.items.items()))
        return tree.root, {path: page for path, page in tree.node_writes.items() if page is not None}


def build_spec(client_bond_blocks: int) -> ChainSpec:
    """The dev spec without emission, with blocks of a few transactions and short windows.

    A block has room for one session's end among what is due, so that two leave something over.
    """
    spec = build_dev_spec(names=("bob", "charlie", "dave", "client"))
    params = spec.params
    return replace(
        spec,
        params=replace(
            params,
            system=replace(
                params.system, block_weight_max=2_800, weight_price_change_denominator=8, reserved_permille=0
            ),
            staking=replace(
                params.staking, emission_per_epoch=0, unbonding_blocks=6, evidence_blocks=3, epoch_blocks=3
            ),
            inference=replace(
                params.inference,
                session_notice_blocks=4,
                session_expiry_blocks=15,
                retention_blocks=5,
                client_bond_blocks=client_bond_blocks,
            ),
        ),
    )


def tell(events: Iterable[Any]) -> list[Told]:
    """Events as the books write them."""
    return [(type(one).__name__, *(getattr(one, field.name) for field in dataclasses.fields(one))) for one in events]


SHORT = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    report_multiple_bugs=False,
)
"""It says what it found as it found it: making a failing run smaller takes minutes, and LONG does it."""

LONG = settings(
    max_examples=100, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


def test_random_blocks() -> None:
    LedgerMachine.seen.clear()
    run_state_machine_as_test(LedgerMachine, settings=SHORT)
    for reason in (
        *("Transfer: done", "Transfer: InsufficientBalance", "BadSignature", "StaleNonce", "FutureNonce"),
        *("OpenSession: done", "TopUpSession: done", "CloseSession: done"),
        *("SessionClosed", "ClientBondReturned", "LeftOver", "BlockFull"),
    ):
        assert LedgerMachine.seen[reason], LedgerMachine.seen


@pytest.mark.nightly
def test_ten_thousand_steps() -> None:
    """Runs of 50 steps until there are enough; hypothesis prints how to run a failing one again."""
    LedgerMachine.steps = 0
    LedgerMachine.seen.clear()
    while LedgerMachine.steps < STEPS_NIGHTLY:
        run_state_machine_as_test(LedgerMachine, settings=LONG)
    print(f"\n{LedgerMachine.steps} steps")
    for what, count in LedgerMachine.seen.most_common():
        print(f"{count:8d} {what}")
    assert all(LedgerMachine.seen[f"{call.__name__}: done"] for call in CALLS), "every call succeeded now and then"
