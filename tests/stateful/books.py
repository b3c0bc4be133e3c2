"""The runtime's modules as plain dicts, one class each (see ledger.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consensus.runtime.balances.state import HoldReason
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.state import SessionStatus
from consensus.runtime.staking import state as staking
from consensus.state.reader import StateReader
from genesis.spec import ChainSpec
from proto_specs.types import calls
from proto_specs.types.calls import ModuleIndex
from proto_specs.types.request import compute_payload_hash, compute_session_id
from tests.stateful.ledger import Book, Ledger, Refused, Told

Handler = Callable[[Ledger, bytes, Any], list[Told]]


def list_books(spec: ChainSpec, models: list[bytes]) -> list[Book]:
    """All books, as of the chain's start. `models` are registered."""
    return [SystemBook(spec), BalancesBook(spec), StakingBook(spec), SessionsBook(spec, models)]


class SystemBook(Book):
    """Remarks."""

    def list_calls(self) -> dict[type, Handler]:
        """See Book."""
        return {calls.Remark: lambda ledger, who, call: [("Remarked", who, compute_payload_hash(call.data))]}


class BalancesBook(Book):
    """Transfers: both sides end with the existential deposit in total, or the sender with nothing."""

    def list_calls(self) -> dict[type, Handler]:
        """See Book."""
        return {calls.Transfer: self._transfer, calls.TransferAll: self._transfer_all}

    def _transfer(self, ledger: Ledger, who: bytes, call: calls.Transfer) -> list[Told]:
        return self._move(ledger, who, call.dest, call.amount)

    def _transfer_all(self, ledger: Ledger, who: bytes, call: calls.TransferAll) -> list[Told]:
        """All that is free; or what leaves the deposit, when the account is to stay or cannot go for what is held."""
        held = ledger.count_total(who) - ledger.free[who]
        kept = max(self.params.balances.existential_deposit - held, 0) if call.keep_alive or held else 0
        return self._move(ledger, who, call.dest, max(ledger.free[who] - kept, 0))

    def _move(self, ledger: Ledger, source: bytes, dest: bytes, amount: int) -> list[Told]:
        least = self.params.balances.existential_deposit
        if amount == 0:
            raise Refused(ModuleIndex.BALANCES, "ZeroAmount")
        ledger.take(source, amount)
        ledger.give(dest, amount)
        left = ledger.count_total(source)
        if ledger.count_total(dest) < least or (0 < left < least):
            raise Refused(ModuleIndex.BALANCES, "BelowExistentialDeposit")
        return [("Transferred", source, dest, amount)]


class StakingBook(Book):
    """Bonded stake, and stake on its way out: `data[who]` is [bonded, [[amount, height], ...]]."""

    reason = HoldReason.STAKE

    def __init__(self, spec: ChainSpec) -> None:
        super().__init__(spec)
        self.data = {one.operator: [one.stake, []] for one in spec.validators}

    def list_calls(self) -> dict[type, Handler]:
        """See Book."""
        return {calls.Bond: self._bond, calls.Unbond: self._unbond, calls.WithdrawUnbonded: self._withdraw}

    def count_held(self, who: bytes) -> int:
        """See Book."""
        bonded, queue = self.data.get(who, (0, ()))
        return int(bonded + sum(amount for amount, _ in queue))

    def compare(self, state: StateReader) -> None:
        """See Book."""
        found = {}
        for (who,), stake in staking.stakes.iterate(state):
            found[who] = [stake.bonded, [[one.amount, one.height] for one in stake.unbonding]]
        assert found == {who: one for who, one in self.data.items() if one != [0, []]}

    def _bond(self, ledger: Ledger, who: bytes, call: calls.Bond) -> list[Told]:
        if call.amount == 0:
            raise Refused(ModuleIndex.STAKING, "ZeroStake")
        ledger.take(who, call.amount)
        self.data.setdefault(who, [0, []])[0] += call.amount
        return [("Bonded", who, call.amount)]

    def _unbond(self, ledger: Ledger, who: bytes, call: calls.Unbond) -> list[Told]:
        stake = self.data.setdefault(who, [0, []])
        if call.amount == 0:
            raise Refused(ModuleIndex.STAKING, "ZeroStake")
        if stake[0] < call.amount:
            raise Refused(ModuleIndex.STAKING, "InsufficientStake")
        if len(stake[1]) == staking.UNBONDING_CHUNKS_MAX:
            raise Refused(ModuleIndex.STAKING, "TooManyUnbonding")
        height = ledger.height + self.params.staking.unbonding_blocks
        stake[0] -= call.amount
        stake[1].append([call.amount, height])
        return [("Unbonded", who, call.amount, height)]

    def _withdraw(self, ledger: Ledger, who: bytes, call: calls.WithdrawUnbonded) -> list[Told]:
        stake = self.data.setdefault(who, [0, []])
        amount = sum(amount for amount, height in stake[1] if height <= ledger.height)
        if amount == 0:
            raise Refused(ModuleIndex.STAKING, "NothingToWithdraw")
        stake[1] = [one for one in stake[1] if one[1] > ledger.height]
        ledger.give(who, amount)
        return [("Withdrawn", who, amount)]


