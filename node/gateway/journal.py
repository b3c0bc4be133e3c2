"""Journals of running answers: what a gateway that was killed needs to go on with them. Deleted when they are final.

A file for each call, of mode 0600, under a directory of mode 0700: a line of JSON with what was asked, then a line for
each thing that happens. Lines are written as they come and not synced: the death of the process loses none, a power
cut the last ones, which are generated again. The call's prompt lies there in the clear as long as the answer runs.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from inference.routing import Prefer
from node.client.answer import Ask, Generated
from proto_specs.codec import decode, encode
from proto_specs.errors import MyelinError
from proto_specs.types.sampling import SamplingParams, TokenLogprob
from proto_specs.types.wire import FinishReason

SUFFIX: Final = ".answer"
VERSION: Final = 1
FILE_BYTES_MAX: Final = 64 << 20
RUNNING_MAX: Final = 4_096
"""Answers that are journaled at once; what comes beyond is answered, but cannot be resumed."""
LEFT_MAX: Final = 1_000
KEPT_S: Final = 86_400.0
"""What nobody has resumed for so long is deleted at the next start."""
RESUMES_MAX: Final = 14
EPOCHS_PER_RESUME: Final = 16
"""Each resumption counts its orders from an epoch of its own: a worker refuses one that it has seen."""
_SAMPLING_BYTES_MAX: Final = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JournalHead:
    """What was asked: the route, the body and the headers that count, whose key, and what became of it as asks."""

    route: str
    body: dict[str, Any]
    headers: dict[str, str]
    key: int
    asks: tuple[Ask, ...]


@dataclass(slots=True)
class ChoiceSoFar:
    """What came of one choice."""

    requests: list[bytes] = field(default_factory=list)
    items: list[Generated] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether its last token is here."""
        return bool(self.items) and self.items[-1].finish is not FinishReason.NONE


@dataclass(slots=True)
class LeftAnswer:
    """An answer that an earlier run left. `resumes`: how often one has begun to go on with it."""

    path: Path
    head: JournalHead
    choices: list[ChoiceSoFar]
    resumes: int = 0

    @property
    def epoch(self) -> int:
        """The epoch of the next order."""
        return 1 + EPOCHS_PER_RESUME * self.resumes


class JournalDamaged(MyelinError):
    """A journal cannot be read. The message names it."""


