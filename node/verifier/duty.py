"""The verifier's loop: find challenges that wait for us, fetch openings, judge, commit, reveal.

A challenge is judged once; the verdict is on disk before its commitment is sent, so that every step can be repeated
after a crash. Challenges are taken in order of their deadline.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from typing import Protocol

import trio

from consensus.runtime.inference.state import Challenge, Request
from inference.errors import ModelError
from inference.serving.opening import AuthenticOpening, OpeningError
from node.client.chain_view import ChainUnreachable, ChainView, WorkerEntry
from node.p2p.errors import NetworkError
from node.p2p.host import P2PHost
from node.p2p.request import request as ask_peer
from node.verifier.commitment import Commitment, make_opening_request, read_commitment
from node.verifier.judge import UNAVAILABLE, Judge, Judgement
from node.verifier.verdicts import VerdictStore
from proto_specs.codec import decode, encode
from proto_specs.errors import MyelinError, ProtocolError
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.calls import Call, CommitVerdict, Outcome, RevealVerdict
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import Opening
from proto_specs.types.verdict import VerdictPreimage, compute_commitment, compute_fingerprint_seed
from proto_specs.types.wire import OPENING_PROTOCOL

logger = logging.getLogger("myelin.verify")

POLL_S = 0.25
OPENING_TIMEOUT_S = 15.0
MARGIN_BLOCKS = 3
"""An unreachable worker is asked again until this many blocks before the commit deadline."""
FETCHES_AT_ONCE_MAX = 16


@dataclass(frozen=True, slots=True)
class OpenChallenge:
    """A challenge that names this verifier, and the verifier's steps so far on chain."""

    challenge_id: bytes
    challenge: Challenge
    is_committed: bool
    is_revealed: bool
    may_reveal: bool


class DutyChain(ChainView, Protocol):
    """The duty's questions to the chain, beyond those of serving."""

    async def get_height(self) -> int:
        """Height of the last finalized block."""

    async def list_challenges(self) -> tuple[OpenChallenge, ...]:
        """Open challenges whose committee names this verifier."""

    async def get_request(self, request: bytes) -> Request | None:
        """A settled request."""

    async def submit(self, call: Call) -> bytes:
        """Sign with the verifier's account and send; returns the extrinsic hash. Raises SubmissionRefused."""


class SubmissionRefused(MyelinError):
    """The node refused the transaction; the message says why."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A challenge in progress. The wait for its worker ends at `patience_height`."""

    waiting: trio.CancelScope
    patience_height: int


