"""Waiting for a transaction: until it has effect, or as soon as it is known that it never will have any."""

from __future__ import annotations

from typing import Any

import pytest

from node.cli.connect import Connection
from node.cli.errors import CallRefused
from node.cli.sending import wait_finalized
from node.client.errors import TransactionLost
from node.client.rpc_chain import RpcChain
from node.client.rpc_errors import RpcError

HASH = f"0x{'ab' * 32}"
PENDING = {"status": "pending"}
RECEIPT = {"error": None, "fee": 7, "tip": 1, "events": []}


class Node:
    """Answers as scripted, one height and one status a turn; the last for ever."""

    def __init__(self, *turns: tuple[int, Any]) -> None:
        self.turns = list(turns)

    async def call(self, method: str, *params: Any) -> Any:
        """An answer."""
        if method == "chain_getHeader":
            return {"height": self.turns[0][0]}
        assert (method, params) == ("author_extrinsicStatus", (HASH,))
        return self.turns.pop(0)[1] if len(self.turns) > 1 else self.turns[0][1]


def finalized(error: Any = None) -> dict[str, Any]:
    return {"status": "finalized", "height": 5, "index": 0, "receipt": {**RECEIPT, "error": error}}


async def wait(*turns: tuple[int, Any]) -> dict[str, Any]:
    return await wait_finalized(Connection(RpcChain(Node(*turns), bytes(32)), 42, {}), HASH, "Transfer", 9)


async def test_it_waits_until_the_block_is_there(autojump_clock: Any) -> None:
    found = await wait((4, PENDING), (4, PENDING), (4, None), (5, finalized()))
    assert (found["status"], found["height"], found["fee"], found["tip"]) == ("finalized", 5, 7, 1)


async def test_the_last_block_it_is_valid_in_counts(autojump_clock: Any) -> None:
    assert (await wait((8, PENDING), (9, finalized())))["height"] == 5
    with pytest.raises(TransactionLost, match=f"{HASH} was in no block up to 9"):
        await wait((8, PENDING), (9, PENDING))


async def test_a_transaction_that_left_the_pool_is_not_waited_for(autojump_clock: Any) -> None:
    with pytest.raises(TransactionLost, match=f"{HASH} left the node's pool"):
        await wait((4, PENDING), (4, None), (4, None), (4, finalized()))


async def test_a_refused_call_has_reason_place_and_price(autojump_clock: Any) -> None:
    with pytest.raises(CallRefused, match="InsufficientBalance: module balances refused Transfer") as caught:
        await wait((4, PENDING), (5, finalized({"module": 2, "error": "InsufficientBalance"})))
    assert caught.value.describe() == {
        "error": "InsufficientBalance",
        "message": str(caught.value),
        "module": "balances",
        "call": "Transfer",
        "extrinsic": HASH,
        "height": 5,
        "fee": 8,
    }


def test_reasons_of_the_pool_are_for_machines_too() -> None:
    error = RpcError(1010, "StaleNonce: nonce 0 was used", {"reason": "StaleNonce", "expected": 3})
    assert error.describe() == {
        "error": "StaleNonce",
        "message": "StaleNonce: nonce 0 was used",
        "code": 1010,
        "expected": 3,
    }
    assert RpcError(-32602, "account: x").describe()["error"] == "RpcError"
