"""Verdicts on their way to the chain: those of one moment travel together, and what does not land is sent again.

Knows calls and heights; nothing of how a verdict came about.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from node.client.chain_view import ChainUnreachable
from node.client.tips import compute_tip
from proto_specs.errors import MyelinError
from proto_specs.types.calls import BatchEach, Call, CommitVerdict, RevealVerdict

logger = logging.getLogger("myelin.verify")

RESEND_BLOCKS: Final = 3
"""What is not on chain so many blocks after it was sent is sent again, for more."""
TOGETHER_MAX: Final = 32
TOGETHER_S: Final = 0.1

Verdict = CommitVerdict | RevealVerdict


class SubmissionRefused(MyelinError):
    """The node refused the transaction; the message says why."""


class SubmissionChain(Protocol):
    """Where verdicts go."""

    async def submit(self, call: Call, tip: int = 0, replaces: bytes | None = None) -> bytes:
        """Sign with the verifier's account and send; returns the extrinsic hash.

        Takes the place of the transaction `replaces` while that waits in the pool: whatever an account sends later
        waits behind it. Raises SubmissionRefused, ChainUnreachable.
        """


@dataclass(frozen=True, slots=True)
class _Underway:
    height: int
    tries: int
    extrinsic: bytes | None


class VerdictSubmissions:
    """Of one verifier account."""

    def __init__(self, chain: SubmissionChain) -> None:
        self._chain = chain
        self._sent: dict[tuple[bytes, type[Verdict]], _Underway] = {}
        self._wanted: dict[tuple[bytes, type[Verdict]], Verdict] = {}
        self._is_wanted = trio.Event()

    def put(self, call: Verdict) -> None:
        """To be on chain soon. What is put again was not found there yet."""
        self._wanted[(call.challenge, type(call))] = call
        self._is_wanted.set()

    async def wait(self) -> None:
        """Until something is wanted, and a moment more for what comes with it."""
        await self._is_wanted.wait()
        await trio.sleep(TOGETHER_S)

    def retain_only(self, challenges: Collection[bytes]) -> None:
        """Forget what was sent for others."""
        self._sent = {key: sent for key, sent in self._sent.items() if key[0] in challenges}

    async def flush(self, height: int) -> None:
        """Send what is wanted and was not sent lately. What the node is not there for has to be put again."""
        wanted, self._wanted, self._is_wanted = self._wanted, {}, trio.Event()
        groups: dict[bytes | None, list[Verdict]] = {}
        for key, call in wanted.items():
            sent = self._sent.get(key)
            if sent is None or height >= sent.height + RESEND_BLOCKS:
                groups.setdefault(None if sent is None else sent.extrinsic, []).append(call)
        for replaces, calls in groups.items():
            for start in range(0, len(calls), TOGETHER_MAX):
                await self._send(tuple(calls[start : start + TOGETHER_MAX]), height, None if start else replaces)

    async def _send(self, calls: tuple[Verdict, ...], height: int, replaces: bytes | None) -> None:
        keys = [(one.challenge, type(one)) for one in calls]
        tries = max((self._sent[key].tries for key in keys if key in self._sent), default=0)
        call: Call = calls[0] if len(calls) == 1 else BatchEach(calls)
        extrinsic: bytes | None = None
        sent_height = height
        try:
            extrinsic = await self._chain.submit(call, compute_tip(tries), replaces)
        except SubmissionRefused as error:
            sent_height = height - RESEND_BLOCKS + 1  # at the next block, for more
            logger.warning("refused: %s: %s", _name(calls), error)
        except ChainUnreachable as error:
            logger.warning("not sent: %s: %s", _name(calls), error)
            return
        for key in keys:
            self._sent[key] = _Underway(sent_height, tries + 1, extrinsic)


def _name(calls: Sequence[Verdict]) -> str:
    return ", ".join(f"{type(one).__name__} for {one.challenge.hex()[:12]}" for one in calls)
