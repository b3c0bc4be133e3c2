"""The verifier's loop: find challenges that wait for us, fetch openings, judge, commit, reveal.

A challenge is judged once; the verdict is on disk before its commitment is sent, so that every step can be repeated
after a crash. Challenges are taken in order of their deadline. Every seat has a commitment before its deadline: where
this machine cannot judge in time, for whatever reason, it says at the last safe block that it cannot.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import trio

from consensus.runtime.inference.state import Challenge, Request
from inference.serving.opening import AuthenticOpening, OpeningError
from node.client.chain_view import ChainUnreachable, ChainView, WorkerEntry
from node.p2p.errors import NetworkError
from node.p2p.host import P2PHost
from node.p2p.request import request as ask_peer
from node.verifier.audits import compute_audit_bytes_max, fetch_audit_answer
from node.verifier.commitment import Commitment, make_opening_request, read_commitment
from node.verifier.fetch_budget import FetchBudget
from node.verifier.judge import INCONCLUSIVE, UNAVAILABLE, Judge, Judgement
from node.verifier.submissions import SubmissionChain, VerdictSubmissions
from node.verifier.turns import JudgingTurns
from node.verifier.verdicts import VerdictStore, bind_verdict, make_reveal
from proto_specs.codec import decode, encode
from proto_specs.errors import ProtocolError
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.audit import AuditAnswer
from proto_specs.types.calls import CommitVerdict, Outcome
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import Opening
from proto_specs.types.verdict import VerdictPreimage, compute_commitment, compute_fingerprint_seed
from proto_specs.types.wire import OPENING_PROTOCOL

logger = logging.getLogger("myelin.verify")

POLL_S = 0.25
OPENING_TIMEOUT_S = 4.0
OPENING_TIMEOUT_S_MAX = 15.0
ADDRESS_TIMEOUT_S_MIN = 3.0
"""All addresses of a worker have the first together, twice as long with each try up to the second; each the third."""
MARGIN_BLOCKS = 3
"""An unreachable worker is asked again until this many blocks before the commit deadline."""
SAFE_BLOCKS = 2
"""So many blocks before the deadline something is committed: a transaction may miss the next block."""
LATE_S = 0.5
"""How long a challenge is tried for that is found after that."""


_Shown = AuthenticOpening | AuditAnswer


@dataclass(frozen=True, slots=True)
class OpenChallenge:
    """A challenge that names this verifier, and the verifier's steps so far on chain."""

    challenge_id: bytes
    challenge: Challenge
    is_committed: bool
    is_revealed: bool
    may_reveal: bool
    is_audit: bool = False


class DutyChain(ChainView, SubmissionChain, Protocol):
    """The duty's questions to the chain, beyond those of serving."""

    async def get_height(self) -> int:
        """Height of the last finalized block."""

    async def list_challenges(self) -> tuple[OpenChallenge, ...]:
        """Open challenges whose committee names this verifier."""

    async def get_request(self, request: bytes) -> Request | None:
        """A settled request."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A challenge in progress. The wait for its worker ends at `patience_height`, everything at `last_height`."""

    waiting: trio.CancelScope
    patience_height: int
    whole: trio.CancelScope
    last_height: int


