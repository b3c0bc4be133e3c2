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
from consensus.runtime.errors import BlockError, BlockFull, FutureNonce, InvalidTransaction
from consensus.runtime.inference import audits, deadlines
from consensus.runtime.params import counting
from consensus.runtime.receipts import BlockEvents, ExecutedBlock, ModuleError, Receipt
from consensus.runtime.staking import epoch, slashing
from consensus.runtime.staking.state import read_operator, read_validators
from consensus.runtime.system import calls as system
from consensus.runtime.system.events import ExtrinsicFailed
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
from proto_specs.limits import BLOCK_EXTRINSICS_MAX, BLOCK_INHERENTS_MAX
from proto_specs.types.chain import Evidence, Transaction


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

    The first candidate without room ends the block: a search for smaller ones would have unbounded cost.
    """
    execution = BlockExecution(reader, context, evidence, is_signed)
    taken: list[Transaction] = []
    for candidate in candidates:
        try:
            execution.apply(candidate)
        except BlockFull:
            break
        except InvalidTransaction:
            continue
        taken.append(candidate)
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
        self._limits = read_params(reader)
        self._receipts: list[Receipt] = []
        self._weight = 0
        self._bytes = 0
        self._fees = 0
        self._tips = 0
        if all(member.key != context.proposer for member in read_validators(reader).members):
            raise BlockError("the proposer is not in the validator set")
        system.initialize(self._env)
        epoch.initialize(self._env)
        deadlines.initialize(self._env)
        for count, one in enumerate(evidence, start=1):
            if count > BLOCK_INHERENTS_MAX:
                raise BlockError(f"more than {BLOCK_INHERENTS_MAX} pieces of evidence")
            slashing.apply_evidence(self._env, one)
        self._initialize_events = self._env.take_events()

    def apply(self, transaction: Transaction) -> Receipt:
        """Run a transaction. Raises InvalidTransaction when it cannot be here; a failing call raises nothing."""
        env, block = self._env, self._env.block
        birth_hash = find_birth_hash(env.state, transaction.body, block.height, block.genesis, block.parent_hash)
        checked, account = check_transaction(env.state, transaction, birth_hash, self._is_signed)
        if checked.nonce != checked.expected_nonce:
            raise FutureNonce(
                f"nonce {checked.nonce} comes after {checked.expected_nonce}", expected=checked.expected_nonce
            )
        self._make_room(checked)
        paid = Account(account.nonce + 1, account.free - checked.fee - checked.tip, account.reserved)
        ledger.write_account(env.state, checked.signer, paid)
        self._fees += checked.fee
        self._tips += checked.tip
        error = self._run(transaction)
        receipt = Receipt(checked.extrinsic, error, checked.fee, checked.tip, checked.weight, env.take_events())
        self._receipts.append(receipt)
        return receipt

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
        audits.finalize(env)
        counting.finalize(env)
        system.finalize(env, self._weight)
        events = BlockEvents(self._initialize_events, env.take_events())
        changes = env.state.changes()
        previous = env.state.get_previous(changes)
        return ExecutedBlock(changes, previous, tuple(self._receipts), events, self._weight, self._bytes)

    def _make_room(self, checked: TransactionValidity) -> None:
        """Count the transaction against the block's limits. Raises BlockFull."""
        if len(self._receipts) >= BLOCK_EXTRINSICS_MAX:
            raise BlockFull(f"a block has at most {BLOCK_EXTRINSICS_MAX} transactions")
        if self._weight + checked.weight > self._limits.block_weight_max:
            raise BlockFull(f"weight {checked.weight} is more than the block has left", weight=checked.weight)
        if self._bytes + checked.size_bytes > self._limits.block_bytes_max:
            raise BlockFull(f"{checked.size_bytes} bytes are more than the block has left", bytes=checked.size_bytes)
        self._weight += checked.weight
        self._bytes += checked.size_bytes

    def _run(self, transaction: Transaction) -> ModuleError | None:
        """Run the call; a failure leaves one event and nothing else."""
        error = dispatch.attempt(self._env, transaction.body.signer, transaction.body.call)
        if error is None:
            return None
        self._env.emit(ExtrinsicFailed(error.module, error.name, error.item))
        return ModuleError(error.module, error.name, error.item)
