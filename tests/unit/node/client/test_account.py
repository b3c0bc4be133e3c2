"""Transactions of one account never share a nonce, and every end of a transaction is told apart."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from node.client.account import PERIOD_BLOCKS, SigningAccount
from node.client.errors import CallFailed, TransactionLost
from node.client.rpc_chain import RpcChain
from node.client.rpc_errors import RpcError
from node.client.session_files import SessionTaken
from proto_specs.codec import decode
from proto_specs.ed25519 import SigningKey
from proto_specs.types.calls import CloseSession
from proto_specs.types.chain import Transaction, compute_extrinsic_hash

KEY = SigningKey.from_seed(b"k" * 32)
CALL = CloseSession(bytes(32))


class FakeNode:
    """A pool that counts nonces as the real one does, and answers slowly."""

    def __init__(self) -> None:
        self.height = 10
        self.pool: list[Transaction] = []
        self.statuses: dict[str, Any] = {}
        self.refusal: RpcError | None = None

    async def call(self, method: str, *params: Any) -> Any:
        await trio.sleep(0.01)
        match method:
            case "system_accountNextIndex":
                return len(self.pool)
            case "chain_getHeader":
                return {"height": self.height}
            case "chain_getBlockHash":
                return "0x" + bytes([params[0]]).hex() * 32
            case "author_submitExtrinsic":
                if self.refusal is not None:
                    raise self.refusal
                transaction = decode(Transaction, bytes.fromhex(params[0][2:]))
                assert transaction.body.nonce == len(self.pool), "a nonce was used twice, or left out"
                self.pool.append(transaction)
                return "0x" + compute_extrinsic_hash(transaction).hex()
            case "author_extrinsicStatus":
                self.height += 1
                return self.statuses.get(params[0])
        raise AssertionError(method)


@pytest.fixture
async def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
async def account(node: FakeNode) -> SigningAccount:
    return SigningAccount(await RpcChain.connect(node), KEY, "address")


def finalize(node: FakeNode, extrinsic: bytes, error: dict[str, str] | None) -> None:
    receipt = {"error": error, "fee": 5, "tip": 2, "events": [{"type": "X"}]}
    node.statuses[f"0x{extrinsic.hex()}"] = {"status": "finalized", "height": 12, "index": 0, "receipt": receipt}


async def test_tasks_that_send_at_once_use_each_nonce_once(
    node: FakeNode, account: SigningAccount, autojump_clock
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(account.send, CALL)
    assert [one.body.nonce for one in node.pool] == list(range(20))


async def test_a_refused_or_cancelled_sending_frees_the_account(
    node: FakeNode, account: SigningAccount, autojump_clock
) -> None:
    node.refusal = RpcError(1, "full")
    with pytest.raises(RpcError):
        await account.send(CALL)
    node.refusal = None
    with trio.move_on_after(0.015):
        await account.send(CALL)
    await account.send(CALL)
    assert [one.body.nonce for one in node.pool] == [0]


async def test_success_names_block_fee_and_events(node: FakeNode, account: SigningAccount, autojump_clock) -> None:
    extrinsic = await account.send(CALL)
    finalize(node, extrinsic, None)
    found = await account.wait(extrinsic, "CloseSession")
    assert (found.height, found.fee, found.events) == (12, 7, ({"type": "X"},))
    assert await account.find(extrinsic, "CloseSession") == found


async def test_a_failed_call_is_told_by_its_error(node: FakeNode, account: SigningAccount, autojump_clock) -> None:
    extrinsic = await account.send(CALL)
    finalize(node, extrinsic, {"module": "inference", "error": "NotClient"})
    for ask in (account.wait, account.find):
        with pytest.raises(CallFailed) as failed:
            await ask(extrinsic, "CloseSession")
        assert failed.value.error == "NotClient"


async def test_pending_and_unknown_are_different(node: FakeNode, account: SigningAccount, autojump_clock) -> None:
    extrinsic = await account.send(CALL)
    node.statuses[f"0x{extrinsic.hex()}"] = {"status": "pending"}
    assert await account.find(extrinsic, "CloseSession") is None
    node.statuses.clear()
    with pytest.raises(TransactionLost):
        await account.find(extrinsic, "CloseSession")


async def test_waiting_ends_with_the_transaction_s_validity(
    node: FakeNode, account: SigningAccount, autojump_clock
) -> None:
    extrinsic = await account.send(CALL)
    started = node.height
    with pytest.raises(TransactionLost):
        await account.wait(extrinsic, "CloseSession")
    assert PERIOD_BLOCKS < node.height - started <= PERIOD_BLOCKS + 2


@pytest.mark.parametrize("reason", ["ReplacementUnderpriced", "StaleNonce", "AlreadyKnown"])
async def test_another_process_of_the_account_may_be_sooner(
    node: FakeNode, account: SigningAccount, autojump_clock, reason: str
) -> None:
    """The pool refuses the nonce that the other one took; what is told of nonces ends with the one that was used."""
    told: list[tuple[int, bytes]] = []

    def signed(nonce: int, extrinsic: bytes) -> None:
        told.append((nonce, extrinsic))
        node.refusal = RpcError(1, "taken", {"reason": reason}) if len(told) == 1 else None
        if len(told) == 1:
            node.pool.append(None)  # type: ignore[arg-type]  # the other's transaction

    extrinsic = await account.send(CALL, signed=signed)
    assert [nonce for nonce, _ in told] == [0, 1]
    assert told[-1][1] == extrinsic


async def test_a_nonce_that_is_always_taken_is_given_up(
    node: FakeNode, account: SigningAccount, autojump_clock
) -> None:
    node.refusal = RpcError(1, "taken", {"reason": "ReplacementUnderpriced"})
    with pytest.raises(RpcError, match="taken"):
        await account.send(CALL)


async def test_a_session_of_two_processes_at_once(node: FakeNode, account: SigningAccount, autojump_clock) -> None:
    """Both have read the same nonce, and the other holds the file of the session that it opens. Its turn, then ours."""
    told: list[int] = []

    def signed(nonce: int, _extrinsic: bytes) -> None:
        told.append(nonce)
        if len(told) == 5:
            node.pool.append(None)  # type: ignore[arg-type]  # the other's transaction
        if nonce == 0:
            raise SessionTaken("another process is opening this session")

    await account.send(CALL, signed=signed)
    assert told == [0, 0, 0, 0, 0, 1]


async def test_a_nonce_that_is_held_and_never_used_is_given_up(
    node: FakeNode, account: SigningAccount, autojump_clock
) -> None:
    def signed(_nonce: int, _extrinsic: bytes) -> None:
        raise SessionTaken("another process is opening this session")

    with pytest.raises(SessionTaken):
        await account.send(CALL, signed=signed)
    assert node.pool == []
