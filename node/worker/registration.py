"""A worker's record on chain: made or renewed at the start, watched while it serves.

The record names one peer. Who starts while that peer answers under the same worker key is refused; who finds somebody
else's peer in it while it runs has been replaced and ends (fencing).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

import trio

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import WorkerStatus
from node.client.account import SigningAccount
from node.client.chain_view import ChainUnreachable, WorkerEntry
from node.client.probing import ProbeFailed, probe_worker
from node.p2p.circuits import open_roaming_host
from node.worker.departure import Departure
from node.worker.errors import WorkerRefused
from node.worker.presence import Presence
from proto_specs.ed25519 import SigningKey
from proto_specs.errors import MyelinError
from proto_specs.hashing import Tag
from proto_specs.types.calls import RegisterWorker, UpdateWorker
from proto_specs.types.common import NMYL_PER_MYL

logger = logging.getLogger("myelin.worker")

PROBE_TIMEOUT_S = 4.0
WATCH_POLL_S = 2.0
ANNOUNCE_S_MIN, ANNOUNCE_S_MAX = 20.0, 1_280.0
"""A running worker that is marked absent announces itself again, each time after twice the wait: it costs a fee."""


class Terms(Protocol):
    """What a worker offers. Prices are nmyl per layer and token, the bond is nmyl."""

    @property
    def model(self) -> bytes:
        """The model's id."""

    @property
    def start(self) -> int:
        """The first layer."""

    @property
    def end(self) -> int:
        """The layer after the last one."""

    @property
    def worker_key(self) -> SigningKey:
        """The key the worker is known by."""

    @property
    def bond(self) -> int:
        """What it bonds if it is not registered yet."""

    @property
    def prefill_price(self) -> int:
        """For a prompt token."""

    @property
    def decode_price(self) -> int:
        """For a new token."""


class Located(Protocol):
    """Where a worker is reached; a host is, where nothing stands before it."""

    @property
    def peer_id(self) -> str:
        """Its libp2p peer."""

    @property
    def addresses(self) -> Sequence[str]:
        """Where to dial it."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Fulfils `Located`."""

    peer_id: str
    addresses: tuple[str, ...]


async def require_bond(terms: Terms, account: SigningAccount) -> None:
    """See that the chain would take the bond of a new worker, before anything is fetched or loaded for it.

    Raises WorkerRefused, RpcError.
    """
    least = (await account.chain.read(queries.read_params)).worker_bond_min
    if terms.bond < least and await account.chain.get_worker(terms.worker_key.public_key) is None:
        raise WorkerRefused(
            f"a bond of {Decimal(terms.bond) / NMYL_PER_MYL:f} MYL is too low, a worker bonds at least"
            f" {Decimal(least) / NMYL_PER_MYL:f} MYL: raise --bond"
        )


async def register(terms: Terms, account: SigningAccount, host: Located) -> WorkerEntry:
    """Bond and announce this worker, or announce what changed of one that is registered already.

    Raises WorkerRefused when the key is for other layers, cannot serve again, or serves elsewhere now; CallFailed,
    RpcError.
    """
    key, addresses = terms.worker_key, tuple(host.addresses)
    short = key.public_key.hex()[:12]
    known = await account.chain.get_worker(key.public_key)
    if known is None:
        call = RegisterWorker(
            model=terms.model,
            start=terms.start,
            end=terms.end,
            bond=terms.bond,
            worker_key=key.public_key,
            key_proof=key.sign(Tag.KEY_PROOF_SIGN, account.public_key),
            peer_id=host.peer_id,
            addresses=addresses,
            prefill_price=terms.prefill_price,
            decode_price=terms.decode_price,
        )
        await account.execute(call)
    elif known.is_leaving:
        raise WorkerRefused(f"worker {short} was retired or ejected; make a new worker key (`myelin keys new`)")
    elif (known.model, known.start, known.end) != (terms.model, terms.start, terms.end):
        raise WorkerRefused(
            f"worker {short} is registered for layers {known.start}:{known.end} of "
            f"{known.model.hex()[:12]}; retire it or use another worker key"
        )
    else:
        await refuse_if_elsewhere(known, account.chain.genesis, addresses)
        asked = (terms.prefill_price, terms.decode_price)
        announced = (known.peer_id, known.addresses, (known.prefill_price, known.decode_price))
        if known.is_absent or announced != (host.peer_id, addresses, asked):
            await announce(terms, account, host)
    entry = await account.chain.get_worker(key.public_key)
    assert entry is not None, "just registered"
    return entry


