"""The node's end of a signer in another process: asks, waits a bounded time, and reconnects after a failure.

While the signer does not answer the node signs nothing and follows. The signer's own history makes repeats safe.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from node.signer.remote.messages import (
    Answer,
    Ask,
    AskProof,
    AskSignature,
    AskSigned,
    AskVotes,
    Found,
    Hello,
    Refused,
    ServerProof,
    Signed,
    Unfit,
    Votes,
    Welcome,
    receive_answer,
    send,
)
from node.signer.signer import SignerError, SignerUnreachable, SignRefused, VoteSlot
from proto_specs.errors import DecodeError
from proto_specs.types.chain import Vote

logger = logging.getLogger("myelin.signer")

ANSWER_S_MAX = 1.0
PAUSE_S = 5.0
"""How long the signer is not asked after a late answer: a stuck signer must not stall the node."""


class RemoteSigner:
    """A `VoteSigner` in another process. Its methods may be called from any thread."""

    def __init__(
        self,
        path: Path,
        genesis: bytes,
        answer_s_max: float = ANSWER_S_MAX,
        read_clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect. Raises SignerError when no signer answers or the signer does not fit."""
        self._path = path
        self._genesis = genesis
        self._answer_s_max = answer_s_max
        self._read_clock_s = read_clock_s
        self._lock = threading.Lock()
        self._stream: socket.socket | None = None
        self._silent_until_s = 0.0
        self._key: bytes | None = None
        try:
            self._stream, self._key = self._connect()
        except (OSError, DecodeError) as error:
            raise SignerError(f"no signer answers at {path} ({error}): start `myelin signer serve` first") from error

    @property
    def public_key(self) -> bytes:
        """The signer's key; it stays the same for as long as the node runs."""
        assert self._key is not None, "it is connected when it is made"
        return self._key

    def sign(self, height: int, round_: int, slot: VoteSlot, payload: bytes) -> bytes:
        """The 64-byte signature, which the signer has on disk. Raises SignRefused, SignerUnreachable."""
        answer = self._ask(AskSignature(height, round_, int(slot), payload))
        if not isinstance(answer, Signed):
            raise self._drop("it answered something else than a signature")
        return answer.signature

    def list_votes(self, height: int) -> list[Vote]:
        """The remembered votes of a height; none while it is unreachable (it still contradicts none of them)."""
        try:
            answer = self._ask(AskVotes(height))
        except SignerUnreachable as error:
            logger.warning("votes signed at height %d are unknown: %s", height, error)
            return []
        if not isinstance(answer, Votes):
            raise self._drop("it answered something else than votes")
        return list(answer.votes)

    def has_signed(self, vote: Vote) -> bool:
        """See VoteSigner. Raises SignerUnreachable."""
        answer = self._ask(AskSigned(vote))
        if not isinstance(answer, Found):
            raise self._drop("it answered something else than yes or no")
        return answer.is_so

    def prove_beacon(self, previous: bytes, height: int) -> bytes:
        """See VoteSigner. Raises SignerUnreachable."""
        answer = self._ask(AskProof(previous, height))
        if not isinstance(answer, ServerProof):
            raise self._drop("it answered something else than a proof")
        return answer.proof

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            self._hang_up()

    def _ask(self, ask: Ask) -> Answer:
        """Sends a request and returns the answer; reconnects when the old connection has ended."""
        with self._lock:
            if self._read_clock_s() < self._silent_until_s:
                raise SignerUnreachable(f"the signer at {self._path} did not answer in time: it is asked again soon")
            for is_last in (self._stream is None, True):
                try:
                    if self._stream is None:
                        self._stream, _ = self._connect()
                    send(self._stream, ask, Ask)
                    answer = receive_answer(self._stream, self._answer_s_max)
                    break
                except (OSError, DecodeError, SignerError) as error:
                    self._hang_up()
                    if isinstance(error, TimeoutError):
                        self._silent_until_s = self._read_clock_s() + PAUSE_S
                    if is_last or isinstance(error, TimeoutError):
                        raise SignerUnreachable(
                            f"the signer at {self._path} does not answer ({error}): see to `myelin signer serve`"
                        ) from error
        if isinstance(answer, Refused):
            raise SignRefused(answer.reason)
        return answer

    def _connect(self) -> tuple[socket.socket, bytes]:
        """Connects and exchanges greetings; returns socket and key. Raises OSError, DecodeError, SignerError."""
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            stream.settimeout(self._answer_s_max)
            stream.connect(str(self._path))
            with contextlib.suppress(BrokenPipeError):  # turned away before we spoke: the reason is there to read
                send(stream, Hello(self._genesis), Ask)
            answer = receive_answer(stream, self._answer_s_max)
            if isinstance(answer, Unfit):
                raise SignerError(f"the signer at {self._path} refuses: {answer.reason}")
            if not isinstance(answer, Welcome):
                raise SignerError(f"what listens at {self._path} is no signer")
            if self._key not in (None, answer.key):
                raise SignerError(f"the signer at {self._path} holds another key than before")
        except BaseException:
            stream.close()
            raise
        return stream, answer.key

    def _drop(self, reason: str) -> SignerUnreachable:
        self.close()
        return SignerUnreachable(f"the signer at {self._path} is none: {reason}")

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