class VerificationDuty:
    """Serves one verifier account.

    Every challenge has a task of its own, so that a worker that does not answer delays no other challenge. The model
    computes for one challenge at a time.
    """

    def __init__(self, account: bytes, host: P2PHost, chain: DutyChain, judge: Judge, verdicts: VerdictStore) -> None:
        self._account = account
        self._host = host
        self._chain = chain
        self._judge = judge
        self._verdicts = verdicts
        self._sent: dict[tuple[bytes, type[Call]], int] = {}
        self._attempts: dict[bytes, _Attempt] = {}
        self._not_before: dict[bytes, int] = {}
        """Height before which a failed attempt is not repeated."""
        self._height = 0
        self._fetching = trio.CapacityLimiter(FETCHES_AT_ONCE_MAX)
        self._judging = trio.Lock()

    async def run(self) -> None:
        """Do the duty until cancelled. While the node is unreachable it waits."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    for one in await self._list_due():
                        nursery.start_soon(self._attempt, one)
                except ChainUnreachable as error:
                    logger.warning("the node does not answer: %s", error)
                await trio.sleep(POLL_S)

    async def run_once(self) -> None:
        """A complete pass over all open challenges. Raises ChainUnreachable."""
        due = await self._list_due()
        async with trio.open_nursery() as nursery:
            for one in due:
                nursery.start_soon(self._attempt, one)

    async def _list_due(self) -> list[OpenChallenge]:
        """Challenges without a task yet, by deadline. Those whose wait for the worker is over are told so."""
        challenges = await self._chain.list_challenges()
        self._height = await self._chain.get_height()
        due: list[OpenChallenge] = []
        for one in sorted(challenges, key=lambda found: (found.challenge.commit_deadline, found.challenge_id)):
            attempt = self._attempts.get(one.challenge_id)
            if attempt is None:
                patience_height = max(self._height + 1, one.challenge.commit_deadline - MARGIN_BLOCKS)
                self._attempts[one.challenge_id] = _Attempt(trio.CancelScope(), patience_height)
                due.append(one)
            elif self._height >= attempt.patience_height:
                attempt.waiting.cancel()
        known = {one.challenge_id for one in challenges} | set(self._attempts)
        self._sent = {key: sent for key, sent in self._sent.items() if key[0] in known}
        self._not_before = {key: height for key, height in self._not_before.items() if key in known}
        self._verdicts.retain_only(frozenset(known))
        return due

    async def _attempt(self, one: OpenChallenge) -> None:
        try:
            await self._advance(one)
        except ChainUnreachable as error:
            logger.warning("challenge %s waits, the node does not answer: %s", one.challenge_id.hex()[:12], error)
        finally:
            del self._attempts[one.challenge_id]

    async def _advance(self, one: OpenChallenge) -> None:
        preimage = self._verdicts.load(one.challenge_id)
        if preimage is None:
            if one.is_committed or self._height >= one.challenge.commit_deadline:
                return  # committed by a process whose disk is lost, or too late: nothing we could reveal
            if self._height < self._not_before.get(one.challenge_id, 0):
                return
            judgement = await self._judge_challenge(one)
            if judgement is None or self._height >= one.challenge.commit_deadline:
                return
            preimage = self._bind(one.challenge_id, judgement)
            await trio.to_thread.run_sync(self._verdicts.save, preimage)
        if not one.is_committed:
            await self._send(one.challenge_id, CommitVerdict(one.challenge_id, compute_commitment(preimage)))
        elif one.may_reveal and not one.is_revealed:
            await self._send(one.challenge_id, _make_reveal(preimage))

    def _bind(self, challenge: bytes, judgement: Judgement) -> VerdictPreimage:
        return VerdictPreimage(
            challenge=challenge,
            verifier=self._account,
            outcome=judgement.outcome,
            distance_ppb=judgement.distance_ppb,
            token_mismatches=judgement.token_mismatches,
            fingerprint=judgement.fingerprint,
            salt=secrets.token_bytes(32),
        )

    async def _send(self, challenge: bytes, call: Call) -> None:
        """Send once, and again if it is not on chain three blocks later."""
        key = (challenge, type(call))
        if self._height < self._sent.get(key, -MARGIN_BLOCKS) + MARGIN_BLOCKS:
            return
        self._sent[key] = self._height
        try:
            await self._chain.submit(call)
        except SubmissionRefused as error:
            logger.warning("challenge %s: %s refused: %s", challenge.hex()[:12], type(call).__name__, error)
        except ChainUnreachable:
            del self._sent[key]
            raise

    async def _judge_challenge(self, one: OpenChallenge) -> Judgement | None:
        """The verdict; None when there is time to try again, or when the fault is this verifier's."""
        challenge, short = one.challenge, one.challenge_id.hex()[:12]
        manifest = await self._chain.get_manifest(challenge.model)
        worker = await self._chain.get_worker(challenge.worker)
        expected = await read_commitment(self._chain, challenge)
        if manifest is None or worker is None or expected is None:
            logger.error("challenge %s: the chain does not know its model, worker, request or session", short)
            return None
        async with self._fetching:
            waiting = self._attempts[one.challenge_id].waiting
            if waiting.cancel_called:
                return None  # our queue was too long: the worker was not even asked
            opening: AuthenticOpening | None = None
            with waiting:
                try:
                    opening = await self._fetch(challenge, worker, manifest, expected)
                except (NetworkError, OpeningError) as error:
                    logger.warning("challenge %s: no valid opening: %s", short, error)
        if opening is None:
            if waiting.cancelled_caught or self._height + MARGIN_BLOCKS >= challenge.commit_deadline:
                return UNAVAILABLE
            self._not_before[one.challenge_id] = self._height + 1
            return None
        try:
            found = await self._recompute(one, opening, manifest)
        except (ModelError, OSError, MemoryError) as error:
            logger.error("challenge %s cannot be recomputed here: %s", short, error or "memory is short")
            self._not_before[one.challenge_id] = self._height + MARGIN_BLOCKS
            return None
        logger.info(
            "challenge %s: stage %d window %d: %s, distance %d ppb, %d token mismatches",
            short,
            challenge.stage,
            opening.window_start // WINDOW_POSITIONS,
            Outcome(found.outcome).name,
            found.distance_ppb,
            found.token_mismatches,
        )
        return found

    async def _recompute(self, one: OpenChallenge, opening: AuthenticOpening, manifest: Manifest) -> Judgement:
        challenge = one.challenge
        stage = opening.order.path[challenge.stage]
        seed = compute_fingerprint_seed(challenge.beacon, one.challenge_id)
        async with self._judging:
            return await trio.to_thread.run_sync(
                self._judge.judge, opening, challenge.model, manifest, (stage.start, stage.end), seed
            )

    async def _fetch(
        self, challenge: Challenge, worker: WorkerEntry, manifest: Manifest, expected: Commitment
    ) -> AuthenticOpening:
        """Ask the challenged worker at every address it registered, and authenticate what it opens.

        Raises OpeningError when no address gives a valid opening. Reads no more bytes than an honest opening can have.
        """
        most = expected.compute_bytes_max(challenge, manifest)
        body = encode(make_opening_request(challenge))
        failures: list[str] = []
        for address in worker.addresses:
            try:
                answer = await ask_peer(
                    self._host,
                    address,
                    OPENING_PROTOCOL,
                    body,
                    timeout_s=OPENING_TIMEOUT_S,
                    max_response_bytes=most,
                )
                opening = decode(Opening, answer, most)
                return expected.authenticate(opening, challenge, manifest)
            except (NetworkError, ProtocolError, OpeningError) as error:
                failures.append(f"{address}: {error}")
        raise OpeningError("; ".join(failures) or "the worker registered no address")


def _make_reveal(preimage: VerdictPreimage) -> RevealVerdict:
    return RevealVerdict(
        challenge=preimage.challenge,
        outcome=preimage.outcome,
        distance_ppb=preimage.distance_ppb,
        token_mismatches=preimage.token_mismatches,
        fingerprint=preimage.fingerprint,
        salt=preimage.salt,
    )