@dataclass(frozen=True, slots=True)
class _Failure:
    """Of the last of so many attempts: the height before which none follows, and what is said if it was the last."""

    again_height: int
    verdict: Judgement
    tries: int


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
        self._submissions = VerdictSubmissions(chain)
        self._attempts: dict[bytes, _Attempt] = {}
        self._failed: dict[bytes, _Failure] = {}
        self._bound: dict[bytes, VerdictPreimage] = {}
        """Verdicts of this process, which may be those that the disk did not take."""
        self._height = 0
        self._budget = FetchBudget()
        self._turns = JudgingTurns()

    async def run(self) -> None:
        """Do the duty until cancelled. While the node is unreachable it waits; nothing but a cancellation ends it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send)
            while True:
                try:
                    for one in await self._list_due():
                        nursery.start_soon(self._attempt, one)
                except ChainUnreachable as error:
                    logger.warning("the node does not answer: %s", error)
                except Exception:  # whatever it is, what is committed to has to be revealed
                    logger.exception("the duty goes on after a failure")
                await trio.sleep(POLL_S)

    async def _send(self) -> None:
        """Beside looking for challenges, which takes a while when the node is busy."""
        while True:
            await self._submissions.wait()
            try:
                await self._submissions.flush(self._height)
            except Exception:
                logger.exception("verdicts are sent again after a failure")

    async def run_once(self) -> None:
        """A complete pass over all open challenges. Raises ChainUnreachable."""
        due = await self._list_due()
        async with trio.open_nursery() as nursery:
            for one in due:
                nursery.start_soon(self._attempt, one)
        await self._submissions.flush(self._height)

    async def _list_due(self) -> list[OpenChallenge]:
        """Challenges without a task yet, by deadline. Those whose time is over are told so."""
        challenges = await self._chain.list_challenges()
        self._height = await self._chain.get_height()
        due: list[OpenChallenge] = []
        for one in sorted(challenges, key=lambda found: (found.challenge.commit_deadline, found.challenge_id)):
            attempt = self._attempts.get(one.challenge_id)
            if attempt is None:
                self._attempts[one.challenge_id] = self._plan(one.challenge)
                due.append(one)
                continue
            if self._height >= attempt.patience_height:
                attempt.waiting.cancel()
            if self._height >= attempt.last_height:
                attempt.whole.cancel()
        self._forget_others(challenges)
        return due

    def _plan(self, challenge: Challenge) -> _Attempt:
        """The time a challenge has from now on."""
        deadline, soonest = challenge.commit_deadline, self._height + 1
        whole = trio.CancelScope()
        if soonest >= deadline > self._height:
            whole.deadline = trio.current_time() + LATE_S
        patience_height, last_height = (max(soonest, deadline - blocks) for blocks in (MARGIN_BLOCKS, SAFE_BLOCKS))
        return _Attempt(trio.CancelScope(), patience_height, whole, last_height)

    def _forget_others(self, challenges: tuple[OpenChallenge, ...]) -> None:
        known = {one.challenge_id for one in challenges} | set(self._attempts)
        self._submissions.retain_only(known)
        self._failed = {key: failure for key, failure in self._failed.items() if key in known}
        self._bound = {key: bound for key, bound in self._bound.items() if key in known}
        self._budget.retain_only(frozenset(one.challenge.worker for one in challenges))
        self._verdicts.retain_only(frozenset(known))

    async def _attempt(self, one: OpenChallenge) -> None:
        short, whole = one.challenge_id.hex()[:12], self._attempts[one.challenge_id].whole
        try:
            with whole:
                await self._advance(one)
            if whole.cancelled_caught:
                logger.error("challenge %s: there was no time to judge it", short)
                await self._put_commitment(one, self._get_fallback(one))
        except ChainUnreachable as error:
            logger.warning("challenge %s waits, the node does not answer: %s", short, error)
        except Exception:  # a bug, which silences the duty in no other challenge, nor in this one
            logger.exception("challenge %s fails here", short)
            self._note_failed(one, 1)
        finally:
            del self._attempts[one.challenge_id]

    async def _advance(self, one: OpenChallenge) -> None:
        preimage = self._load(one.challenge_id)
        if preimage is not None:
            self._put(one, preimage)
            return
        if one.is_committed or self._height >= one.challenge.commit_deadline:
            return  # committed by a process whose disk is lost, or too late: nothing we could reveal
        failure = self._failed.get(one.challenge_id)
        if failure is not None and self._height >= one.challenge.commit_deadline - SAFE_BLOCKS:
            await self._put_commitment(one, failure.verdict)
        elif failure is None or self._height >= failure.again_height:
            judgement = await self._judge_challenge(one)
            if judgement is not None:
                await self._put_commitment(one, judgement)

    def _note_failed(self, one: OpenChallenge, wait_blocks: int, verdict: Judgement = INCONCLUSIVE) -> None:
        before = self._failed.get(one.challenge_id)
        tries = 1 if before is None else before.tries + 1
        self._failed[one.challenge_id] = _Failure(self._height + wait_blocks, verdict, tries)

    def _get_fallback(self, one: OpenChallenge) -> Judgement:
        failure = self._failed.get(one.challenge_id)
        return INCONCLUSIVE if failure is None else failure.verdict

    def _load(self, challenge: bytes) -> VerdictPreimage | None:
        if challenge not in self._bound:
            try:
                found = self._verdicts.load(challenge)
            except (OSError, ProtocolError) as error:
                logger.error("the verdict on challenge %s cannot be read: %s", challenge.hex()[:12], error)
                return None
            if found is None:
                return None
            self._bound[challenge] = found
        return self._bound[challenge]

    async def _put_commitment(self, one: OpenChallenge, judgement: Judgement) -> None:
        """Bind the verdict, keep it on disk, and send its commitment unless it is too late."""
        if one.is_committed or self._height >= one.challenge.commit_deadline:
            return
        preimage = self._load(one.challenge_id)
        if preimage is None:
            preimage = self._bound[one.challenge_id] = bind_verdict(one.challenge_id, self._account, judgement)
            with trio.CancelScope(shield=True):
                try:
                    await trio.to_thread.run_sync(self._verdicts.save, preimage)
                except OSError as error:  # silence would be certain to cost, a restart before the reveal is not
                    short = one.challenge_id.hex()[:12]
                    logger.error("challenge %s: the verdict is in memory alone, the disk fails: %s", short, error)
        self._put(one, preimage)

    def _put(self, one: OpenChallenge, preimage: VerdictPreimage) -> None:
        if not one.is_committed:
            if self._height < one.challenge.commit_deadline:
                self._submissions.put(CommitVerdict(one.challenge_id, compute_commitment(preimage)))
        elif one.may_reveal and not one.is_revealed:
            self._submissions.put(make_reveal(preimage))

    async def _judge_challenge(self, one: OpenChallenge) -> Judgement | None:
        """The verdict; None when there is time to try again, or when the fault is this verifier's."""
        challenge, short = one.challenge, one.challenge_id.hex()[:12]
        manifest = await self._chain.get_manifest(challenge.model)
        worker = await self._chain.get_worker(challenge.worker)
        expected = None if one.is_audit else await read_commitment(self._chain, challenge)
        if manifest is None or worker is None or (expected is None and not one.is_audit):
            logger.error("challenge %s: the chain does not know its model, worker, request or session", short)
            self._note_failed(one, 1)
            return None
        fetch: Callable[[], Awaitable[_Shown]]
        if expected is None:
            most = compute_audit_bytes_max(manifest)
            fetch = partial(fetch_audit_answer, self._host, challenge, worker, manifest)
        else:
            most = expected.compute_bytes_max(challenge, manifest)
            failure = self._failed.get(one.challenge_id)
            patience_s = min(OPENING_TIMEOUT_S * 2 ** (0 if failure is None else failure.tries), OPENING_TIMEOUT_S_MAX)
            fetch = partial(self._fetch, challenge, worker, manifest, expected, patience_s)
        opening = await self._wait_for_opening(one, most, fetch)
        if opening is None or isinstance(opening, Judgement):
            return opening
        try:
            found = await self._recompute(one, opening, manifest)
        except Exception as error:  # a model that is not here, memory, a bug: none of them is the worker's
            logger.error("challenge %s cannot be recomputed here: %s", short, error or type(error).__name__)
            self._note_failed(one, MARGIN_BLOCKS)
            return None
        logger.info(
            "challenge %s: stage %d window %d: %s, distance %d ppb, %d token mismatches",
            short,
            challenge.stage,
            challenge.window if isinstance(opening, AuditAnswer) else opening.window_start // WINDOW_POSITIONS,
            Outcome(found.outcome).name,
            found.distance_ppb,
            found.token_mismatches,
        )
        return found

    async def _wait_for_opening(
        self, one: OpenChallenge, most: int, fetch: Callable[[], Awaitable[_Shown]]
    ) -> _Shown | Judgement | None:
        """What the worker shows, or what its absence says; None when the worker is asked again later."""
        challenge, waiting = one.challenge, self._attempts[one.challenge_id].waiting
        asked_s: float | None = None
        with waiting:
            async with self._budget.take(challenge.worker, most):
                asked_s = trio.current_time()
                try:
                    opening = await fetch()
                except (NetworkError, OpeningError) as error:
                    logger.warning("challenge %s: no valid opening: %s", one.challenge_id.hex()[:12], error)
                    self._budget.note_failure(challenge.worker)
                except BaseException:
                    self._budget.note_failure(challenge.worker)
                    raise
                else:
                    self._budget.note_answer(challenge.worker)
                    return opening
        if waiting.cancelled_caught or self._height + MARGIN_BLOCKS >= challenge.commit_deadline:
            # Where others' silence was in the way, not its own, it was not asked, or hardly had the time to answer.
            until_s = trio.current_time() - (ADDRESS_TIMEOUT_S_MIN if waiting.cancelled_caught else 0.0)
            was_asked = asked_s is not None and asked_s <= until_s
            is_silent = was_asked or self._budget.is_in_its_own_way(challenge.worker)
            return UNAVAILABLE if is_silent else self._get_fallback(one)
        self._note_failed(one, 1, UNAVAILABLE)
        return None

    async def _recompute(self, one: OpenChallenge, opening: _Shown, manifest: Manifest) -> Judgement:
        challenge = one.challenge
        seed = compute_fingerprint_seed(challenge.beacon, one.challenge_id)
        given = challenge.model, manifest, seed
        if isinstance(opening, AuditAnswer):
            layers = opening.start, opening.end
            judge = partial(self._judge.judge_audit, opening, *given)
        else:
            stage = opening.order.path[challenge.stage]
            layers = stage.start, stage.end
            judge = partial(self._judge.judge, opening, *given[:2], layers, seed)
        await self._turns.wait(one.is_audit, challenge.commit_deadline, (challenge.model, *layers))
        try:  # a thread that takes too long is left alone, and nothing else is judged before it is done
            return await trio.to_thread.run_sync(  # type: ignore[call-arg]  # the stubs are older than trio
                judge, limiter=self._turns.limiter, abandon_on_cancel=True
            )
        finally:
            self._turns.note_done()

    async def _fetch(
        self,
        challenge: Challenge,
        worker: WorkerEntry,
        manifest: Manifest,
        expected: Commitment,
        patience_s: float,
    ) -> AuthenticOpening:
        """Ask the challenged worker at every address it registered, and authenticate what it opens.

        Raises OpeningError when no address gives a valid opening. Reads no more bytes than an honest opening can have.
        """
        most = expected.compute_bytes_max(challenge, manifest)
        timeout_s = max(patience_s / max(len(worker.addresses), 1), ADDRESS_TIMEOUT_S_MIN)
        body = encode(make_opening_request(challenge))
        failures: list[str] = []
        for address in worker.addresses:
            try:
                answer = await ask_peer(
                    self._host,
                    address,
                    OPENING_PROTOCOL,
                    body,
                    timeout_s=timeout_s,
                    max_response_bytes=most,
                )
                opening = decode(Opening, answer, most)
                return expected.authenticate(opening, challenge, manifest)
            except (NetworkError, ProtocolError, OpeningError) as error:
                failures.append(f"{address}: {error}")
        raise OpeningError("; ".join(failures) or "the worker registered no address")
