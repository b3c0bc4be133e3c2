"""The runtime's modules as plain dicts, one class each (see ledger.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consensus.runtime.balances.state import HoldReason
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.due_weights import LOOK_WEIGHT, compute_due_weight
from consensus.runtime.inference.state import DueKind, SessionStatus
from consensus.runtime.staking import state as staking
from consensus.state.reader import StateReader
from genesis.spec import ChainSpec
from proto_specs.limits import SESSION_SEQUENCES_MAX
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

    def __init__(self, spec: ChainSpec) -> None:
        super().__init__(spec)
        self.data = {one.operator: [one.stake, []] for one in spec.validators}

    def list_calls(self) -> dict[type, Handler]:
        """See Book."""
        return {calls.Bond: self._bond, calls.Unbond: self._unbond, calls.WithdrawUnbonded: self._withdraw}

    def list_held(self, who: bytes) -> dict[HoldReason, int]:
        """See Book."""
        bonded, queue = self.data.get(who, (0, ()))
        return {HoldReason.STAKE: bonded + sum(amount for amount, _ in queue)}

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
    """Escrows and bonds of clients whose requests nobody settles.

    `data` has "sessions": [client, escrow, bond, status, height] each, the height being the one it closes or closed at;
    "due": {(height, kind, session)}; "left": the height that work left over begins at, or 0. Without settlements escrow
    and deposit are one number until the session ends. No block of these has a reserved part, so no end is put off.
    """

    def __init__(self, spec: ChainSpec, models: list[bytes]) -> None:
        super().__init__(spec)
        self._models = models
        self.data = {"sessions": {}, "due": set(), "left": 0}

    def list_calls(self) -> dict[type, Handler]:
        """See Book."""
        return {
            calls.OpenSession: self._open,
            calls.TopUpSession: self._top_up,
            calls.CloseSession: self._close,
        }

    def begin_block(self, ledger: Ledger) -> list[Told]:
        """What is due is done in order as far as the block's share for it goes; its first item is done anyhow."""
        told: list[Told] = []
        system, due = self.params.system, self.data["due"]
        most, used = system.block_weight_max * system.due_permille // 1_000, 0
        is_first, begin = True, self.data["left"] or ledger.height
        self.data["left"] = 0
        for at in range(begin, ledger.height + 1):
            for one in sorted(one for one in due if one[0] == at):
                _, kind, session = one
                weight = compute_due_weight(kind, 1 if kind == DueKind.FORGET_SESSION else 0)
                if not is_first and used + weight > most:
                    self.data["left"] = at
                    ledger.due_weight = used
                    return told
                is_first, used = False, used + weight
                due.remove(one)
                told += self._do(ledger, kind, session)
            used += LOOK_WEIGHT if at < ledger.height else 0
        ledger.due_weight = used
        return told

    def _do(self, ledger: Ledger, kind: DueKind, key: bytes) -> list[Told]:
        """Sessions end, bonds return some blocks later, and sessions are forgotten with what is left of a bond."""
        sessions, params = self.data["sessions"], self.params.inference
        client, escrow, bond, _, _ = sessions.get(key, (b"", 0, 0, None, None))
        if kind == DueKind.SESSION_CLOSE:
            sessions[key] = [client, 0, bond, SessionStatus.CLOSED, ledger.height]
            self.data["due"].add((ledger.height + params.retention_blocks, DueKind.FORGET_SESSION, key))
            if bond:
                self.data["due"].add((ledger.height + params.client_bond_blocks, DueKind.CLIENT_BOND_RETURN, key))
            ledger.give(client, escrow)
            return [("SessionClosed", key, client, escrow)]
        if bond:
            sessions[key][2] = 0
            ledger.give(client, bond)
        if kind == DueKind.FORGET_SESSION:
            del sessions[key]
        return [("ClientBondReturned", key, client, bond)] if bond else []

    def list_held(self, who: bytes) -> dict[HoldReason, int]:
        """See Book."""
        own = [one for one in self.data["sessions"].values() if one[0] == who]
        return {HoldReason.ESCROW: sum(one[1] for one in own), HoldReason.CLIENT_BOND: sum(one[2] for one in own)}

    def compare(self, state: StateReader) -> None:
        """See Book."""
        found = {key: one for (key,), one in inference.sessions.iterate(state)}
        expected = self.data["sessions"]
        assert sorted(found) == sorted(expected)
        for key, written in expected.items():
            one = found[key]
            assert [one.client, one.escrow, one.bond, one.status, one.close_height] == written
            assert (one.released, one.is_convicted, one.paused_before) == (0, False, 0)
            if one.status != SessionStatus.CLOSED:
                assert one.deposit == one.escrow
        assert set(inference.due.iterate(state)) == self.data["due"]
        assert inference.due_from.read(state) == self.data["left"]

    def _bond(self, amount: int) -> int:
        return amount * self.params.inference.client_bond_permille // 1_000

    def _open(self, ledger: Ledger, who: bytes, call: calls.OpenSession) -> list[Told]:
        least = max(self.params.inference.session_deposit_min, 1)
        if call.model not in self._models:
            raise Refused(ModuleIndex.INFERENCE, "UnknownModel")
        if call.requests_max == 0:
            raise Refused(ModuleIndex.INFERENCE, "NoRequests")
        if call.requests_max > SESSION_SEQUENCES_MAX:
            raise Refused(ModuleIndex.INFERENCE, "RequestsBeyondNumbers")
        if call.deposit < least:
            raise Refused(ModuleIndex.INFERENCE, "DepositTooLow")
        bond = self._bond(call.deposit)
        ledger.take(who, call.deposit + bond)
        session, expiry = compute_session_id(who, ledger.nonce), ledger.height + self._expiry
        self.data["sessions"][session] = [who, call.deposit, bond, SessionStatus.OPEN, expiry]
        self.data["due"].add((expiry, DueKind.SESSION_CLOSE, session))
        return [("SessionOpened", session, who, call.model, call.deposit, expiry)]

    @property
    def _expiry(self) -> int:
        return self.params.inference.session_expiry_blocks

    def _find_open(self, who: bytes, session: bytes) -> list[Any]:
        found: list[Any] | None = self.data["sessions"].get(session)
        if found is None:
            raise Refused(ModuleIndex.INFERENCE, "UnknownSession")
        if found[0] != who:
            raise Refused(ModuleIndex.INFERENCE, "NotClient")
        if found[3] != SessionStatus.OPEN:
            raise Refused(ModuleIndex.INFERENCE, "SessionNotOpen")
        return found

    def _top_up(self, ledger: Ledger, who: bytes, call: calls.TopUpSession) -> list[Told]:
        found = self._find_open(who, call.session)
        if call.amount == 0:
            raise Refused(ModuleIndex.BALANCES, "ZeroAmount")
        deposit, bond = found[1] + call.amount, self._bond(call.amount)
        if deposit >= 1 << 64:
            raise Refused(ModuleIndex.INFERENCE, "DepositTooHigh")
        ledger.take(who, call.amount + bond)
        self.data["sessions"][call.session] = [who, deposit, found[2] + bond, *found[3:]]
        return [("SessionToppedUp", call.session, who, call.amount, deposit)]

    def _close(self, ledger: Ledger, who: bytes, call: calls.CloseSession) -> list[Told]:
        found = self._find_open(who, call.session)
        height = min(ledger.height + self.params.inference.session_notice_blocks, found[4])
        self.data["due"].remove((found[4], DueKind.SESSION_CLOSE, call.session))
        self.data["due"].add((height, DueKind.SESSION_CLOSE, call.session))
        self.data["sessions"][call.session] = [*found[:3], SessionStatus.CLOSING, height]
        return [("SessionClosing", call.session, who, height)]
