"""Rows in, rows out: what a stage computes of a request, and what it passes on. Signs nothing; knows no phase.

Drafted rows travel behind the sure row that they were guessed from, in one frame with it. Every stage but the last
passes all of them on, and holds them at both its boundaries; the last one answers those that stand. How many these are
shows in what comes next: at the first stage in the tokens, elsewhere in where the next rows start, or in where the leaf
or the roots of the stage before say that the request ends. What stands is logged then, as if it had come one by one.
"""

from __future__ import annotations

from collections import deque

from inference.serving.boundary import BoundaryError, BoundaryLog
from inference.serving.drafts import Burst, DraftAllowance
from inference.serving.events import (
    Compute,
    Computed,
    PromptKnown,
    Rewind,
    Speculate,
    StageEffect,
    ToClient,
    ToDownstream,
)
from inference.serving.generation import Generation
from inference.serving.intake import Intake
from inference.serving.kept import KeptRows
from inference.serving.place import Place
from inference.serving.promised import Credit
from inference.serving.setup import StageSetup
from inference.serving.vouchers import VoucherBook
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.request import compute_positions, pack_tokens, read_tokens
from proto_specs.types.wire import OutputLeaf, PromptLogprobs, Rows, Token


class RowFlow:
    """The rows of one request on a stage. Every method raises BoundaryError when the other side breaks a rule.

    `length`: the request's positions, once the tokens tell.
    """

    def __init__(
        self,
        setup: StageSetup,
        place: Place,
        intake: Intake,
        output: BoundaryLog,
        book: VoucherBook,
        generation: Generation,
        credit: Credit,
    ) -> None:
        order = setup.order.order
        self.kept: KeptRows | None = setup.kept
        self.length: int | None = None
        self._order = order
        self._place = place
        self._intake = intake
        self._input = intake.log
        self._output = output
        self._book = book
        self._generation = generation
        self._allowance = DraftAllowance(order)
        drafts = place.is_first and not place.is_last and setup.drafts_max
        self._burst = Burst(order, setup.drafts_max, self._allowance) if drafts else None
        self._credit = credit
        self._waiting: deque[Compute] = deque()
        self._undrafted: Compute | None = None
        """The newest token's row, while drafts for it are asked for."""

    def take_rows(self, rows: Rows) -> list[StageEffect]:
        """Rows of the prompt, or of the stage before."""
        if rows.draft or self._input.reached > self._input.positions:
            self._require_computed(rows.start)
        self._settle(rows.start)
        self._allowance.check(rows)
        effects = self._compute(self._intake.take_rows(rows, self._compute_positions_due(len(rows.draft))))
        if self._burst is not None and self._input.positions == self._order.prompt_tokens:
            payloads = map(self._input.get_payload, range(self._input.windows))
            effects.append(PromptKnown(read_tokens(b"".join(payloads))))
        return effects

    def take_token(self, token: Token) -> list[StageEffect]:
        """A generated token, back at the first stage: its row was drafted, or is computed now, or after a draft."""
        position, burst = self._input.positions, self._burst
        if burst is not None and position > self._output.reached:
            raise BoundaryError(f"token {token.index} came before the rows that it could be drawn from")
        work = self._intake.take_token(token)
        if work is None:
            self.length = position
        elif burst is None:
            return self._compute(work)
        elif burst.take(token.token):
            self._output.confirm(position + 1)
            return []
        if burst is not None:
            self._allowance.note_missed(self._output.settle(position))
        if work is None or burst is None:
            return []
        self._undrafted = work
        return [Speculate(burst.pop_drawn(), burst.get_room(position))]

    def take_drafted(self, tokens: tuple[int, ...]) -> list[StageEffect]:
        """What may follow the newest token."""
        work, self._undrafted = self._undrafted, None
        assert work is not None, "drafts answer"
        assert self._burst is not None, "whoever drafts"
        self._burst.begin(tokens)
        return self._compute(Compute(work.start, 1 + len(tokens), work.payload + pack_tokens(tokens), tokens))

    def take_computed(self, done: Computed) -> list[StageEffect]:
        """The shard's answer."""
        if self._place.is_last:
            return self._draw(done)
        sure = done.count - len(done.draft)
        at = sure * (len(done.payload) // done.count)
        self._output.append(done.start, sure, done.payload[:at])
        if done.draft:
            self._output.hold(len(done.draft), done.payload[at:], done.unsound)
        rows = Rows(self._place.request, self._place.stage + 1, done.start, done.count, done.payload, done.draft)
        return [ToDownstream(rows)]

    def settle_leaf(self, frame: OutputLeaf) -> None:
        """The leaf over a window with held rows says which of them stand: a full one all, another ends the request."""
        leaf = frame.leaf
        if self._input.reached > self._input.positions and leaf.window == self._input.positions // WINDOW_POSITIONS:
            self.settle_end(leaf.window * WINDOW_POSITIONS + leaf.count)

    def settle_end(self, position: int) -> None:
        """The request goes up to `position`. Where that is before what is logged, nothing changes."""
        if self._input.positions <= position <= self._input.reached:
            self._require_computed(position)
            self._settle(position)

    def _settle(self, position: int) -> None:
        """Of what is held, the rows before `position` stand."""
        if self._input.reached == self._input.positions:
            return  # nothing is held; whether rows follow is checked as they are logged
        self._allowance.note_missed(self._input.settle(position))
        if not self._place.is_last:
            self._output.settle(position)

    def _require_computed(self, position: int) -> None:
        """Drafts, and what tells whether they stand, come when all that came before has been through the path."""
        if self._output.reached != self._input.reached:
            raise BoundaryError(f"what comes at position {position} came before the rows that it could follow from")

    @property
    def waits_from(self) -> int | None:
        """The first position whose rows wait for a voucher or a countersignature; None when none do."""
        return self._waiting[0].start if self._waiting else None

    def release(self) -> list[StageEffect]:
        """Have computed what waited, as far as the credit goes now."""
        effects: list[StageEffect] = []
        while self._waiting and self._credit.allows(self._waiting[0]):
            effects += self._begin(self._waiting.popleft())
        return effects

    def drop(self) -> None:
        """What waits is not computed any more."""
        self._waiting.clear()

    def _compute(self, work: Compute) -> list[StageEffect]:
        """Have rows computed now, or as soon as the credit goes so far."""
        if self._waiting or not self._credit.allows(work):
            self._waiting.append(work)
            return []
        return self._begin(work)

    def _begin(self, work: Compute) -> list[StageEffect]:
        """Have rows computed, but for those that the order before had computed here."""
        if self.kept is None:
            return [work]
        known, rest = (None, work) if work.draft else self.kept.split(work)
        effects = [] if known is None else self.take_computed(known)
        if rest is not None:
            self.kept = None
            effects += [Rewind(rest.start), rest]
        return effects

    def _compute_positions_due(self, drafted: int) -> int:
        """The position up to which rows may come now: the prompt, then one more position for every token sent.

        Drafted rows may be ahead of those.
        """
        order = self._order
        if self._place.is_first:
            return order.prompt_tokens
        most = compute_positions(order.prompt_tokens, order.tokens_max)
        if self._place.is_last:
            return min(order.prompt_tokens + self._book.tokens - self._generation.held + drafted, most)
        return most

    def _draw(self, done: Computed) -> list[StageEffect]:
        """On a last stage: the rows that stand, and the tokens drawn from them."""
        end = done.start + done.count
        if self._input.reached > self._input.positions:
            self._allowance.note_missed(self._input.settle(end))
        self._output.append(done.start, done.count, pack_tokens([one.token for one in done.tokens]), done.trace)
        scored = PromptLogprobs(self._place.request, done.start, done.prompt_logprobs)
        effects: list[StageEffect] = [ToClient(scored)] if done.prompt_logprobs else []
        for drawn in done.tokens:
            total = self._generation.add(drawn)
            if total is not None:
                self.length = total
            effects += self._generation.release()
        return effects
