"""How joining by a snapshot fails. Imports nothing heavy."""

from __future__ import annotations

from proto_specs.errors import MyelinError


class JoinFailed(MyelinError):
    """No snapshot could be joined from: the message says what came of the last attempts."""


class TooFewSources(MyelinError):
    """Fewer peers than asked for show the same block."""

    def __init__(self, height: int, sources: list[str]) -> None:
        super().__init__(
            f"only {len(sources)} of your peers ({', '.join(sources)}) shows block {height}, and one alone could show "
            "you a chain of its own: name another with --peer ADDRESS, or accept one with --trust-one-source"
        )
