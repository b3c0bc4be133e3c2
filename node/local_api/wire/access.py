"""What a call needs: some methods need the operator's right, expensive ones take more of the caller's rate.

The public RPC process uses these tables and knows nothing else of the methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNSAFE_METHODS = frozenset({"author_removeExtrinsic"})
"""Methods that change the node and are for its operator alone."""

READ, WALK, PAGE, BODY = 1, 5, 20, 50
"""Costs in calls: READ a few rows; WALK many rows or a proof; PAGE a page or the whole pool; BODY a whole block.

A unit is about 0.1 ms of a node's time, measured on blocks of 400 transfers and full pages.
"""
_COSTS: Mapping[str, int] = {
    "author_extrinsicStatus": WALK,
    "author_pendingExtrinsics": PAGE,
    "author_submitAndWatchExtrinsic": WALK,
    "author_submitEvidence": WALK,
    "chain_getBlock": BODY,
    "chain_getLightBlock": WALK,
    "chain_getReceipts": BODY,
    "history_events": BODY,
    "inference_challenge": WALK,
    "inference_challenges": WALK,
    "inference_models": WALK,
    "inference_requests": WALK,
    "inference_sessions": WALK,
    "inference_verifiers": WALK,
    "inference_workers": WALK,
    "multisig_operations": PAGE,
    "params_proposals": WALK,
    "rpc.discover": PAGE,
    "state_getKeysPaged": PAGE,
    "state_getPairs": PAGE,
    "state_getReadProof": WALK,
    "staking_delegations": WALK,
}
"""The cost of each method that costs more than READ. An unknown method costs READ too."""


def get_cost(method: str) -> int:
    """The number of calls that the method takes from its caller's rate."""
    return _COSTS.get(method, READ)


def compute_cost(method: str, params: list[Any] | dict[str, Any]) -> int:
    """As `get_cost`, times the length of the longest list among the parameters: each item is a look-up of its own."""
    values = params.values() if isinstance(params, dict) else params
    return get_cost(method) * max((len(one) for one in values if isinstance(one, list) and one), default=1)