async def announce(terms: Terms, account: SigningAccount, host: Located) -> None:
    """Say on chain where this worker is and what it asks; one that was absent is back. Raises CallFailed, RpcError."""
    where = (host.peer_id, tuple(host.addresses))
    await account.execute(UpdateWorker(terms.worker_key.public_key, *where, terms.prefill_price, terms.decode_price))


async def refuse_if_elsewhere(known: WorkerEntry, genesis: bytes, own_addresses: tuple[str, ...]) -> None:
    """Raises WorkerRefused when this worker key answers at an address of its record that is not ours."""
    others = tuple(one for one in known.addresses if one not in own_addresses)
    if not others:
        return
    # A host of its own: the record may name our own peer id, which a host does not dial.
    async with open_roaming_host(os.urandom(32), []) as (asker, _):
        try:
            report, _ = await probe_worker(asker, replace(known, addresses=others), genesis, PROBE_TIMEOUT_S)
        except ProbeFailed as error:
            logger.info("nobody serves with this worker key any more, so it is taken over: %s", error)
            return
    where, short = ", ".join(others), known.worker.hex()[:12]
    if report.is_leaving:
        raise WorkerRefused(f"worker {short} is just leaving {where}: start it here when it has ended there")
    raise WorkerRefused(
        f"worker {short} runs already, at {where}: stop it there first, or give this one a key of its own "
        "(`myelin keys new`)"
    )


class RecordWatch:
    """Reads the record of a running worker again and again."""

    def __init__(
        self, terms: Terms, account: SigningAccount, host: Located, presence: Presence, departure: Departure
    ) -> None:
        self._terms = terms
        self._account = account
        self._host = host
        self._presence = presence
        self._departure = departure
        self._wait_s = ANNOUNCE_S_MIN
        self._announced_s = trio.current_time()
        self.replaced_by: str | None = None
        """The peer that serves with this worker key instead, once one does."""

    async def run(self) -> None:
        """Watch until replaced or cancelled. While the node is unreachable nothing is decided."""
        while self.replaced_by is None:
            try:
                await self.look()
            except ChainUnreachable as error:
                logger.warning("the node does not answer: %s", error)
            except MyelinError as error:
                logger.warning("this worker is marked absent on chain and cannot announce itself: %s", error)
            await trio.sleep(WATCH_POLL_S)

    async def look(self) -> None:
        """One look: notes the height, ends this worker when it was replaced, announces it when it is marked absent."""
        chain, key = self._account.chain, self._terms.worker_key.public_key
        self._presence.height = (await chain.get_health()).height
        found = await chain.read(queries.read_worker, key)
        if found is None:
            return
        if found.peer_id != self._host.peer_id:
            self.replaced_by = found.peer_id
            self._departure.ask(f"its key serves as peer {found.peer_id} now", tells_chain=False)
            return
        wants_away = self._departure.is_asked or self._presence.leaving is not None
        is_away = found.status == WorkerStatus.ABSENT and not wants_away
        if is_away and trio.current_time() >= self._announced_s + self._wait_s:
            self._announced_s, self._wait_s = trio.current_time(), min(2 * self._wait_s, ANNOUNCE_S_MAX)
            logger.warning("this worker is marked absent on chain: verifiers did not reach it; announcing it again")
            await announce(self._terms, self._account, self._host)
