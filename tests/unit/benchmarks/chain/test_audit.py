"""The audit after a load finds what is wrong by one unit, whoever it favours."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.chain.audit import Audit, Sent, audit
from benchmarks.chain.load import LoadFailed
from consensus.runtime.balances.state import Account, accounts, issuance
from genesis.dev import build_dev_spec, get_dev_identity
from proto_specs.codec import encode
from proto_specs.ss58 import encode_address
from proto_specs.types.common import Balance

SPEC = build_dev_spec(names=("bob",))
ALICE, BOB = get_dev_identity("alice").account, get_dev_identity("bob").account
FEE, MINTED, AMOUNT = 30, 500, 1_000
START = {one.account: one.balance for one in SPEC.accounts}


class Answers:
    """A chain of one block with one transfer, and what it says about it."""

    def __init__(self) -> None:
        self.accounts = {
            BOB: Account(1, START[BOB] - AMOUNT - FEE, 0),
            ALICE: Account(0, START[ALICE] + AMOUNT, MINTED),
        }
        self.issuance = sum(START.values()) + MINTED - FEE
        self.receipts: list[dict[str, Any]] = [{"error": None, "fee": FEE, "tip": 0}]

    async def ask(self, method: str, *params: Any) -> Any:
        """As a node would."""
        match method:
            case "system_health":
                return {"height": 1}
            case "chain_getBlock":
                return {"block": {"transactions": [{"body": {"signer": encode_address(BOB, SPEC.ss58_prefix)}}]}}
            case "chain_getReceipts":
                return {"receipts": self.receipts, "events": {"finalize": [{"type": "EpochEnded", "minted": MINTED}]}}
            case "system_account":
                account = self.accounts[bytes.fromhex(params[0][2:])]
                return {"nonce": account.nonce, "free": account.free, "reserved": account.reserved}
            case "state_getPairs":
                pairs = [
                    (f"0x{accounts.key(one).hex()}", f"0x{encode(held).hex()}") for one, held in self.accounts.items()
                ]
                return [] if params[1] else sorted(pairs)
            case "state_getStorage":
                assert params[0] == f"0x{issuance.key.hex()}"
                return f"0x{encode(self.issuance, Balance).hex()}"
        raise AssertionError(method)


async def run(answers: Answers) -> Audit:
    """Of the one transfer that was sent."""
    return await audit(answers.ask, SPEC, [Sent(BOB, ALICE, AMOUNT)])


async def test_an_honest_chain_passes() -> None:
    assert await run(Answers()) == Audit([1], 2, FEE, MINTED, sum(START.values()) + MINTED - FEE)


async def test_a_unit_too_much_is_found_even_when_the_issuance_hides_it() -> None:
    answers = Answers()
    answers.accounts[BOB] = Account(1, answers.accounts[BOB].free + 1, 0)
    answers.issuance += 1
    with pytest.raises(LoadFailed, match="wanted nonce 1"):
        await run(answers)


async def test_money_made_of_nothing_is_found() -> None:
    answers = Answers()
    answers.accounts[bytes(32)] = Account(0, 1, 0)
    with pytest.raises(LoadFailed, match="issuance"):
        await run(answers)
    answers.issuance += 1
    with pytest.raises(LoadFailed, match="issuance"):
        await run(answers)


async def test_a_failed_or_missing_transfer_is_found() -> None:
    answers = Answers()
    answers.receipts[0]["error"] = {"module": 2, "error": "InsufficientBalance"}
    with pytest.raises(LoadFailed, match="failed in block 1"):
        await run(answers)
    with pytest.raises(LoadFailed, match="1 transfers are on the chain, 2 were sent"):
        await audit(Answers().ask, SPEC, [Sent(BOB, ALICE, AMOUNT)] * 2)
