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
from inference.errors import InferenceError
from inference.serving.opening import AuthenticOpening, OpeningError, authenticate_opening
from node.p2p.errors import NetworkError
from node.p2p.host import P2PHost
from node.p2p.request import request as ask_peer
from node.serving.chain import ChainUnreachable, ChainView
from node.verify.judge import UNAVAILABLE, Judge, Judgement
from node.verify.verdicts import VerdictStore
from proto_specs.codec import decode, encode
from proto_specs.errors import ProtocolError
from proto_specs.limits import OPENING_BYTES_MAX
from proto_specs.types.calls import Call, CommitVerdict, Outcome, RevealVerdict
from proto_specs.types.request import Opening, OpeningRequest, StageRoots
from proto_specs.types.verdict import VerdictPreimage, compute_commitment, compute_fingerprint_seed
from proto_specs.types.wire import OPENING_PROTOCOL

logger = logging.getLogger("myelin.verify")

POLL_S = 0.25
OPENING_TIMEOUT_S = 15.0
MARGIN_BLOCKS = 3
"""An unreachable worker is asked again until this many blocks before the commit deadline."""


@dataclass(frozen=True, slots=True)
class OpenChallenge:
    """A challenge that names us, and what we have done about it on chain."""

    challenge_id: bytes
    challenge: Challenge
    is_committed: bool
    is_revealed: bool
    may_reveal: bool


class DutyChain(ChainView, Protocol):
    """What the duty asks of the chain beyond serving."""

    async def get_height(self) -> int:
        """Height of the last finalized block."""

    async def list_challenges(self) -> tuple[OpenChallenge, ...]:
        """Open challenges whose committee names this verifier."""

    async def get_request(self, request: bytes) -> Request | None:
        """A settled request."""

    async def submit(self, call: Call) -> bytes:
        """Sign with the verifier's account and send; the extrinsic hash. Raises SubmissionRefused."""


class SubmissionRefused(Exception):
    """The node refused the transaction; the message says why."""


class VerificationDuty:
    """Serves one verifier account."""

    def __init__(self, account: bytes, host: P2PHost, chain: DutyChain, judge: Judge, verdicts: VerdictStore) -> None:
        self._account = account
        self._host = host
        self._chain = chain
        self._judge = judge
        self._verdicts = verdicts
        self._sent: dict[tuple[bytes, type[Call]], int] = {}

    async def run(self) -> None:
        """Do the duty until cancelled. An unreachable node is waited for."""
        while True:
            try:
                await self.run_once()
            except ChainUnreachable as error:
                logger.warning("the node does not answer: %s", error)
            await trio.sleep(POLL_S)

    async def run_once(self) -> None:
        """One pass over everything open."""
        challenges = await self._chain.list_challenges()
        height = await self._chain.get_height()
        for one in sorted(challenges, key=lambda found: (found.challenge.commit_deadline, found.challenge_id)):
            await self._advance(one, height)
        self._verdicts.retain_only(frozenset(one.challenge_id for one in challenges))
        open_ids = {one.challenge_id for one in challenges}
        self._sent = {key: sent for key, sent in self._sent.items() if key[0] in open_ids}

    async def _advance(self, one: OpenChallenge, height: int) -> None:
        preimage = self._verdicts.load(one.challenge_id)
        if preimage is None:
            if one.is_committed or height >= one.challenge.commit_deadline:
                return  # committed by a process whose disk is lost, or too late: nothing we could reveal
            judgement = await self._judge_challenge(one, height)
            if judgement is None:
                return
            preimage = self._bind(one.challenge_id, judgement)
            await trio.to_thread.run_sync(self._verdicts.save, preimage)
        if not one.is_committed:
            await self._send(one.challenge_id, CommitVerdict(one.challenge_id, compute_commitment(preimage)), height)
        elif one.may_reveal and not one.is_revealed:
            await self._send(one.challenge_id, _make_reveal(preimage), height)

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

    async def _send(self, challenge: bytes, call: Call, height: int) -> None:
        """Send once, and again when it is not on chain three blocks later."""
        key = (challenge, type(call))
        if height < self._sent.get(key, -MARGIN_BLOCKS) + MARGIN_BLOCKS:
            return
        self._sent[key] = height
        try:
            await self._chain.submit(call)
        except SubmissionRefused as error:
            logger.warning("challenge %s: %s refused: %s", challenge.hex()[:12], type(call).__name__, error)

    async def _judge_challenge(self, one: OpenChallenge, height: int) -> Judgement | None:
        """The verdict; None when the worker could not be asked and there is time to ask again."""
        challenge = one.challenge
        is_last_try = height + MARGIN_BLOCKS >= challenge.commit_deadline
        try:
            opening = await self._fetch(challenge)
        except (NetworkError, ProtocolError, OpeningError) as error:
            logger.warning("challenge %s: no valid opening: %s", one.challenge_id.hex()[:12], error)
            return UNAVAILABLE if is_last_try else None
        manifest = await self._chain.get_manifest(challenge.model)
        assert manifest is not None, "a challenge is about a registered model"
        stage = opening.order.path[challenge.stage]
        seed = compute_fingerprint_seed(challenge.beacon, one.challenge_id)
        try:
            found = await trio.to_thread.run_sync(
                self._judge.judge, opening, challenge.model, manifest, (stage.start, stage.end), seed
            )
        except InferenceError as error:
            logger.error("challenge %s cannot be recomputed here: %s", one.challenge_id.hex()[:12], error)
            return None
        logger.info(
            "challenge %s: stage %d window %d: %s, distance %d ppb, %d token mismatches",
            one.challenge_id.hex()[:12],
            challenge.stage,
            challenge.window,
            Outcome(found.outcome).name,
            found.distance_ppb,
            found.token_mismatches,
        )
        return found

    async def _fetch(self, challenge: Challenge) -> AuthenticOpening:
        """Ask the challenged worker at every address it registered, and authenticate what it opens."""
        request = await self._chain.get_request(challenge.request)
        worker = await self._chain.get_worker(challenge.worker)
        manifest = await self._chain.get_manifest(challenge.model)
        session = await self._chain.get_session(request.session) if request is not None else None
        if request is None or worker is None or manifest is None or session is None:
            raise OpeningError("the chain does not know the request, its session or worker")
        committed = request.stages[challenge.stage]
        roots = StageRoots(
            challenge.request,
            challenge.stage,
            request.windows,
            request.positions,
            committed.input_root,
            committed.output_root,
        )
        body = encode(OpeningRequest(challenge.request, challenge.stage, challenge.window))
        failures: list[str] = []
        for address in worker.addresses:
            try:
                answer = await ask_peer(
                    self._host,
                    address,
                    OPENING_PROTOCOL,
                    body,
                    timeout_s=OPENING_TIMEOUT_S,
                    max_response_bytes=OPENING_BYTES_MAX,
                )
                opening = decode(Opening, answer, OPENING_BYTES_MAX)
                return authenticate_opening(opening, roots, challenge.window, session.session_key, manifest)
            except (NetworkError, ProtocolError) as error:
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
