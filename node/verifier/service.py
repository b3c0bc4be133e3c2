"""The verifier's process: its own libp2p host, the node's RPC, the models on this disk. Wiring only."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import trio

from consensus.runtime.inference import benches, queries
from consensus.runtime.inference.state import Challenge, Request, WorkerStatus
from consensus.state.reader import StateReader
from inference.engine.device import CPU, Device
from inference.engine.ort import require_device
from inference.errors import ModelError
from inference.model.store import ShardStore
from node.client.account import SigningAccount
from node.client.chain_view import ChainUnreachable, SessionEntry, WorkerEntry
from node.client.errors import CallFailed, NonceHeld, TransactionLost
from node.client.probing import probe_worker
from node.client.rpc_errors import RpcError
from node.p2p.circuits import open_roaming_host
from node.verifier.absence import PROBE_TIMEOUT_S, AbsenceDuty
from node.verifier.duty import OpenChallenge, VerificationDuty
from node.verifier.judge import Judge
from node.verifier.submissions import SubmissionRefused
from node.verifier.verdicts import VerdictStore
from proto_specs.types.calls import Call, RegisterVerifier
from proto_specs.types.manifest import Manifest

logger = logging.getLogger("myelin.verify")

REGISTER_POLL_S = 1.0
REGISTER_RETRY_S = 60.0
SENT_KEPT_MAX = 1024


@dataclass(frozen=True)
class VerifierConfig:
    """`directory` keeps verdicts; `models` is the shard store, and every model in it is verified."""

    directory: Path
    models: Path
    node_seed: bytes
    device: Device = CPU


class AccountDutyChain:
    """`DutyChain` of one verifier account."""

    def __init__(self, account: SigningAccount) -> None:
        self._account = account
        self._chain = account.chain
        self.genesis = account.chain.genesis
        self._nonces: OrderedDict[bytes, int] = OrderedDict()

    async def get_height(self) -> int:
        """See DutyChain."""
        return await self._chain.get_height()

    async def get_session(self, session: bytes) -> SessionEntry | None:
        """See ChainView."""
        return await self._chain.get_session(session)

    async def is_sequence_used(self, session: bytes, sequence: int) -> bool:
        """See ChainView."""
        return await self._chain.is_sequence_used(session, sequence)

    async def get_settled_positions(self, request: bytes) -> int | None:
        """See ChainView."""
        return await self._chain.get_settled_positions(request)

    async def get_worker(self, worker: bytes, *, fresh: bool = False) -> WorkerEntry | None:
        """See ChainView."""
        return await self._chain.get_worker(worker, fresh=fresh)

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        """See ChainView."""
        return await self._chain.list_workers(model)

    async def get_manifest(self, model: bytes) -> Manifest | None:
        """See ChainView."""
        return await self._chain.get_manifest(model)

    async def get_request(self, request: bytes) -> Request | None:
        """See DutyChain."""
        return await self._chain.get_request(request)

    async def list_challenges(self) -> tuple[OpenChallenge, ...]:
        """See DutyChain."""
        height = await self._chain.get_height()
        return await self._chain.read(list_own_challenges, self._account.public_key, height)

    async def submit(self, call: Call, tip: int = 0, replaces: bytes | None = None) -> bytes:
        """See SubmissionChain."""
        try:
            place = None if replaces is None else await self._find_waiting(replaces)
            return await self._account.send(call, tip, self._note_signed, place)
        except (NonceHeld, RpcError) as error:
            raise SubmissionRefused(str(error)) from error

    def _note_signed(self, nonce: int, extrinsic: bytes) -> None:
        self._nonces[extrinsic] = nonce
        while len(self._nonces) > SENT_KEPT_MAX:
            self._nonces.popitem(last=False)

    async def _find_waiting(self, extrinsic: bytes) -> int | None:
        """The nonce of a transaction that was sent and waits in the pool still."""
        try:
            is_waiting = await self._account.find(extrinsic, "a verdict") is None
        except (CallFailed, TransactionLost):
            return None
        return self._nonces.get(extrinsic) if is_waiting else None

    async def get_absence_blocks(self) -> int:
        """See AbsenceChain."""
        return (await self._chain.read(queries.read_params)).absence_blocks

    async def may_report(self, worker: bytes) -> bool:
        """See AbsenceChain."""
        height = await self._chain.get_height()
        return await self._chain.read(is_report_due, worker, self._account.public_key, height)


def is_report_due(state: StateReader, worker: bytes, account: bytes, height: int) -> bool:
    """Whether the account may report an active worker, and its last report is at most half as old as reports get."""
    found = queries.read_worker(state, worker)
    if found is None or found.status != WorkerStatus.ACTIVE:
        return False
    if all(one.operator != account for one in benches.list_eligible(state, found.model, {found.operator})):
        return False
    until = queries.list_absence_reports(state, worker).get(account, 0)
    return 2 * (until - height) < queries.read_params(state).absence_blocks


def list_own_challenges(state: StateReader, account: bytes, height: int) -> tuple[OpenChallenge, ...]:
    """Open challenges of a verifier, with its steps so far for each."""
    found = []
    for challenge_id, challenge in queries.list_open_challenges(state, account):
        is_committed = queries.read_commitment(state, challenge_id, account) is not None
        is_revealed = account in queries.read_reveals(state, challenge_id)
        may_reveal = is_reveal_open(challenge, height)
        is_audit = not is_committed and queries.is_audit(state, challenge_id)  # asked while it is to be judged
        found.append(OpenChallenge(challenge_id, challenge, is_committed, is_revealed, may_reveal, is_audit))
    return tuple(found)


def is_reveal_open(challenge: Challenge, height: int) -> bool:
    """Whether reveals are accepted: after the round's whole committee committed, or after the commit deadline."""
    return (
        challenge.committed == len(challenge.committee) - challenge.round_start or height >= challenge.commit_deadline
    )


