"""Who of a path makes no progress, from pings and what came. Pure; times are seconds of one clock."""

from __future__ import annotations

from dataclasses import dataclass

from proto_specs.types.wire import Pong

PING_AFTER_S = 0.4
"""So long nothing came when the stages are asked, and as long between two rounds."""
SILENT_S = 1.9
"""A stage that lets a ping wait for so long is lost."""
STUCK_S = 2.0
"""So is one that has rows to compute and computes nothing for so long, or three times as long as a pass takes there."""
PASS_FACTOR = 3
PASS_S_MAX = 20.0
TAKES_NO_ROWS = "takes no rows"
"""Of a stage to which the one before says that it sent some."""


@dataclass(slots=True)
class _Watched:
    asked_s: float | None = None
    """When the oldest ping that is not answered was sent."""
    pong: Pong | None = None
    stood_since_s: float = 0.0
    """Since when its figures are what they are."""


class StallWatch:
    """One request's stages. A stage is watched from its acceptance on."""

    def __init__(self, now_s: float) -> None:
        self._moved_s = now_s
        self._pinged_s = 0.0
        self._seen: dict[int, _Watched] = {}

    def accept(self, stage: int) -> None:
        """A stage takes part."""
        self._seen[stage] = _Watched()

    def note_moved(self, now_s: float) -> None:
        """Something due came: the request moves."""
        self._moved_s = now_s
        for one in self._seen.values():
            one.asked_s = None

    def note_pong(self, stage: int, pong: Pong, now_s: float) -> None:
        """A stage answers."""
        seen = self._seen.get(stage)
        if seen is None:
            return
        known = seen.pong
        figures = (pong.received, pong.computed, pong.steps)
        if known is None or (known.received, known.computed, known.steps) != figures:
            seen.stood_since_s = now_s
        seen.pong, seen.asked_s = pong, None

    def list_due(self, now_s: float) -> list[int]:
        """The stages to ping now."""
        if now_s - max(self._moved_s, self._pinged_s) < PING_AFTER_S:
            return []
        self._pinged_s = now_s
        for one in self._seen.values():
            if one.asked_s is None:
                one.asked_s = now_s
        return sorted(self._seen)

    def get_next_look(self, now_s: float) -> float:
        """Seconds until `list_due` or `find_stalled` may have something new to say."""
        return max(0.05, max(self._moved_s, self._pinged_s) + PING_AFTER_S - now_s)

    def find_stalled(self, now_s: float) -> tuple[int, str] | None:
        """The first stage that is silent, else the first that computes or takes nothing; and what it does not do."""
        for stage, one in sorted(self._seen.items()):
            if one.asked_s is not None and now_s - one.asked_s >= SILENT_S:
                return stage, "does not answer"
        if now_s - self._moved_s < STUCK_S:
            return None
        sent: int | None = None
        for stage, one in sorted(self._seen.items()):
            if one.pong is None:
                return None
            allowed_s = min(max(STUCK_S, PASS_FACTOR * one.pong.pass_ms / 1_000), PASS_S_MAX)
            is_standing = now_s - one.stood_since_s >= allowed_s
            if is_standing and one.pong.computed < one.pong.received:
                return stage, "computes nothing"
            if is_standing and sent is not None and one.pong.received < sent:
                return stage, TAKES_NO_ROWS
            sent = one.pong.computed
        return None
