"""Who takes part: accounts with their keys from a seed, and what a party spends outside of the chain."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from functools import cached_property

from consensus.runtime.balances.state import read_account
from consensus.state.reader import StateReader
from proto_specs.ed25519 import SigningKey


class SimAccount:
    """An account by its name; its keys follow from the name and the simulation's seed."""

    def __init__(self, seed: int, name: str) -> None:
        self._seed, self.name = seed, name

    @cached_property
    def account(self) -> bytes:
        """The 32-byte account."""
        return self._derive("account").public_key

    @cached_property
    def consensus_key(self) -> SigningKey:
        """The key of its validator."""
        return self._derive("consensus")

    @cached_property
    def worker_key(self) -> SigningKey:
        """The key of its worker."""
        return self._derive("worker")

    @cached_property
    def session_key(self) -> SigningKey:
        """The key of its sessions."""
        return self._derive("session")

    def _derive(self, role: str) -> SigningKey:
        text = f"economy/{self._seed}/{self.name}/{role}"
        return SigningKey.from_seed(hashlib.blake2b(text.encode(), digest_size=32).digest())


@dataclass(slots=True)
class Party:
    """An account, and what its owner spent and got outside of the chain, in nmyl.

    `cost` is computation and other expenses, `worth` what it got for its money outside of the chain: answers.
    """

    name: str
    account: SimAccount
    cost: int = 0
    worth: int = 0
    parts: dict[str, int] = field(default_factory=dict)

    def spend(self, what: str, amount: int) -> None:
        """Note an expense outside of the chain."""
        self.cost += amount
        self.parts[what] = self.parts.get(what, 0) + amount

    def read_wealth(self, state: StateReader) -> int:
        """All that the account owns, held or free, in nmyl."""
        found = read_account(state, self.account.account)
        return found.free + found.reserved

    def read_profit(self, state: StateReader, began: int) -> int:
        """What it has gained since it owned `began` nmyl."""
        return self.read_wealth(state) - began - self.cost + self.worth


def make_rng(seed: int, of: str) -> random.Random:
    """A source of chance of its own for each use, so that one actor's choices do not move another's."""
    return random.Random(f"economy {seed} {of}")
