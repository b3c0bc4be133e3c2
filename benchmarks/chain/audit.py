"""Checks the chain after the load: every balance is right to the unit, and all accounts together are the issuance.

The sent transfers are known here; fees and mints are the chain's own figures, which the sums must confirm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.chain.load import LoadFailed
from consensus.runtime.balances.state import Account, accounts, issuance
from genesis.spec import ChainSpec
from proto_specs.codec import decode, decode_as
from proto_specs.ss58 import decode_address
from proto_specs.types.common import Balance

Ask = Callable[..., Awaitable[Any]]
"""(method, parameters...) -> the result."""

_VALUE_BYTES_MAX = 1 << 10


@dataclass(frozen=True, slots=True)
class Sent:
    """A transfer of the load, as it was signed."""

    source: bytes
    dest: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class Audit:
    """The checked result: transfers of each block that has any, and amounts in nmyl."""

    blocks: list[int]
    accounts: int
    fees: int
    minted: int
    issuance: int


async def audit(ask: Ask, spec: ChainSpec, sent: Sequence[Sent]) -> Audit:
    """Compare the chain with the sent transfers. Raises LoadFailed."""
    head = (await ask("system_health"))["height"]
    counts, fees, minted = [], Counter[bytes](), 0
    for height in range(1, head + 1):
        block, found = (await ask("chain_getBlock", height))["block"], await ask("chain_getReceipts", height)
        receipts, bodies = found["receipts"], [one["body"] for one in block["transactions"]]
        if any(one["error"] for one in receipts):
            raise LoadFailed(f"transfers failed in block {height}")
        for body, receipt in zip(bodies, receipts, strict=True):
            fees[decode_address(body["signer"], spec.ss58_prefix)] += receipt["fee"] + receipt["tip"]
        minted += sum(one.get("minted", 0) for one in found["events"]["finalize"])
        counts.append(len(receipts))
    if sum(counts) != len(sent):
        raise LoadFailed(f"{sum(counts)} transfers are on the chain, {len(sent)} were sent")
    await _check_balances(ask, spec, sent, fees)
    held = await _sum_accounts(ask, head)
    total = await _read_issuance(ask, head)
    genesis = sum(one.balance for one in spec.accounts)
    if not total == sum(held) == genesis + minted - sum(fees.values()):
        raise LoadFailed(
            f"issuance {total}, in accounts {sum(held)}, genesis {genesis} + {minted} - {sum(fees.values())}"
        )
    return Audit([one for one in counts if one], len(held), sum(fees.values()), minted, total)


async def _check_balances(ask: Ask, spec: ChainSpec, sent: Sequence[Sent], fees: Counter[bytes]) -> None:
    """Check each sender's balance: genesis, plus receipts, minus payments and fees."""
    wanted = {one.account: one.balance for one in spec.accounts}
    nonces = Counter(one.source for one in sent)
    for one in sent:
        wanted[one.source] -= one.amount
        wanted[one.dest] += one.amount
    for account, count in nonces.items():
        found = await ask("system_account", f"0x{account.hex()}")
        if (found["nonce"], found["free"]) != (count, wanted[account] - fees[account]):
            raise LoadFailed(
                f"{account.hex()} has {found}, wanted nonce {count}, {wanted[account] - fees[account]} nmyl"
            )


async def _sum_accounts(ask: Ask, height: int) -> list[int]:
    """nmyl of every account on the chain."""
    held: list[int] = []
    last: str | None = None
    while pairs := await ask("state_getPairs", f"0x{accounts.prefix.hex()}", last, height):
        for _, value in pairs:
            account = decode(Account, bytes.fromhex(value[2:]), _VALUE_BYTES_MAX)
            held.append(account.free + account.reserved)
        last = pairs[-1][0]
    return held


async def _read_issuance(ask: Ask, height: int) -> int:
    value = await ask("state_getStorage", f"0x{issuance.key.hex()}", height)
    return int(decode_as(Balance, bytes.fromhex(value[2:]), _VALUE_BYTES_MAX))
