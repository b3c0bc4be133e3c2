"""What a pool of sessions asks of the chain: open, top up, close, look. `ChainBank` asks a node, by one account."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from consensus.runtime.arithmetic import PERMILLE, compute_permille
from consensus.runtime.balances.state import read_account
from consensus.runtime.inference import queries
from node.client.account import PERIOD_BLOCKS, Included, SigningAccount
from node.client.chain_view import ChainUnreachable
from node.client.errors import CallFailed, TransactionLost
from node.client.rpc_errors import RpcError
from node.client.session_files import KeptSession, SessionFiles, SessionNote
from proto_specs.ed25519 import SEED_BYTES, SigningKey
from proto_specs.types.calls import CloseSession, OpenSession, TopUpSession
from proto_specs.types.request import compute_session_id

CLOSED_ALREADY = frozenset({"SessionNotOpen", "UnknownSession"})


class OpeningUnknown(ChainUnreachable):
    """The node went away after it had taken the opening of a session. The message names the session."""


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """What the chain asks of sessions: blocks of notice, the least deposit in nmyl, and the bond that comes with it."""

    notice_blocks: int
    deposit_min: int
    bond_permille: int = 0

    def compute_needed(self, deposit: int) -> int:
        """Nmyl that an account needs for a deposit, with its bond."""
        return deposit + compute_permille(deposit, self.bond_permille)

    def compute_deposit_max(self, free: int) -> int:
        """The largest deposit that an account with so much can make."""
        return free * PERMILLE // (PERMILLE + self.bond_permille)


@dataclass(frozen=True, slots=True)
class SessionSight:
    """A session as the chain shows it at a height. `promisable` is deposit + released; see `SessionEntry`."""

    promisable: int
    requests_left: int
    is_open: bool
    is_settleable: bool
    opened_height: int
    expiry_height: int
    height: int


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that is on chain, and its file."""

    session: bytes
    key: SigningKey
    deposit: int
    requests_max: int
    height: int
    expiry_height: int
    kept: KeptSession


class EscrowBank(Protocol):
    """Every method raises ChainUnreachable, those that pay also CallFailed, TransactionLost and RpcError."""

    async def read_terms(self) -> SessionTerms:
        """The chain's terms."""

    async def read_free(self) -> int:
        """Nmyl that the account can spend."""

    async def open(self, model: bytes, max_price: int, deposit: int, requests_max: int) -> NewSession:
        """Open a session; it is on chain when this returns."""

    async def top_up(self, session: bytes, amount: int) -> None:
        """Add to a session's deposit; it is on chain when this returns."""

    async def close(self, session: bytes) -> None:
        """Give notice, where that was not done; it is on chain when this returns."""

    async def look(self, session: bytes) -> SessionSight | None:
        """A session now; None when there is none."""

    async def get_height(self) -> int:
        """The last block's height."""


class ChainBank:
    """Over a node. Each session's key and id are on disk before its opening is submitted."""

    def __init__(
        self, account: SigningAccount, files: SessionFiles, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._account = account
        self._files = files
        self._random = random

    async def read_terms(self) -> SessionTerms:
        """See EscrowBank."""
        params = await self._account.chain.read(queries.read_params)
        return SessionTerms(params.session_notice_blocks, params.session_deposit_min, params.client_bond_permille)

    async def read_free(self) -> int:
        """See EscrowBank."""
        return (await self._account.chain.read(read_account, self._account.public_key)).free

    async def open(self, model: bytes, max_price: int, deposit: int, requests_max: int) -> NewSession:
        """See EscrowBank. Whatever ends this after the submission leaves the file."""
        seed = self._random(SEED_BYTES)
        key = SigningKey.from_seed(seed)
        expires = await self._account.chain.get_height() + PERIOD_BLOCKS + 1
        kept: list[KeptSession] = []

        def keep(nonce: int, _extrinsic: bytes) -> None:
            session = compute_session_id(self._account.public_key, nonce)
            while kept:  # refused under its nonce, which may be the same again: it was never submitted
                kept.pop().delete()
            kept.append(self._files.keep(SessionNote(session, seed, model, expires)))

        call = OpenSession(model, key.public_key, max_price, deposit, requests_max)
        try:
            extrinsic = await self._account.send(call, signed=keep)
        except RpcError:
            for one in kept:  # the node did not take it
                one.delete()
            raise
        except BaseException:
            for one in kept:
                one.release()
            raise
        opened = await self._wait_opened(extrinsic, kept[0])
        session = kept[0].note.session
        expiry = next(int(one["expiry_height"]) for one in opened.events if one["type"] == "SessionOpened")
        return NewSession(session, key, deposit, requests_max, opened.height, expiry, kept[0])

    async def _wait_opened(self, extrinsic: bytes, kept: KeptSession) -> Included:
        try:
            return await self._account.wait(extrinsic, "OpenSession")
        except CallFailed:
            kept.delete()
            raise
        except (ChainUnreachable, RpcError, TransactionLost) as error:
            kept.release()
            raise OpeningUnknown(
                f"{error.message}; session 0x{kept.note.session.hex()} may be open: the next request of this account "
                "closes it, or `myelin tx close-session`"
            ) from error
        except BaseException:
            kept.release()
            raise

    async def top_up(self, session: bytes, amount: int) -> None:
        """See EscrowBank."""
        await self._account.execute(TopUpSession(session, amount))

    async def close(self, session: bytes) -> None:
        """See EscrowBank."""
        try:
            await self._account.execute(CloseSession(session))
        except CallFailed as error:
            if error.error not in CLOSED_ALREADY:
                raise

    async def look(self, session: bytes) -> SessionSight | None:
        """See EscrowBank."""
        found = await self._account.chain.get_session(session)
        if found is None:
            return None
        return SessionSight(
            promisable=found.promisable,
            requests_left=found.requests_left,
            is_open=found.is_open,
            is_settleable=found.is_settleable,
            opened_height=found.opened_height,
            expiry_height=found.expiry_height,
            height=found.height,
        )

    async def get_height(self) -> int:
        """See EscrowBank."""
        return await self._account.chain.get_height()


async def close_left(bank: EscrowBank, files: SessionFiles) -> tuple[bytes, ...]:
    """Close the sessions that a process of this account left open when it died; returns their ids.

    Raises as EscrowBank does. What may still come into a block, or ends by itself, is left for the next time.
    """
    closed: list[bytes] = []
    for kept in files.take_left():
        try:
            sight = await bank.look(kept.note.session)
            may_come = sight is None or (kept.note.is_ended and sight.is_settleable)
            if may_come and await bank.get_height() <= kept.note.rest_height:
                kept.release()
                continue
            if sight is not None and sight.is_settleable:
                await bank.close(kept.note.session)
                closed.append(kept.note.session)
        except BaseException:
            kept.release()
            raise
        kept.delete()
    return tuple(closed)
