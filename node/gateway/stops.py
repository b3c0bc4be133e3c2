"""Stop strings: text goes out as soon as no stop string can begin in it, and nothing from a stop string on."""

from __future__ import annotations

from collections.abc import Sequence


class StopTrimmer:
    """One answer's text on its way out. `found` is the stop string that ended it, None while none did."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """What may go out now."""
        if not self._stops:
            return text
        if self.found is not None:
            return ""
        held = self._held + text
        places = [(place, -len(one), one) for one in self._stops if (place := held.find(one)) >= 0]
        if places:
            place, _, self.found = min(places)
            self._held = ""
            return held[:place]
        kept = max((count_overlap(held, one) for one in self._stops), default=0)
        self._held = held[len(held) - kept :]
        return held[: len(held) - kept]

    def finish(self) -> str:
        """What was held back and begins no stop string after all."""
        held, self._held = self._held, ""
        return held


def count_overlap(text: str, begun: str) -> int:
    """Length of the longest end of `text` that `begun` begins with, shorter than all of it."""
    for count in range(min(len(text), len(begun) - 1), 0, -1):
        if text.endswith(begun[:count]):
            return count
    return 0
