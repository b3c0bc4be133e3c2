"""The story of a block: start the modules, apply evidence, run the transactions in order, close the modules.

`execute_block` is what every node does with a decided block; `propose_block` does the same and may leave
transactions out. Pure: the state is read through `StateReader`, and the changes are returned.
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus.runtime import dispatch
from consensus.runtime.balances import ledger
from consensus.runtime.balances.events import FeesBurned, TipsPaid
from consensus.runtime.balances.state import Account
from consensus.runtime.context import BlockContext, Environment
from consensus.runtime.errors import BlockError, BlockFull, FutureNonce, InvalidTransaction, Misplaced
from consensus.runtime.fees import compute_fee
from consensus.runtime.inference import audits, deadlines
from consensus.runtime.params import counting
from consensus.runtime.receipts import BlockEvents, ExecutedBlock, ModuleError, Receipt
from consensus.runtime.staking import epoch, slashing, turns
from consensus.runtime.staking.state import read_operator, read_validators
from consensus.runtime.system import calls as system
from consensus.runtime.system.events import ExtrinsicFailed
from consensus.runtime.system.space import BlockSpace, Space
from consensus.runtime.system.state import read_params
from consensus.runtime.validity import (
    SignatureCheck,
    TransactionValidity,
    build_signature_check,
    check_transaction,
    find_birth_hash,
)
from consensus.state.overlay import Overlay
from consensus.state.reader import StateReader
from proto_specs.limits import BLOCK_INHERENTS_MAX
from proto_specs.types.chain import Evidence, Transaction

MISPLACED_MAX = 1_024
"""Failing calls in search of reserved room that a proposer runs for nothing. Most fail at their first check."""


def execute_block(
    reader: StateReader,
    context: BlockContext,
    evidence: Iterable[Evidence],
    transactions: Iterable[Transaction],
    is_signed: SignatureCheck | None = None,
) -> ExecutedBlock:
    """Computes what the block does to the state after its parent. Raises BlockError when the block is invalid."""
    execution = BlockExecution(reader, context, evidence, is_signed)
    for index, transaction in enumerate(transactions):
        try:
            execution.apply(transaction)
        except InvalidTransaction as error:
            raise BlockError(f"transaction {index}: {error.reason}: {error}") from error
    return execution.finish()


def propose_block(
    reader: StateReader,
    context: BlockContext,
    evidence: Iterable[Evidence],
    candidates: Iterable[Transaction],
    is_signed: SignatureCheck | None = None,
) -> tuple[tuple[Transaction, ...], ExecutedBlock]:
    """Returns the candidates that fit in this block, in order, and the result of the block made of them.

    The first candidate without room ends its part of the block, and the lower parts: a search for smaller ones would
    have unbounded cost. For the same reason `MISPLACED_MAX` calls that fail in search of reserved room end their part.
    """
    execution = BlockExecution(reader, context, evidence, is_signed)
    taken: list[Transaction] = []
    misplaced = 0
    for candidate in candidates:
        try:
            execution.apply(candidate)
        except Misplaced:
            misplaced += 1
            if misplaced == MISPLACED_MAX:
                execution.end_part(Space.SETTLEMENT)
        except BlockFull as error:
            execution.end_part(error.details["space"])
        except InvalidTransaction:
            continue
        else:
            taken.append(candidate)
        if execution.is_ended:
            break
    return tuple(taken), execution.finish()


class BlockExecution:
    """A block under construction. A transaction that `apply` refuses leaves no trace."""

    def __init__(
        self,
        reader: StateReader,
        context: BlockContext,
        evidence: Iterable[Evidence],
        is_signed: SignatureCheck | None = None,
    ) -> None:
        """Initialize the modules and apply evidence. Raises BlockError."""
        self._env = Environment(Overlay(reader), context)
        self._is_signed = is_signed or build_signature_check(context.genesis)
        self._receipts: list[Receipt] = []
        self._weight = 0
        self._fees = 0
        self._tips = 0
        if all(member.key != context.proposer for member in read_validators(reader).members):
            raise BlockError("the proposer is not in the validator set")
        system.initialize(self._env)
        epoch.initialize(self._env)
        self._rotation = turns.initialize(self._env)
        params = read_params(reader)
        self._space = BlockSpace(params, deadlines.initialize(self._env))
        for count, one in enumerate(evidence, start=1):
            if count > BLOCK_INHERENTS_MAX:
                raise BlockError(f"more than {BLOCK_INHERENTS_MAX} pieces of evidence")
            slashing.apply_evidence(self._env, one)
        self._initialize_events = self._env.take_events()

    def apply(self, transaction: Transaction) -> Receipt:
        """Run a transaction. Raises InvalidTransaction when it cannot be here; a failing call raises nothing.

        A call that fails is common, whatever it would have been: Misplaced when it has no room as such.
        """
        env, block = self._env, self._env.block
        birth_hash = find_birth_hash(env.state, transaction.body, block.height, block.genesis, block.parent_hash)
        checked, account = check_transaction(env.state, transaction, birth_hash, self._is_signed)
        if checked.nonce != checked.expected_nonce:
            raise FutureNonce(
                f"nonce {checked.nonce} comes after {checked.expected_nonce}", expected=checked.expected_nonce
            )
        space = checked.space
        lack = self._space.find_lack(space, checked.weight, checked.size_bytes)
        if lack is not None:
            raise BlockFull(lack, space=space)
        is_common = self._space.find_lack(Space.COMMON, checked.weight, checked.size_bytes) is None
        inner_calls = env.inner_calls
        env.state.begin()
        paid = Account(account.nonce + 1, account.free - checked.fee - checked.tip, account.reserved)
        ledger.write_account(env.state, checked.signer, paid)
        error = self._run(transaction)
        if error is not None and not is_common:
            env.state.rollback()
            env.inner_calls = inner_calls
            env.take_events()
            raise Misplaced(f"the call fails ({error.error}) and only reserved room is left")
        fee = checked.fee
        if error is None and space == Space.DUTY:
            fee = self._compute_least_fee(checked)
            ledger.credit(env.state, checked.signer, checked.fee - fee)
        env.state.commit()
        self._space.take(checked.weight, checked.size_bytes)
        self._weight += checked.weight
        self._fees += fee
        self._tips += checked.tip
        receipt = Receipt(checked.extrinsic, error, fee, checked.tip, checked.weight, env.take_events())
        self._receipts.append(receipt)
        return receipt

    @property
    def is_ended(self) -> bool:
        """Whether no part of the block takes another transaction."""
        return self._space.ended == Space.DUTY

    def end_part(self, space: Space) -> None:
        """Take no more transactions of this part and the lower ones, though smaller ones might fit."""
        self._space.end(space)

    def finish(self) -> ExecutedBlock:
        """Finalize the modules and hand over the result."""
        env = self._env
        operator = read_operator(env.state, env.block.proposer)
        assert operator is not None, "validators are registered with their operator"
        if self._tips:
            ledger.credit(env.state, operator, self._tips)
            env.emit(TipsPaid(operator, self._tips))
        if self._fees:
            ledger.shrink_issuance(env.state, self._fees)
            env.emit(FeesBurned(self._fees))
        epoch.finalize(env)
        turns.finalize(env, self._rotation)
        audits.finalize(env)
        counting.finalize(env)
        system.finalize(env, self._weight, self._space)
        events = BlockEvents(self._initialize_events, env.take_events())
        changes = env.state.changes()
        previous = env.state.get_previous(changes)
        return ExecutedBlock(changes, previous, tuple(self._receipts), events, self._weight, self._space.bytes)

    def _compute_least_fee(self, checked: TransactionValidity) -> int:
        """What a duty that succeeded pays: its fee, at the least price of weight (space.py)."""
        params = read_params(self._env.state)
        return compute_fee(params, params.weight_price_min, checked.size_bytes, checked.weight)

    def _run(self, transaction: Transaction) -> ModuleError | None:
        """Run the call; a failure leaves one event and nothing else."""
        error = dispatch.attempt(self._env, transaction.body.signer, transaction.body.call)
        if error is None:
            return None
        self._env.emit(ExtrinsicFailed(error.module, error.name, error.item))
        return ModuleError(error.module, error.name, error.item)
