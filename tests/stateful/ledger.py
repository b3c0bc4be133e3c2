"""The plain-dict ledger: what every block does to everybody's money, written a second time, as simply as can be.

`Ledger` knows accounts, nonces, fees, tips, mortality and the room in a block. Each runtime module is a `Book`: one
class with its calls, what falls due at the start of a block, and what it holds of whose money. To add a module, write
its class in `books.py` and name it in `list_books`; the machine in `test_ledger.py` needs a strategy for its calls.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from consensus.runtime.balances import state as balances
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.system.state import SystemParams, read_weight_price
from consensus.runtime.weights import compute_weight
from consensus.state.reader import StateReader
from genesis.spec import ChainSpec
from proto_specs.codec import encode
from proto_specs.limits import BLOCK_EXTRINSICS_MAX, MORTALITY_BLOCKS_MAX
from proto_specs.types.calls import ModuleIndex
from proto_specs.types.chain import Transaction, compute_extrinsic_hash

Told = tuple[Any, ...]
"""An event: its name, then its fields."""


class Refused(Exception):
    """A call fails so."""

    def __init__(self, module: ModuleIndex, error: str) -> None:
        super().__init__(error)
        self.module, self.error = module, error


class Book:
    """One module's part. `data` is all it remembers: it is copied before a call and put back when the call fails."""

    def __init__(self, spec: ChainSpec) -> None:
        self.params = spec.params
        self.data: dict[Any, Any] = {}

    def list_calls(self) -> dict[type, Callable[[Ledger, bytes, Any], list[Told]]]:
        """Handlers by call: (ledger, signer, call) -> events. They raise Refused."""
        return {}

    def begin_block(self, ledger: Ledger) -> list[Told]:
        """What falls due at `ledger.height`, before the first transaction; the events of it.

        What it weighs is added to `ledger.due_weight`.
        """
        return []

    def list_held(self, who: bytes) -> dict[HoldReason, int]:
        """What it holds of an account, by what it is held for: every reason that is its own, with 0 too."""
        return {}

    def count_held(self, who: bytes) -> int:
        """All that it holds of an account."""
        return sum(self.list_held(who).values())

    def compare(self, state: StateReader) -> None:
        """Asserts that the chain remembers the same."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a transaction's receipt has to say."""

    extrinsic: bytes
    error: tuple[int, str] | None
    fee: int
    tip: int
    weight: int
    events: list[Told]


@dataclass(slots=True)
class Forecast:
    """What a block has to be: who is in it and why others are not, and what it tells."""

    taken: list[Transaction] = field(default_factory=list)
    refused: list[tuple[int, Transaction, str]] = field(default_factory=list)
    """(transactions taken before it, the transaction, the reason)."""

    receipts: list[Expected] = field(default_factory=list)
    initialize: list[Told] = field(default_factory=list)
    finalize: list[Told] = field(default_factory=list)