class SessionsBook(Book):
    """Escrows of clients whose requests nobody settles: `data[session]` is [client, escrow, status, height due].

    Without settlements escrow and deposit are one number until the session ends.
    """

    reason = HoldReason.ESCROW

    def __init__(self, spec: ChainSpec, models: list[bytes]) -> None:
        super().__init__(spec)
        self._models = models

    def list_calls(self) -> dict[type, Handler]:
        """See Book."""
        return {
            calls.OpenSession: self._open,
            calls.TopUpSession: self._top_up,
            calls.CloseSession: self._close,
        }

    def begin_block(self, ledger: Ledger) -> list[Told]:
        """Sessions end at their height and are forgotten some blocks later."""
        told: list[Told] = []
        due = sorted(key for key, one in self.data.items() if one[3] == ledger.height)
        for key in due:
            client, escrow, status, height = self.data[key]
            if status == SessionStatus.CLOSED:
                del self.data[key]
                continue
            self.data[key] = [client, 0, SessionStatus.CLOSED, height + self.params.inference.retention_blocks]
            ledger.give(client, escrow)
            told.append(("SessionClosed", key, client, escrow))
        return told

    def count_held(self, who: bytes) -> int:
        """See Book."""
        return sum(one[1] for one in self.data.values() if one[0] == who)

    def compare(self, state: StateReader) -> None:
        """See Book."""
        found = {key: one for (key,), one in inference.sessions.iterate(state)}
        assert sorted(found) == sorted(self.data)
        for key, (client, escrow, status, height) in self.data.items():
            one = found[key]
            assert (one.client, one.escrow, one.status) == (client, escrow, status)
            if status != SessionStatus.CLOSED:
                assert (one.close_height, one.deposit, one.released) == (height, escrow, 0)

    def _open(self, ledger: Ledger, who: bytes, call: calls.OpenSession) -> list[Told]:
        least = max(self.params.inference.session_deposit_min, 1)
        if call.model not in self._models:
            raise Refused(ModuleIndex.INFERENCE, "UnknownModel")
        if call.requests_max == 0:
            raise Refused(ModuleIndex.INFERENCE, "NoRequests")
        if call.deposit < least:
            raise Refused(ModuleIndex.INFERENCE, "DepositTooLow")
        ledger.take(who, call.deposit)
        session, expiry = compute_session_id(who, ledger.nonce), ledger.height + self._expiry
        self.data[session] = [who, call.deposit, SessionStatus.OPEN, expiry]
        return [("SessionOpened", session, who, call.model, call.deposit, expiry)]

    @property
    def _expiry(self) -> int:
        return self.params.inference.session_expiry_blocks

    def _find_open(self, who: bytes, session: bytes) -> list[Any]:
        found: list[Any] | None = self.data.get(session)
        if found is None:
            raise Refused(ModuleIndex.INFERENCE, "UnknownSession")
        if found[0] != who:
            raise Refused(ModuleIndex.INFERENCE, "NotClient")
        if found[2] != SessionStatus.OPEN:
            raise Refused(ModuleIndex.INFERENCE, "SessionNotOpen")
        return found

    def _top_up(self, ledger: Ledger, who: bytes, call: calls.TopUpSession) -> list[Told]:
        found = self._find_open(who, call.session)
        if call.amount == 0:
            raise Refused(ModuleIndex.BALANCES, "ZeroAmount")
        deposit = found[1] + call.amount
        if deposit >= 1 << 64:
            raise Refused(ModuleIndex.INFERENCE, "DepositTooHigh")
        ledger.take(who, call.amount)
        self.data[call.session] = [who, deposit, *found[2:]]
        return [("SessionToppedUp", call.session, who, call.amount, deposit)]

    def _close(self, ledger: Ledger, who: bytes, call: calls.CloseSession) -> list[Told]:
        found = self._find_open(who, call.session)
        height = min(ledger.height + self.params.inference.session_notice_blocks, found[3])
        self.data[call.session] = [who, found[1], SessionStatus.CLOSING, height]
        return [("SessionClosing", call.session, who, height)]