class AnswerJournal:
    """The journal of a running call. The file is made with the first line; trouble with it ends no answer."""

    def __init__(self, owner: Journals, path: Path, head: JournalHead, resumes: int | None = None) -> None:
        """`resumes`: the file is there, and this is how often it was resumed before."""
        self._owner = owner
        self._path = path
        self._head = head
        self._handle: int | None = None
        self._is_lost = False
        self.requests: set[bytes] = set()
        if resumes is not None:
            self._open(os.O_WRONLY | os.O_APPEND)
            self._write(["n", resumes + 1])

    def note_request(self, choice: int, request: bytes) -> None:
        """A choice is answered under this request id from now on."""
        if self._handle is None and not self._is_lost:
            self._open(os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
            self._write(_pack_head(self._head))
        self.requests.add(request)
        self._owner.add(request, self)
        self._write(["r", choice, request.hex()])

    def note_token(self, choice: int, item: Generated) -> None:
        """A token came."""
        scores = [[one.token, one.logprob_micro] for one in item.logprobs]
        self._write(["t", choice, item.token, int(item.finish), scores])

    def close(self, *, is_final: bool) -> None:
        """Nothing more comes. Unless it `is_final` another run may go on with it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        self._is_lost = True
        if is_final:
            self._path.unlink(missing_ok=True)
        self._owner.remove(self)

    def _open(self, flags: int) -> None:
        try:
            self._handle = os.open(self._path, flags, 0o600)
        except OSError as error:
            self._lose(error)

    def _write(self, line: Any) -> None:
        if self._handle is None:
            return
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            if os.write(self._handle, data) != len(data):
                raise OSError("a short write")
        except OSError as error:
            os.close(self._handle)
            self._handle = None
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self._is_lost = True
        log.warning("%s cannot be written (%s): its answer cannot be resumed after a crash", self._path, error)


class Journals:
    """All journals of a gateway: of what runs, and what an earlier run left."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[bytes, AnswerJournal] = {}
        self._open: set[AnswerJournal] = set()
        self._left: dict[bytes, LeftAnswer] = {}
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._read_left()

    def begin(self, head: JournalHead) -> AnswerJournal | None:
        """A journal for a new call. None: there are too many, or its prompt is scored, which comes at once."""
        if len(self._open) >= RUNNING_MAX or any(one.sampling.prompt_logprobs for one in head.asks):
            return None
        journal = AnswerJournal(self, self._directory / f"{os.urandom(12).hex()}{SUFFIX}", head)
        self._open.add(journal)
        return journal

    def is_running(self, request: bytes) -> bool:
        """Whether it is being answered here."""
        return request in self._running

    def find(self, request: bytes) -> LeftAnswer | None:
        """What an earlier run left of the answer of a request."""
        return self._left.get(request)

    def resume(self, left: LeftAnswer) -> AnswerJournal:
        """From now on it runs here, and its file is written on."""
        journal = AnswerJournal(self, left.path, left.head, left.resumes)
        self._open.add(journal)
        for request in [one for choice in left.choices for one in choice.requests]:
            self._left.pop(request, None)
            journal.requests.add(request)
            self.add(request, journal)
        return journal

    def add(self, request: bytes, journal: AnswerJournal) -> None:
        """A request of a journal that runs."""
        self._running[request] = journal

    def remove(self, journal: AnswerJournal) -> None:
        """It runs no more."""
        self._open.discard(journal)
        for request in journal.requests:
            self._running.pop(request, None)

    def _read_left(self) -> None:
        """Index what is there, the newest first; delete what is old, damaged or too much."""
        paths = sorted(self._directory.glob(f"*{SUFFIX}"), key=lambda one: one.stat().st_mtime, reverse=True)
        for number, path in enumerate(paths):
            try:
                if number >= LEFT_MAX or time.time() - path.stat().st_mtime > KEPT_S:
                    raise JournalDamaged(f"{path} is old: nobody has resumed its answer")
                left = read_journal(path)
            except (JournalDamaged, OSError) as error:
                log.info("%s; it is deleted", error)
                path.unlink(missing_ok=True)
                continue
            for request in [one for choice in left.choices for one in choice.requests]:
                self._left[request] = left


def read_journal(path: Path) -> LeftAnswer:
    """A journal from disk. A torn last line counts as not written. Raises JournalDamaged, OSError."""
    if path.stat().st_size > FILE_BYTES_MAX:
        raise JournalDamaged(f"{path} is larger than a journal gets")
    lines = path.read_bytes().split(b"\n")[:-1]
    try:
        head = _parse_head(json.loads(lines[0]))
        left = LeftAnswer(path, head, [ChoiceSoFar() for _ in head.asks])
        for line in lines[1:]:
            _apply(left, json.loads(line))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, MyelinError) as error:
        raise JournalDamaged(f"{path} is damaged ({type(error).__name__})") from error
    return left


def _apply(left: LeftAnswer, line: Sequence[Any]) -> None:
    match line:
        case ["n", int(resumes)]:
            left.resumes = resumes
        case ["r", int(choice), str(request)]:
            left.choices[choice].requests.append(bytes.fromhex(request))
        case ["t", int(choice), int(token), int(finish), list(scores)]:
            logprobs = tuple(TokenLogprob(int(one), int(micro)) for one, micro in scores)
            left.choices[choice].items.append(Generated(token, FinishReason(finish), 0.0, logprobs))
        case _:
            raise ValueError("a line of another kind")


def _pack_head(head: JournalHead) -> dict[str, Any]:
    asks = [
        {
            "model": one.model.hex(),
            "prompt": list(one.prompt),
            "tokens_max": one.tokens_max,
            "sampling": encode(one.sampling).hex(),
            "max_price": one.max_price,
            "grammar": one.grammar.hex(),
            "prefer": one.prefer.value,
        }
        for one in head.asks
    ]
    return {
        "version": VERSION,
        "route": head.route,
        "body": head.body,
        "headers": head.headers,
        "key": head.key,
        "asks": asks,
    }


def _parse_head(found: dict[str, Any]) -> JournalHead:
    if found["version"] != VERSION:
        raise ValueError("another version")
    asks = tuple(
        Ask(
            model=bytes.fromhex(one["model"]),
            prompt=tuple(int(token) for token in one["prompt"]),
            tokens_max=int(one["tokens_max"]),
            sampling=decode(SamplingParams, bytes.fromhex(one["sampling"]), _SAMPLING_BYTES_MAX),
            max_price=int(one["max_price"]),
            grammar=bytes.fromhex(one["grammar"]),
            prefer=Prefer(one["prefer"]),
        )
        for one in found["asks"]
    )
    return JournalHead(str(found["route"]), dict(found["body"]), dict(found["headers"]), int(found["key"]), asks)
