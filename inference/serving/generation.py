"""The tokens of a last stage on their way out: counted, held while the client owes vouchers, then sent."""

from __future__ import annotations

from dataclasses import replace

from inference.serving.events import DrawnToken, StageEffect, ToClient, ToFirst
from inference.serving.place import Place
from inference.serving.vouchers import VoucherBook
from proto_specs.types.request import Order, compute_positions
from proto_specs.types.wire import FinishReason, Token


class Generation:
    """Tokens drawn and not sent yet, over the book of those that the client vouched for."""

    def __init__(self, order: Order, place: Place, book: VoucherBook) -> None:
        self._order = order
        self._place = place
        self._book = book
        self._held: list[Token] = []

    @property
    def held(self) -> int:
        """Tokens that wait for vouchers."""
        return len(self._held)

    def add(self, drawn: DrawnToken) -> int | None:
        """Take the next token; the request's positions when it is the last one."""
        self._book.add_token(drawn.token)
        finish = FinishReason.NONE
        if drawn.is_end:
            finish = FinishReason.STOP
        elif self._book.tokens == self._order.tokens_max:
            finish = FinishReason.LENGTH
        self._held.append(Token(self._place.request, self._book.tokens - 1, drawn.token, finish, drawn.logprobs))
        is_over = finish is not FinishReason.NONE
        return compute_positions(self._order.prompt_tokens, self._book.tokens) if is_over else None

    def release(self) -> list[StageEffect]:
        """Send what was drawn, unless too few are vouched for. The first stage gets the end too."""
        if self._book.is_behind:
            return []
        held, self._held = self._held, []
        effects: list[StageEffect] = []
        for frame in held:
            effects.append(ToClient(frame))
            if not self._place.is_first or frame.finish == FinishReason.NONE:
                effects.append(ToFirst(replace(frame, logprobs=())))
        return effects

    def drop(self) -> None:
        """Nothing more is sent."""
        self._held = []
