"""A chain in memory for tests: blocks of calls, with every invariant of money checked after each block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from consensus.runtime.balances import state as balances
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.context import BlockContext
from consensus.runtime.errors import CallError
from consensus.runtime.executive import execute_block
from consensus.runtime.inference import committee_state as committees
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.state import SessionStatus, StageStatus, WorkerStatus
from consensus.runtime.multisig import state as multisig
from consensus.runtime.params import state as governance
from consensus.runtime.receipts import ExecutedBlock, ModuleError, Receipt
from consensus.runtime.staking import pool_state, turns
from consensus.runtime.staking import state as staking
from consensus.state.reader import DictState, StateReader
from genesis.builder import build_genesis
from genesis.dev import DevIdentity, get_dev_identity
from genesis.spec import ChainSpec
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import (
    Commit,
    CommitSignature,
    Evidence,
    Transaction,
    TransactionBody,
    sign_transaction,
)


class Chain:
    """A chain whose blocks are made of calls. `signed_by` of a block: who signed the parent (default: everybody)."""

    def __init__(self, spec: ChainSpec, proposer: str = "alice") -> None:
        self.spec = spec
        self.genesis = build_genesis(spec)
        self.state = DictState(dict(self.genesis.items))
        self.proposer = get_dev_identity(proposer)
        self.height = 0
        self.last: ExecutedBlock | None = None
        check_invariants(self.state)

    def context(self, signed_by: Iterable[bytes] | None = None) -> BlockContext:
        """The context of the next block; beacons and hashes are derived from the height."""
        height = self.height + 1
        return BlockContext(
            height=height,
            time_ms=self.spec.genesis_time_ms + height * 1_000,
            proposer=self.find_turn(),
            beacon=compute_beacon(height),
            genesis=self.genesis.hash,
            parent_hash=self.block_hash(self.height),
            last_commit=self._commit(signed_by) if self.height else None,
        )

    def find_turn(self) -> bytes:
        """Whose turn it is to propose the next block."""
        return turns.read_rotation(self.state).get_proposer()

    def block_hash(self, height: int) -> bytes:
        """The hash of a block; of block 0 it is the genesis hash."""
        return hash_tagged(Tag.HEADER, height.to_bytes(8, "big")) if height else self.genesis.hash

    def sign(self, who: DevIdentity, call: Any, nonce: int | None = None, **fields: Any) -> Transaction:
        """A transaction of `who`, with its next nonce unless given; `fields` of the body: tip, birth_height, ..."""
        if nonce is None:
            nonce = balances.read_account(self.state, who.account).nonce
        body = TransactionBody(
            signer=who.account,
            nonce=nonce,
            call=call,
            tip=fields.get("tip", 0),
            birth_height=fields.get("birth_height", 0),
            period_blocks=fields.get("period_blocks", 0),
        )
        birth_hash = self.block_hash(body.birth_height) if body.period_blocks else self.genesis.hash
        return sign_transaction(body, self.genesis.hash, birth_hash, who.account_key)

    def block(
        self,
        transactions: Sequence[Transaction] = (),
        evidence: Sequence[Evidence] = (),
        signed_by: Iterable[bytes] | None = None,
    ) -> ExecutedBlock:
        """Execute and apply one block."""
        executed = execute_block(self.state, self.context(signed_by), evidence, transactions)
        self.state.apply(executed.changes)
        self.height += 1
        self.last = executed
        check_invariants(self.state)
        return executed

    def skip(self, blocks: int) -> list[Any]:
        """Empty blocks; returns all their events."""
        events: list[Any] = []
        for _ in range(blocks):
            executed = self.block()
            events += [*executed.events.initialize, *executed.events.finalize]
        return events

    def submit(self, who: DevIdentity, call: Any) -> Receipt:
        """One block with one call."""
        return self.block([self.sign(who, call)]).receipts[0]

    def expect_ok(self, who: DevIdentity, call: Any) -> Receipt:
        """One block with one call that succeeds."""
        receipt = self.submit(who, call)
        assert receipt.error is None, receipt.error
        return receipt

    def expect_error(self, who: DevIdentity, call: Any, error: type[CallError]) -> None:
        """One block with one call that fails so, pays its fee and leaves everything else as an empty block would."""
        empty = DictState(dict(self.state.items))
        empty.apply(execute_block(self.state, self.context(), (), ()).changes)
        receipt = self.submit(who, call)
        assert receipt.error == ModuleError(error.module, error.__name__), receipt.error
        assert [type(one).__name__ for one in receipt.events] == ["ExtrinsicFailed"]
        assert receipt.fee > 0
        before = balances.read_account(empty, who.account)
        after = balances.read_account(self.state, who.account)
        assert after == balances.Account(before.nonce + 1, before.free - receipt.fee, before.reserved)
        assert balances.read_issuance(self.state) == balances.read_issuance(empty) - receipt.fee
        charged = {balances.accounts.key(who.account), balances.issuance.key, b"system.weight_price:"}
        keys = self.state.items.keys() | empty.items.keys()
        differing = {key for key in keys if self.state.get(key) != empty.get(key)}
        assert differing <= charged, differing - charged

    def free(self, who: DevIdentity) -> int:
        """Free balance in nmyl."""
        return balances.read_account(self.state, who.account).free

    def _commit(self, signed_by: Iterable[bytes] | None) -> Commit:
        members = staking.read_validators(self.state).members
        keys = sorted(signed_by if signed_by is not None else (member.key for member in members))
        signatures = tuple(CommitSignature(key, bytes(64)) for key in keys)
        return Commit(self.height, 0, self.block_hash(self.height), signatures)


def compute_beacon(height: int) -> bytes:
    """The beacon of a block in these tests."""
    return hash_tagged(Tag.BEACON, height.to_bytes(8, "big"))


def check_invariants(state: StateReader) -> None:
    """Money is conserved, holds are what the modules' records say, exposure is what is open."""
    accounts = {key[0]: account for key, account in balances.accounts.iterate(state)}
    total = sum(one.free + one.reserved for one in accounts.values())
    assert total == balances.read_issuance(state), "issuance is not the sum of the accounts"
    holds: Counter[tuple[bytes, int]] = Counter()
    for (who, reason), amount in balances.holds.iterate(state):
        holds[who, reason] = amount
    for who, account in accounts.items():
        assert account.reserved == sum(amount for (owner, _), amount in holds.items() if owner == who)
    assert holds == _expected_holds(state)
    _check_exposure(state)
    _check_roster(state)
    _check_sequences(state)
    _check_seats(state)


