"""An account that sends transactions: nonces in order, signatures, waiting for each result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from node.client.errors import CallFailed, NonceHeld, TransactionLost
from node.client.rpc_chain import RpcChain
from node.client.rpc_errors import RpcError
from proto_specs.codec import encode
from proto_specs.ed25519 import SigningKey
from proto_specs.types.calls import Call
from proto_specs.types.chain import TransactionBody, compute_extrinsic_hash, sign_transaction

PERIOD_BLOCKS = 128
POLL_S = 0.1
NONCE_TRIES_MAX = 16
NONCE_HELD_S = 15.0
"""How long a nonce is waited for that another process has signed with: what that takes to submit."""
NONCE_TAKEN = frozenset({"ReplacementUnderpriced", "StaleNonce", "AlreadyKnown"})
"""The pool's reasons when another process of the account was sooner with this nonce."""

Signed = Callable[[int, bytes], None]
"""Told of a transaction's nonce and hash before it is submitted; again, when it was signed under another nonce.

It may raise NonceHeld: another process has signed with this nonce and is about to submit.
"""


@dataclass(frozen=True, slots=True)
class Included:
    """Where a successful transaction is, what it cost in nmyl, and its events as JSON objects."""

    extrinsic: bytes
    height: int
    fee: int
    events: tuple[dict[str, Any], ...]


class SigningAccount:
    """Signs for one account over one node.

    Sending is serialised, so nonces never collide among its own tasks; where another process of the same account was
    sooner, the transaction is signed again under the next nonce.
    """

    def __init__(self, chain: RpcChain, key: SigningKey, address: str) -> None:
        self.chain = chain
        self.public_key = key.public_key
        self.address = address
        self._key = key
        self._sending = trio.Lock()

    async def send(
        self, call: Call, tip: int = 0, signed: Signed | None = None, instead_of: int | None = None
    ) -> bytes:
        """Submit a call; returns the extrinsic hash. Raises RpcError with the node's reason, NonceHeld.

        It goes under the nonce `instead_of`, in place of what waits in the pool for less, or else the next one.
        """
        async with self._sending:
            tries, until_s = NONCE_TRIES_MAX, trio.current_time() + NONCE_HELD_S
            while True:
                tries -= 1
                try:
                    return await self._submit(call, tip, signed, instead_of)
                except RpcError as error:
                    instead_of = None  # it may be in a block by now
                    reason = error.data.get("reason") if isinstance(error.data, dict) else None
                    if reason not in NONCE_TAKEN or not tries:
                        raise
                except NonceHeld:
                    if trio.current_time() > until_s:
                        raise
                    await trio.sleep(POLL_S)

    async def _submit(self, call: Call, tip: int, signed: Signed | None, nonce: int | None) -> bytes:
        rpc = self.chain.rpc
        if nonce is None:
            nonce = int(await rpc.call("system_accountNextIndex", self.address))
        birth = await self.chain.get_height()
        birth_hash = bytes.fromhex((await rpc.call("chain_getBlockHash", birth))[2:])
        body = TransactionBody(self.public_key, nonce, call, tip, birth, PERIOD_BLOCKS)
        transaction = sign_transaction(body, self.chain.genesis, birth_hash, self._key)
        extrinsic = compute_extrinsic_hash(transaction)
        if signed is not None:
            signed(nonce, extrinsic)
        await rpc.call("author_submitExtrinsic", f"0x{encode(transaction).hex()}")
        return extrinsic

    async def execute(self, call: Call, tip: int = 0) -> Included:
        """Submit a call and wait until it is finalized. Raises CallFailed, TransactionLost or RpcError."""
        extrinsic = await self.send(call, tip)
        return await self.wait(extrinsic, type(call).__name__)

    async def find(self, extrinsic: bytes, name: str) -> Included | None:
        """The result of a submitted transaction; None while it waits for a block.

        Raises CallFailed, RpcError; TransactionLost when the node knows it neither in its pool nor in a block.
        """
        status = await self.chain.rpc.call("author_extrinsicStatus", f"0x{extrinsic.hex()}")
        if status is None:
            raise TransactionLost(f"{name} {extrinsic.hex()} is not known to the node: send it again")
        return self._read_receipt(extrinsic, name, status) if status["status"] == "finalized" else None

    async def wait(self, extrinsic: bytes, name: str) -> Included:
        """Wait until a submitted transaction is in a block; returns its result."""
        deadline = await self.chain.get_height() + PERIOD_BLOCKS
        while True:
            status = await self.chain.rpc.call("author_extrinsicStatus", f"0x{extrinsic.hex()}")
            if status is not None and status["status"] == "finalized":
                return self._read_receipt(extrinsic, name, status)
            if await self.chain.get_height() > deadline:
                raise TransactionLost(
                    f"{name} {extrinsic.hex()} was not included within {PERIOD_BLOCKS} blocks: send it again"
                )
            await trio.sleep(POLL_S)

    def _read_receipt(self, extrinsic: bytes, name: str, status: dict[str, Any]) -> Included:
        receipt = status["receipt"]
        if receipt["error"] is not None:
            raise CallFailed(name, str(receipt["error"]["module"]), str(receipt["error"]["error"]))
        fee = int(receipt["fee"]) + int(receipt["tip"])
        return Included(extrinsic, int(status["height"]), fee, tuple(receipt["events"]))
