"""Blocks of the real runtime in memory: what is pending, who proposes, what the block did. Knows no actors.

Transactions are not signed: the runtime's own hook for signatures says yes. Everything else of a transaction is real:
nonce, bytes, weight, fee. Orders, vouchers, roots and statements are signed and checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from consensus.runtime.balances.state import read_account
from consensus.runtime.context import BlockContext
from consensus.runtime.executive import propose_block
from consensus.runtime.receipts import ExecutedBlock, Receipt
from consensus.runtime.staking.state import read_validators
from consensus.runtime.staking.turns import read_rotation
from genesis.builder import build_genesis
from genesis.spec import ChainSpec
from node.sim.economy.ordered_state import OrderedState
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import Commit, CommitSignature, Transaction, TransactionBody

SIGNATURE = bytes(64)
PENDING_BLOCKS = 200
"""A transaction that found no way into a block for so long is dropped."""
ROUNDS_MAX = 8


@dataclass(slots=True, eq=False)
class PendingCall:
    """A call on its way into a block. `on_receipt` hears of it once it is in one."""

    signer: bytes
    call: Any
    tip: int
    born: int
    on_receipt: Callable[[Receipt], None] | None
    is_verdict: bool


@dataclass(slots=True)
class MadeBlock:
    """A block and what it told: receipts in order, and all events in the order they happened."""

    height: int
    round: int
    executed: ExecutedBlock
    calls: list[PendingCall]

    def iterate_events(self) -> Iterator[Any]:
        """Every event."""
        yield from self.executed.events.initialize
        for receipt in self.executed.receipts:
            yield from receipt.events
        yield from self.executed.events.finalize


Declines = Callable[[bytes, ExecutedBlock], bool]
"""(the proposer's consensus key, the block it could propose) -> whether it would rather not."""
Censors = Callable[[bytes, PendingCall], bool]
"""(the proposer's consensus key, a call) -> whether it leaves the call out."""


@dataclass(slots=True)
class SimLedger:
    """The chain. `fees` and `failures` are by signer; a failure is an included call that the runtime refused."""

    spec: ChainSpec
    seed: int
    state: OrderedState = field(init=False)
    genesis: bytes = field(init=False)
    height: int = 0
    pending: list[PendingCall] = field(default_factory=list)
    fees: dict[bytes, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    weight: int = 0
    transactions: int = 0
    declines: Declines | None = None
    censors: Censors | None = None
    beacon: bytes = b""

    def __post_init__(self) -> None:
        built = build_genesis(self.spec)
        self.state, self.genesis, self.beacon = OrderedState(dict(built.items)), built.hash, built.beacon

    def submit(
        self,
        signer: bytes,
        call: Any,
        tip: int = 0,
        on_receipt: Callable[[Receipt], None] | None = None,
        *,
        is_verdict: bool = False,
    ) -> PendingCall:
        """Put a call into the pool; the nonce is given when a block takes it."""
        pending = PendingCall(signer, call, tip, self.height, on_receipt, is_verdict)
        self.pending.append(pending)
        return pending

    def withdraw(self, signer: bytes) -> None:
        """Take a signer's pending calls back."""
        self.pending = [one for one in self.pending if one.signer != signer]

    def make_block(self) -> MadeBlock:
        """The next block, by the first proposer that does not decline."""
        rotation = read_rotation(self.state)
        for round_ in range(ROUNDS_MAX):
            proposer = rotation.get_proposer(round_)
            context = self._make_context(proposer, round_)
            taken, executed = self._propose(context)
            if self.declines is None or round_ == ROUNDS_MAX - 1 or not self.declines(proposer, executed):
                break
        self.height, self.beacon = context.height, context.beacon
        self.state.apply(executed.changes)
        self.weight += executed.weight
        self.transactions += len(taken)
        self._note(taken, executed.receipts)
        return MadeBlock(self.height, round_, executed, taken)

    def read_nonce(self, account: bytes) -> int:
        """The account's next nonce, pending calls not counted."""
        return read_account(self.state, account).nonce

    def hash_block(self, height: int) -> bytes:
        """The hash of a block; of block 0 it is the genesis hash."""
        return hash_tagged(Tag.HEADER, height.to_bytes(8, "big")) if height else self.genesis

    def _make_context(self, proposer: bytes, round_: int) -> BlockContext:
        """A beacon for each proposer: it knows its own beforehand, and can only withhold it."""
        height = self.height + 1
        drawn = self.seed.to_bytes(8, "big") + proposer
        return BlockContext(
            height=height,
            time_ms=self.spec.genesis_time_ms + height * self.spec.block_interval_ms,
            proposer=proposer,
            beacon=hash_tagged(Tag.BEACON, self.beacon + drawn),
            genesis=self.genesis,
            parent_hash=self.hash_block(self.height),
            last_commit=self._make_commit() if self.height else None,
        )

    def _make_commit(self) -> Commit:
        keys = sorted(member.key for member in read_validators(self.state).members)
        signatures = tuple(CommitSignature(key, SIGNATURE) for key in keys)
        return Commit(self.height, 0, self.hash_block(self.height), signatures)

    def _propose(self, context: BlockContext) -> tuple[list[PendingCall], ExecutedBlock]:
        offered: dict[tuple[bytes, int], PendingCall] = {}

        def offer() -> Iterator[Transaction]:
            nonces: dict[bytes, int] = {}
            for one in self._rank(context.proposer):
                nonce = nonces.get(one.signer)
                if nonce is None:
                    nonce = read_account(self.state, one.signer).nonce
                nonces[one.signer] = nonce + 1
                offered[one.signer, nonce] = one
                yield Transaction(TransactionBody(one.signer, nonce, one.call, one.tip, 0, 0), SIGNATURE)

        taken, executed = propose_block(self.state, context, (), offer(), _is_signed)
        return [offered[one.body.signer, one.body.nonce] for one in taken], executed

    def _rank(self, proposer: bytes) -> Sequence[PendingCall]:
        """By tip, then by age; the order of one signer's calls stays."""
        if self.censors is None:
            offered = self.pending
        else:
            offered = [one for one in self.pending if not self.censors(proposer, one)]
        return sorted(offered, key=lambda one: -one.tip)

    def _note(self, taken: list[PendingCall], receipts: Sequence[Receipt]) -> None:
        for one, receipt in zip(taken, receipts, strict=True):
            self.fees[one.signer] = self.fees.get(one.signer, 0) + receipt.fee + receipt.tip
            if receipt.error is not None:
                what = f"{type(one.call).__name__}: {receipt.error.error}"
                self.failures[what] = self.failures.get(what, 0) + 1
            if one.on_receipt is not None:
                one.on_receipt(receipt)
        done = set(map(id, taken))
        kept = [one for one in self.pending if id(one) not in done]
        self.pending = [one for one in kept if self.height - one.born <= PENDING_BLOCKS]
        self.dropped += len(kept) - len(self.pending)


def _is_signed(_transaction: Transaction, _extrinsic: bytes, _birth_hash: bytes) -> bool:
    return True
