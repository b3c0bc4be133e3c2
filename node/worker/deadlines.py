"""How long a request may wait for what: the next deadline, and what follows when it passes. Pure; times are seconds."""

from __future__ import annotations

from inference.serving.events import GiveUp, Stop
from proto_specs.types.request import Order, compute_positions
from proto_specs.types.wire import FailureCode

IDLE_S_MAX = 120.0
CLIENT_S_MAX = 30.0
"""How long a client may delay the prompt, a leaf, a countersignature or a voucher."""
STOP_GRACE_S = 2.0
"""How long a last stage that hears of a stop still reads its own client: a voucher may be under way."""
STOP_S_MAX = 20.0
"""How long a stopped request waits for the signatures of the path."""
REQUEST_S_BASE = 180.0
POSITION_S_MAX = 1.0
"""A request may take three minutes and a second per position: slow clients must not hold memory for longer."""

Owed = tuple[int, ...] | None
"""See `StageRequest.owed_by_client`."""


class RequestDeadlines:
    """The deadlines of one request, by one clock."""

    def __init__(self, order: Order, owed: Owed, now_s: float) -> None:
        positions = compute_positions(order.prompt_tokens, order.tokens_max)
        self._longest_s = REQUEST_S_BASE + positions * POSITION_S_MAX
        self._opened_s = self._heard_s = self._owed_since_s = now_s
        self._owed = owed
        self._stopped_s: float | None = None
        self._stop_heard: tuple[float, Stop] | None = None

    def note_heard(self, now_s: float) -> None:
        """Something came."""
        self._heard_s = now_s

    def note_owed(self, owed: Owed, now_s: float) -> bool:
        """What the client owes now; whether it is something else than before."""
        is_changed = owed != self._owed
        if is_changed:
            self._owed, self._owed_since_s = owed, now_s
        return is_changed

    def note_stopped(self, now_s: float) -> None:
        """The request computes no more: the first time counts."""
        self._stopped_s = self._stopped_s or now_s

    def note_stop_heard(self, stop: Stop, now_s: float) -> bool:
        """A last stage heard of a stop from the stage before; whether it is news."""
        is_news = self._stop_heard is None
        if is_news:
            self._stop_heard = (now_s + STOP_GRACE_S, stop)
        return is_news

    def pass_next(self, now_s: float) -> Stop | GiveUp | None:
        """What follows from the next deadline, once; None when it is not due, because something came meanwhile."""
        deadline_s, outcome = min(self._list(), key=lambda one: one[0])
        if deadline_s > now_s:
            return None
        self._stop_heard = None
        return outcome

    def get_next_s(self) -> float:
        """When the next deadline is."""
        return min(deadline_s for deadline_s, _ in self._list())

    def _list(self) -> list[tuple[float, Stop | GiveUp]]:
        slow = GiveUp(FailureCode.NEIGHBOUR_LOST, f"the request was not over within {self._longest_s:.0f} s")
        idle = GiveUp(FailureCode.NEIGHBOUR_LOST, f"nothing happened for {IDLE_S_MAX:.0f} s")
        found: list[tuple[float, Stop | GiveUp]] = [
            (self._opened_s + self._longest_s, slow),
            (self._heard_s + IDLE_S_MAX, idle),
        ]
        if self._owed is not None:
            owing = Stop(FailureCode.UNVOUCHED, f"the client sent and signed nothing for {CLIENT_S_MAX:.0f} s")
            found.append((self._owed_since_s + CLIENT_S_MAX, owing))
        if self._stop_heard is not None and self._stopped_s is None:
            found.append(self._stop_heard)
        if self._stopped_s is not None:
            stuck = GiveUp(FailureCode.CANCELLED, "stopped, and not all stages have signed what is vouched for")
            found.append((self._stopped_s + STOP_S_MAX, stuck))
        return found
