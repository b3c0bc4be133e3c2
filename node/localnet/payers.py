"""Accounts that pay each other: whose turn it is, with which nonce, and which nonces are unknown. Sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genesis.dev import DevIdentity, get_dev_identity
from node.localnet.plan import make_payer_names
from proto_specs.codec import encode
from proto_specs.types.calls import Transfer
from proto_specs.types.chain import TransactionBody, compute_extrinsic_hash, sign_transaction

AMOUNT = 1_000_000
"""nmyl of a transfer."""


@dataclass
class Payer:
    """An account and the nonce of its next transfer; None while the node has to be asked for the nonce."""

    identity: DevIdentity
    dest: bytes
    address: str
    nonce: int | None = None

    def sign_next(self, genesis: bytes) -> tuple[str, str]:
        """(bytes, extrinsic hash) of its next transfer, both as 0x hex. Uses the nonce up."""
        assert self.nonce is not None, "ask the node first"
        body = TransactionBody(self.identity.account, self.nonce, Transfer(self.dest, AMOUNT), 0, 0, 0)
        transaction = sign_transaction(body, genesis, genesis, self.identity.account_key)
        self.nonce += 1
        return f"0x{encode(transaction).hex()}", f"0x{compute_extrinsic_hash(transaction).hex()}"


def make_payers(count: int) -> list[Payer]:
    """All payers of a localnet, each paying the next."""
    identities = [get_dev_identity(name) for name in make_payer_names(count)]
    return [
        Payer(one, identities[(at + 1) % count].account, f"0x{one.account.hex()}") for at, one in enumerate(identities)
    ]


class Rota:
    """The payers of a node in turn; payers without a known nonce are skipped."""

    def __init__(self, payers: Sequence[Payer]) -> None:
        self.payers = tuple(payers)
        self._next = 0

    def pick(self) -> Payer | None:
        """The next payer; None when no payer's nonce is known."""
        for step in range(len(self.payers)):
            one = self.payers[(self._next + step) % len(self.payers)]
            if one.nonce is not None:
                self._next = (self._next + step + 1) % len(self.payers)
                return one
        return None