def _expected_holds(state: StateReader) -> Counter[tuple[bytes, int]]:
    holds: Counter[tuple[bytes, int]] = Counter()
    for (who,), stake in staking.stakes.iterate(state):
        holds[who, HoldReason.STAKE] += stake.bonded + sum(one.amount for one in stake.unbonding)
    for (validator,), pool in pool_state.pools.iterate(state):
        holds[pool_state.compute_pool_account(validator), HoldReason.DELEGATION] += pool.tokens + pool.rewards
    for (who,), queue in pool_state.leaving.iterate(state):
        holds[who, HoldReason.DELEGATION] += sum(one.amount for one in queue.entries)
    for _, worker in inference.workers.iterate(state):
        holds[worker.operator, HoldReason.WORKER_BOND] += worker.bond
    for _, session in inference.sessions.iterate(state):
        assert session.escrow == 0 or session.status != SessionStatus.CLOSED
        holds[session.client, HoldReason.ESCROW] += session.escrow
        holds[session.client, HoldReason.CLIENT_BOND] += session.bond
    for _, request in inference.requests.iterate(state):
        assert request.returned <= request.price
        holds[request.client, HoldReason.ESCROW] += request.escrow
    for _, deposit in committees.deposits.iterate(state):
        holds[deposit.settler, HoldReason.VERIFICATION_DEPOSIT] += deposit.per_stage * deposit.stages
    for _, operation in multisig.operations.iterate(state):
        holds[operation.opener, HoldReason.MULTISIG_DEPOSIT] += operation.deposit
    for _, proposal in governance.proposals.iterate(state):
        holds[proposal.proposer, HoldReason.PROPOSAL_DEPOSIT] += proposal.deposit
    return +holds


def _check_roster(state: StateReader) -> None:
    """Active workers and only they have a number, from 0 on without a gap."""
    numbered = {worker: number for (number,), worker in inference.roster.iterate(state)}
    assert sorted(numbered.values()) == list(range(inference.roster_size.read(state)))
    assert numbered == {key: number for (key,), number in inference.roster_numbers.iterate(state)}
    assert numbered.keys() == {
        key for (key,), worker in inference.workers.iterate(state) if worker.status == WorkerStatus.ACTIVE
    }


def _check_sequences(state: StateReader) -> None:
    """A number of a session is used for each request that it has settled, and each kept request is found by its own."""
    used: Counter[bytes] = Counter()
    for (session, _), chunk in inference.sequences_used.iterate(state):
        used[session] += int.from_bytes(chunk, "little").bit_count()
    settled = {key: session.requests_settled for (key,), session in inference.sessions.iterate(state)}
    assert used == Counter(settled)
    kept = {(one.session, one.sequence): key for (key,), one in inference.requests.iterate(state)}
    assert kept == dict(inference.requests_by_session.iterate(state))


def _check_seats(state: StateReader) -> None:
    """Every verifier's open seats are counted, and who has as many as there may be is known."""
    counted = {account: number for (account,), number in committees.seat_counts.iterate(state)}
    assert counted == Counter(account for account, _ in inference.open_challenges.iterate(state))
    most = inference.params.read(state).open_challenges_max
    full = {account for (account,) in committees.full_benches.iterate(state)}
    assert full == {account for account, number in counted.items() if number >= most}


def _check_exposure(state: StateReader) -> None:
    open_stages: Counter[bytes] = Counter()
    unresolved: Counter[bytes] = Counter()
    for _, request in inference.requests.iterate(state):
        waiting = [one for one in request.stages if one.status in (StageStatus.AWAITING_DRAW, StageStatus.CHALLENGED)]
        assert len(waiting) == request.open_stages
        for stage in waiting:
            open_stages[stage.worker] += 1
            unresolved[stage.worker] += stage.gross
    for (key,), worker in inference.workers.iterate(state):
        assert (worker.open_stages, worker.unresolved) == (open_stages[key], unresolved[key])
