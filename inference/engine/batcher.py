"""Many requests on one shard, from wire bytes to wire bytes: plan a step, run it, take the answers.

`plan` and `finish` are quick and belong to the event loop; `run` computes and belongs to a thread. One step at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from inference.decoding.chooser import TokenChooser
from inference.engine.engine import ForwardCall, StageEngine
from inference.engine.rows import Hidden, Rows, StageOutput, validate_rows
from inference.engine.scheduler import CHUNK_ROWS_MAX, EngineStep, Scheduler, Work
from inference.engine.wire_dtype import decode_rows, decode_tokens, encode_rows
from inference.errors import EngineError, ModelError, WireDtypeError
from inference.serving.events import DrawnToken
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.manifest import TOKEN_BYTES
from proto_specs.types.sampling import TokenLogprob

CHUNK_ROWS_BESIDE_DECODES = 2 * WINDOW_POSITIONS
"""A chunk of so many rows takes about as long as a full batch of decodes, and most prompts of a chat are one."""


@dataclass(frozen=True)
class StageAnswer:
    """A work's output: wire bytes of its rows, and on a last shard the tokens drawn from the rows that are sampled.

    `prompt_logprobs` has an entry for each row before those, where the order asks for them. `draft` holds the tokens
    that the last rows were drafted from, on any shard but the last, which answers the rows that stand and no others.
    The last `unsound` of the drafted rows could not be sent, and are zeros: the request ends if they turn out to stand.
    """

    start: int
    count: int
    rows: bytes
    tokens: tuple[DrawnToken, ...]
    prompt_logprobs: tuple[tuple[TokenLogprob, ...], ...] = ()
    draft: tuple[int, ...] = ()
    unsound: int = 0


@dataclass(frozen=True)
class PlannedCall:
    """A work with its input: wire bytes, or the rows of a replay."""

    work: Work
    payload: bytes
    replayed: Rows | None
    chooser: TokenChooser | None
    sample_from: int
    draft: tuple[int, ...]

    def is_drafted_right(self, token: int, row: int) -> bool:
        """Whether the row after number `row` holds the token drawn from that one, or holds no drafted token."""
        place = row + 1 - (self.work.count - len(self.draft))
        return not 0 <= place < len(self.draft) or self.draft[place] == token


@dataclass(frozen=True)
class PlannedStep:
    """What one `run` computes."""

    step: EngineStep
    calls: tuple[PlannedCall, ...]


@dataclass
class _Job:
    """Wire rows of a request that wait to be computed."""

    chooser: TokenChooser | None
    sample_from: int
    chunk_rows: int
    is_decoding: bool = False
    waiting: bytearray = field(default_factory=bytearray)
    draft: tuple[int, ...] = ()
    """The tokens that the last of the waiting rows were drafted from."""
    due: int | None = None
    """On a last shard, after a draft: where the rows that follow must begin, for from those before was drawn."""
    is_failed: bool = False
    """It got an error as an answer: nothing that follows can run, and what it was given is not all recorded."""


class StageBatcher:
    """Continuous batching of one shard."""

    def __init__(self, engine: StageEngine) -> None:
        self._engine = engine
        self._shard = engine.shard
        self._wire = engine.session.wire_dtype
        width = self._shard.architecture.hidden
        self._row_bytes = TOKEN_BYTES if self._shard.is_first else width * self._wire.item_bytes
        self._scheduler = Scheduler()
        self._jobs: dict[bytes, _Job] = {}
        self._rollbacks: dict[bytes, int] = {}
        """Lengths to which memory is cut before the next step: it is not touched while one runs."""

    @property
    def waiting_rows(self) -> int:
        """Rows of all requests that came and are not computed."""
        return self._scheduler.waiting_rows

    def open(
        self,
        request_id: bytes,
        positions_max: int,
        sample_from: int,
        chooser: TokenChooser | None,
        chunk_rows: int = WINDOW_POSITIONS,
    ) -> None:
        """Admit a request, whose prompt is computed in chunks of `chunk_rows` while nobody decodes.

        From the rows from `sample_from` on, a last shard's `chooser` draws tokens, one from each. A row is drawn from
        once: a replay draws nothing. Raises KvExhaustedError.
        """
        assert (chooser is not None) == self._shard.is_last, "tokens are drawn on a last shard"
        self._engine.open(request_id, positions_max)
        self._jobs[request_id] = _Job(chooser, sample_from, chunk_rows)

    def adopt(
        self,
        request_id: bytes,
        new_id: bytes,
        positions_max: int,
        sample_from: int,
        chooser: TokenChooser | None,
        chunk_rows: int = WINDOW_POSITIONS,
    ) -> None:
        """As `open`, with the memory of another request, which ends. `rewind` comes before rows are submitted.

        Raises EngineError when that one is not open (any more).
        """
        assert (chooser is not None) == self._shard.is_last, "tokens are drawn on a last shard"
        self.forget(request_id)
        self._engine.rename(request_id, new_id, positions_max)
        self._jobs[new_id] = _Job(chooser, sample_from, chunk_rows)

    def rewind(self, request_id: bytes, position: int) -> None:
        """Forget a request's rows from `position` on; the next ones that are submitted begin there."""
        self._engine.truncate(request_id, position)
        self._rollbacks.pop(request_id, None)
        self._jobs[request_id].waiting.clear()
        self._scheduler.resume(request_id, self._engine.get_length(request_id), position)

    def check(self, payload: bytes) -> None:
        """Raises WireDtypeError or EngineError for what are no rows of this shard's input, RowsOutOfRange beyond their
        range."""
        validate_rows(self._shard, self._decode(payload))

    def submit(self, request_id: bytes, start: int, count: int, payload: bytes, draft: tuple[int, ...] = ()) -> None:
        """Queue the rows that follow those submitted before. Raises EngineError when they do not follow.

        The last rows are of `draft`'s tokens, one each: they count on the last shard as far as it draws these tokens
        itself, and everywhere as far as the next `start`, which may be any of theirs. Rows with a draft are of one
        window and computed as a decode.
        """
        job = self._jobs[request_id]
        last = start + count - 1
        if draft and (last - len(draft) < job.sample_from or start // WINDOW_POSITIONS != last // WINDOW_POSITIONS):
            raise EngineError(f"no draft may reach from position {start} to {last}: draft generated rows of one window")
        if job.due not in (None, start):
            raise EngineError(f"position {start} does not follow {job.due}, up to which tokens were drawn")
        if self._scheduler.enqueue(request_id, start, count, len(draft)):
            self._rollbacks[request_id] = start
        job.due, job.draft = None, draft
        job.waiting += payload

    def forget(self, request_id: bytes) -> None:
        """Plan nothing more for a request. Its memory stays until `close`, which a running step must not see."""
        self._jobs.pop(request_id, None)
        self._rollbacks.pop(request_id, None)
        self._scheduler.remove(request_id)

    def close(self, request_id: bytes) -> None:
        """Free a request's memory. An id that is not open is no error."""
        self.forget(request_id)
        self._engine.close(request_id)

    def plan(self) -> PlannedStep | None:
        """The next step, with memory taken for all of it; None when nothing can run."""
        taken: set[bytes] = set()
        evicted: set[bytes] = set()
        while self._rollbacks:
            self._engine.truncate(*self._rollbacks.popitem())

        def has_room(work: Work) -> bool:
            if work.request_id in evicted or self._jobs[work.request_id].is_failed:
                return False
            try:
                lost = self._engine.make_room(work.request_id, work.start + work.count, taken)
            except EngineError:
                lost = []  # the run finds the same, and answers it
            if lost is None:
                return False
            taken.add(work.request_id)
            evicted.update(lost)
            return True

        step = self._scheduler.schedule(has_room, self._choose_chunk_rows())
        for request_id in evicted:
            self._scheduler.restart(request_id)
        return PlannedStep(step, tuple(map(self._take, step.works))) if step.works else None

    def _choose_chunk_rows(self) -> Callable[[bytes], int]:
        """Few while any request decodes, which waits for the chunk; many when prompts wait for each other, for then the
        path is busy anyway; else what suits the prompt."""
        if any(job.is_decoding for job in self._jobs.values()):
            return lambda request_id: CHUNK_ROWS_BESIDE_DECODES
        if sum(len(job.waiting) > self._row_bytes for job in self._jobs.values()) > 1:
            return lambda request_id: CHUNK_ROWS_MAX
        return lambda request_id: self._jobs[request_id].chunk_rows

    def run(self, planned: PlannedStep) -> list[tuple[bytes, StageAnswer | ModelError]]:
        """Decode rows, run the shard, sample, encode. A failing request gets its error as its answer; a replay none.

        There is an answer for each window of a chunk, in order.
        """
        answers: list[tuple[bytes, StageAnswer | ModelError]] = []
        calls: list[tuple[PlannedCall, ForwardCall]] = []
        for planned_call in planned.calls:
            try:
                calls.append((planned_call, self._make_call(planned_call)))
            except ModelError as error:
                answers.append((planned_call.work.request_id, error))
        outputs = self._engine.forward_batch([call for _, call in calls])
        for (planned_call, call), output in zip(calls, outputs, strict=True):
            if isinstance(output, ModelError):
                answers.append((call.request_id, output))
            elif not planned_call.work.is_replay:
                answers += ((call.request_id, one) for one in self._finish(planned_call, call, output))
        for request_id, answer in answers:
            job = self._jobs.get(request_id)
            if job is not None and isinstance(answer, ModelError):
                job.is_failed = True
        return answers

    def finish(self, planned: PlannedStep) -> None:
        """The step ran."""
        self._scheduler.update(planned.step)

    def _take(self, work: Work) -> PlannedCall:
        job = self._jobs[work.request_id]
        job.is_decoding = work.start + work.count > job.sample_from
        replayed = self._engine.get_record(work.request_id, work.start, work.count) if work.is_replay else None
        size = 0 if work.is_replay else work.count * self._row_bytes
        payload = bytes(job.waiting[:size])
        del job.waiting[:size]
        draft = () if work.is_replay else job.draft
        return PlannedCall(work, payload, replayed, job.chooser, job.sample_from, draft)

    def _make_call(self, planned: PlannedCall) -> ForwardCall:
        work = planned.work
        if planned.replayed is not None:
            return ForwardCall(work.request_id, work.start, planned.replayed)
        rows = self._decode(planned.payload)
        first = work.start + work.count
        if planned.chooser is not None:
            scored_from = 0 if planned.chooser.params.prompt_logprobs else planned.sample_from
            first = max(work.start, scored_from)
        return ForwardCall(work.request_id, work.start, rows, tuple(range(first - work.start, work.count)))

    def _decode(self, payload: bytes) -> Rows:
        if self._shard.is_first:
            return decode_tokens(payload, self._shard.architecture.vocab)
        return decode_rows(payload, self._wire, self._shard.architecture.hidden)

    def _finish(
        self, planned: PlannedCall, call: ForwardCall, output: StageOutput
    ) -> list[StageAnswer] | list[ModelError]:
        tokens: list[DrawnToken] = []
        scores: list[tuple[TokenLogprob, ...]] = []
        count, draft = len(output.hidden), planned.draft
        try:
            for row, at in zip(() if output.logits is None else output.logits, call.logit_rows, strict=True):
                assert planned.chooser is not None, "logits are asked where tokens are drawn"
                position = call.start + at
                if position < planned.sample_from:
                    scores.append(planned.chooser.score_prompt(row, position))
                    continue
                drawn = planned.chooser.choose(row, position)
                tokens.append(drawn)
                if draft and (drawn.is_end or not planned.is_drafted_right(drawn.token, at)):
                    count = at + 1  # from the rows behind nothing was drawn, and nothing counted
                    break
            rows, unsound = self._encode(output.hidden[:count], 0 if self._shard.is_last else len(draft))
        except ModelError as error:
            return [error]
        if tokens and draft:
            draft = ()
            if (job := self._jobs.get(call.request_id)) is not None:
                job.due = call.start + count
        return _cut_into_windows(StageAnswer(call.start, count, rows, tuple(tokens), tuple(scores), draft, unsound))

    def _encode(self, hidden: Hidden, drafted: int) -> tuple[bytes, int]:
        """The rows' wire bytes, and how many of the last `drafted` rows went as zeros.

        Any row may be drafted, of any tokens: one that is beyond the wire dtype or the model's ranges, and those behind
        it, must not fail the request, in which it does not stand most likely. Raises WireDtypeError for other rows.
        """
        if not drafted:
            return encode_rows(hidden, self._wire), 0
        ranges = self._shard.manifest.ranges
        limit = ranges[self._shard.end - 1] if ranges else np.inf
        sure = len(hidden) - drafted
        if not self._can_send(hidden[sure:], limit):
            sound = next(at for at in range(sure, len(hidden)) if not self._can_send(hidden[at : at + 1], limit))
            hidden = np.concatenate([hidden[:sound], np.zeros_like(hidden[sound:])])
            return encode_rows(hidden, self._wire), len(hidden) - sound
        return encode_rows(hidden, self._wire), 0

    def _can_send(self, rows: Hidden, limit: float) -> bool:
        try:
            encode_rows(rows, self._wire)
        except WireDtypeError:
            return False
        return float(np.abs(rows).max()) <= limit


def _cut_into_windows(answer: StageAnswer) -> list[StageAnswer]:
    """The answer by windows. Its scores are of its first rows, its tokens of its last ones."""
    end = answer.start + answer.count
    if answer.start // WINDOW_POSITIONS == (end - 1) // WINDOW_POSITIONS:
        return [answer]
    row_bytes = len(answer.rows) // answer.count
    drawn_from = answer.count - len(answer.tokens)
    cuts = [answer.start, *range(_align(answer.start) + WINDOW_POSITIONS, end, WINDOW_POSITIONS), end]
    pieces = []
    for first, last in itertools.pairwise(one - answer.start for one in cuts):
        tokens = answer.tokens[max(0, first - drawn_from) : max(0, last - drawn_from)]
        rows = answer.rows[first * row_bytes : last * row_bytes]
        pieces.append(StageAnswer(answer.start + first, last - first, rows, tokens, answer.prompt_logprobs[first:last]))
    return pieces


def _align(position: int) -> int:
    return position // WINDOW_POSITIONS * WINDOW_POSITIONS
