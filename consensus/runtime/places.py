"""Which part of a block a call may fill: by its kind, and by what the state says of its signer (system/space.py)."""

from __future__ import annotations

from consensus.runtime.inference import state as inference
from consensus.runtime.system.space import Space
from consensus.state.reader import StateReader
from proto_specs.types import calls

SETTLEMENTS: frozenset[str] = frozenset(
    ("Settle", "SettleStatement", "JoinSettlement", "ReportEquivocation", "ReportDoublePromise")
)
"""Calls with a deadline that somebody would gain by. A top-up, a closing, a report of absence are as good later."""


def find_space(state: StateReader, signer: bytes, call: calls.Call) -> Space:
    """The part that a call may fill if it succeeds. A batch that fails as a whole is as its least call.

    A verdict is a duty only of who sits on the open challenge's committee and owes it: others send none for nothing.
    """
    match call:
        case calls.CommitVerdict():
            return _find_duty(state, signer, call.challenge, is_committed=False)
        case calls.RevealVerdict():
            return _find_duty(state, signer, call.challenge, is_committed=True)
        case calls.BatchAll():
            return min((find_space(state, signer, one) for one in call.calls), default=Space.COMMON)
        case _:
            return Space.SETTLEMENT if type(call).__name__ in SETTLEMENTS else Space.COMMON


def _find_duty(state: StateReader, signer: bytes, challenge: bytes, *, is_committed: bool) -> Space:
    is_owed = (
        inference.open_challenges.contains(state, signer, challenge)
        and (inference.commitments.read(state, challenge, signer) is not None) == is_committed
        and inference.reveals.read(state, challenge, signer) is None
    )
    return Space.DUTY if is_owed else Space.COMMON