async def run_verifier(config: VerifierConfig, account: SigningAccount) -> None:
    """Register for every stored model that the chain knows and this machine can judge; do the duty until cancelled.

    Raises DeviceError.
    """
    require_device(config.device)  # whoever registers must be able to judge
    store = ShardStore(config.models)
    judge = Judge(store, config.device)
    async with (
        open_roaming_host(config.node_seed, ["/ip4/127.0.0.1/tcp/0"]) as (host, _),
        trio.open_nursery() as nursery,
    ):
        chain = AccountDutyChain(account)
        duty = VerificationDuty(account.public_key, host, chain, judge, VerdictStore(config.directory))
        nursery.start_soon(duty.run)
        genesis, models = account.chain.genesis, set[bytes]()

        async def ask(worker: WorkerEntry) -> None:
            await probe_worker(host, worker, genesis, PROBE_TIMEOUT_S)

        nursery.start_soon(AbsenceDuty(account.public_key, chain, models, ask).run)
        await keep_registered(account, store, judge, models)


async def keep_registered(account: SigningAccount, store: ShardStore, judge: Judge, verified: set[bytes]) -> None:
    """Registers also for models that come into the store, or onto the chain, later; for none that it cannot judge.

    `verified` gets the models it is registered for.
    """
    not_before_s: dict[bytes, float] = {}
    while True:
        for model in await trio.to_thread.run_sync(store.list_models):
            if trio.current_time() < not_before_s.get(model, 0.0):
                continue
            try:
                if await _register(account, judge, model):
                    verified.add(model)
            except ChainUnreachable as error:
                logger.warning("the node does not answer: %s", error)
            except (CallFailed, RpcError, TransactionLost, ModelError, OSError) as error:
                # Every failed call has cost its fee; a model that cannot be judged is seldom another a second later.
                not_before_s[model] = trio.current_time() + REGISTER_RETRY_S
                logger.warning("cannot register as verifier of %s: %s", model.hex()[:12], error)
        await trio.sleep(REGISTER_POLL_S)


async def _register(account: SigningAccount, judge: Judge, model: bytes) -> bool:
    """Whether the account verifies the model now."""
    if await account.chain.get_manifest(model) is None:
        return False
    if account.public_key in await account.chain.read(queries.list_verifiers, model):
        return True
    await trio.to_thread.run_sync(judge.require, model)
    await account.execute(RegisterVerifier(model))
    logger.info("verifying model %s", model.hex()[:12])
    return True
