"""Open seats of verifiers, counted and capped: nobody can load more duties on a machine than it can do in time."""

from __future__ import annotations

from collections.abc import Sequence

from consensus.runtime.inference import committee_state as committees
from consensus.runtime.inference import state as inference
from consensus.state.reader import StateReader
from consensus.state.storage import StateWriter
from proto_specs.types.chain import Validator


def take(state: StateWriter, verifier: bytes, challenge: bytes) -> None:
    """Seat a verifier in a challenge that waits for its verdict."""
    if inference.open_challenges.contains(state, verifier, challenge):
        return
    inference.open_challenges.add(state, verifier, challenge)
    _write_count(state, verifier, count(state, verifier) + 1)


def leave(state: StateWriter, verifier: bytes, challenge: bytes) -> None:
    """The challenge waits for this verifier no more. One that does not sit changes nothing."""
    if not inference.open_challenges.contains(state, verifier, challenge):
        return
    inference.open_challenges.remove(state, verifier, challenge)
    _write_count(state, verifier, count(state, verifier) - 1)


def count(state: StateReader, verifier: bytes) -> int:
    """Challenges that wait for the verifier."""
    return committees.seat_counts.read(state, verifier) or 0


def keep_free(state: StateReader, eligible: Sequence[Validator]) -> list[Validator]:
    """Those that may get one more seat, in the same order."""
    full = {account for (account,) in committees.full_benches.iterate(state)}
    return [one for one in eligible if one.operator not in full]


def _write_count(state: StateWriter, verifier: bytes, number: int) -> None:
    if number:
        committees.seat_counts.write(state, verifier, number)
    else:
        committees.seat_counts.delete(state, verifier)
    if number >= inference.params.read(state).open_challenges_max:
        committees.full_benches.add(state, verifier)
    else:
        committees.full_benches.remove(state, verifier)
