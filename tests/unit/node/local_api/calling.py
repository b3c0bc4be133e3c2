"""Calls a method over a view without a socket; a submission goes through the pool's admission, as in the server."""

from __future__ import annotations

from typing import Any

import trio

from node.chain.admission import TransactionAdmission
from node.local_api.methods.all import METHODS, NodeView, call_method
from node.local_api.methods.author import show_submission
from node.signatures.processes import SignatureProcesses


async def answer(view: NodeView, name: str, params: list[Any] | dict[str, Any]) -> Any:
    """The answer to one call. Raises ApiError."""
    found = call_method(view, name, params)
    if not METHODS[name].is_submission:
        return found
    admission = TransactionAdmission(view.pool, SignatureProcesses(0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(admission.run)
        ticket = admission.hand_in([found.transaction], found.size_bytes)
        await ticket.done.wait()
        nursery.cancel_scope.cancel()
    return show_submission(view, found.extrinsic, *ticket.outcomes)


def call(view: NodeView, name: str, params: list[Any] | dict[str, Any]) -> Any:
    """As `answer`, outside of any loop. Raises ApiError."""
    return trio.run(answer, view, name, params) if METHODS[name].is_submission else call_method(view, name, params)