class Ledger:
    """Everybody's money after the last block."""

    def __init__(self, spec: ChainSpec, genesis: bytes, state: StateReader, books: Iterable[Book]) -> None:
        """Start from the accounts of `state`."""
        self.spec = spec
        self.genesis = genesis
        self.books = list(books)
        self.free: dict[bytes, int] = {}
        self.nonces: dict[bytes, int] = {}
        for (who,), account in balances.accounts.iterate(state):
            self.free[who], self.nonces[who] = account.free, account.nonce
        self.weight_price = read_weight_price(state)
        self.height = 0
        self.nonce = 0
        """Of the transaction whose call runs."""

        self.due_weight = 0
        """Of the block's start; it takes room from transactions and does not move the price."""

        self.handlers = {call: handler for book in self.books for call, handler in book.list_calls().items()}

    @property
    def issuance(self) -> int:
        """All the money there is."""
        everybody = self.free.keys() | self.nonces.keys()
        return sum(self.count_total(who) for who in everybody)

    def count_total(self, who: bytes) -> int:
        """Free and held."""
        return self.free.get(who, 0) + sum(book.count_held(who) for book in self.books)

    def take(self, who: bytes, amount: int) -> None:
        """Free balance goes somewhere else."""
        if self.free.get(who, 0) < amount:
            raise Refused(ModuleIndex.BALANCES, "InsufficientBalance")
        self.free[who] -= amount

    def give(self, who: bytes, amount: int) -> None:
        """Free balance comes from somewhere else."""
        self.free[who] = self.free.get(who, 0) + amount

    def attempt(self, signer: bytes, call: Any) -> list[Told]:
        """Run a call; raises Refused with everything as it was."""
        saved = copy.deepcopy((self.free, [book.data for book in self.books]))
        try:
            return self.handlers[type(call)](self, signer, call)
        except Refused:
            self.free, kept = saved
            for book, data in zip(self.books, kept, strict=True):
                book.data = data
            raise

    def run_block(self, height: int, operator: bytes, candidates: Iterable[tuple[Transaction, bool]]) -> Forecast:
        """The block made of candidates, each with whether its signature is right. `operator` gets the tips."""
        self.height, self.due_weight = height, 0
        made, system = Forecast(), self.spec.params.system
        for book in self.books:
            made.initialize += book.begin_block(self)
        weight = size = 0
        for one, is_signed in candidates:
            own_weight, own_size = compute_weight(one), len(encode(one))
            fee = system.fee_base + own_size * system.byte_price + own_weight * self.weight_price
            reason = self._refuse(one, fee, is_signed, own_weight)
            if reason is not None:
                made.refused.append((len(made.taken), one, reason))
                continue
            room = system.block_weight_max - self.due_weight
            is_full = weight + own_weight > room or size + own_size > system.block_bytes_max
            if is_full or len(made.taken) == BLOCK_EXTRINSICS_MAX:
                made.refused.append((len(made.taken), one, "BlockFull"))
                break
            weight, size = weight + own_weight, size + own_size
            made.taken.append(one)
            made.receipts.append(self._run(one, fee, own_weight))
        self._finish(made, operator, system, weight)
        return made

    def _refuse(self, one: Transaction, fee: int, is_signed: bool, weight: int) -> str | None:
        """Why a transaction cannot be in block `height`."""
        body = one.body
        if body.period_blocks > MORTALITY_BLOCKS_MAX:
            return "UnknownBirth"
        if body.period_blocks and body.birth_height >= self.height:
            return "NotYetBorn"
        if body.period_blocks and body.birth_height + body.period_blocks < self.height:
            return "Expired"
        nonce = self.nonces.get(body.signer, 0)
        if weight > self.spec.params.system.block_weight_max:
            return "TooLarge"
        if body.nonce < nonce:
            return "StaleNonce"
        if self.free.get(body.signer, 0) < fee + body.tip:
            return "CannotPayFee"
        if not is_signed:
            return "BadSignature"
        return "FutureNonce" if body.nonce > nonce else None

    def _run(self, one: Transaction, fee: int, weight: int) -> Expected:
        body, error = one.body, None
        self.nonces[body.signer] = body.nonce + 1
        self.nonce = body.nonce
        self.free[body.signer] -= fee + body.tip
        try:
            events = self.attempt(body.signer, body.call)
        except Refused as refused:
            error = (int(refused.module), refused.error)
            events = [("ExtrinsicFailed", *error)]
        return Expected(compute_extrinsic_hash(one), error, fee, body.tip, weight, events)

    def _finish(self, made: Forecast, operator: bytes, system: SystemParams, weight: int) -> None:
        tips, fees = sum(one.tip for one in made.receipts), sum(one.fee for one in made.receipts)
        if tips:
            self.give(operator, tips)
            made.finalize.append(("TipsPaid", operator, tips))
        if fees:
            made.finalize.append(("FeesBurned", fees))
        target = system.block_weight_max * system.fullness_target_permille // 1_000
        step = self.weight_price * abs(weight - target) // target // system.weight_price_change_denominator
        price = self.weight_price + max(step, 1) if weight > target else self.weight_price - step
        self.weight_price = max(system.weight_price_min, min(price, system.weight_price_max))

    def compare(self, state: StateReader) -> None:
        """Asserts that the chain has the same accounts, holds, issuance and prices, nothing more and nothing less."""
        found = {who: account for (who,), account in balances.accounts.iterate(state)}
        everybody = sorted(found.keys() | self.free.keys() | self.nonces.keys())
        for who in everybody:
            account = found.get(who, balances.EMPTY_ACCOUNT)
            held = sum(book.count_held(who) for book in self.books)
            expected = (self.nonces.get(who, 0), self.free.get(who, 0), held)
            assert (account.nonce, account.free, account.reserved) == expected, who.hex()
            for book in self.books:
                for reason, amount in book.list_held(who).items():
                    assert balances.read_hold(state, who, reason) == amount
        assert balances.read_issuance(state) == self.issuance
        assert read_weight_price(state) == self.weight_price
        for book in self.books:
            book.compare(state)
