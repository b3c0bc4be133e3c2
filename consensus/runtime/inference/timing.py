"""Deadlines of challenges do not run while blocks were too full for verdicts (system/space.py)."""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.inference.state import Challenge
from consensus.runtime.system.space import read_paused
from consensus.state.reader import StateReader


def extend(state: StateReader, challenge: Challenge) -> Challenge:
    """The challenge with the deadlines that hold now: later by the blocks that were full since they were set.

    A resolved challenge keeps those that it had.
    """
    paused = read_paused(state)
    grown = paused - challenge.paused
    if not grown or challenge.outcome is not None:
        return challenge
    return replace(
        challenge,
        commit_deadline=challenge.commit_deadline + grown,
        reveal_deadline=challenge.reveal_deadline + grown,
        paused=paused,
    )
