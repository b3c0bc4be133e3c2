"""What calling a method takes: the operator's right for some, more of the caller's rate for the dear ones.

The public RPC process goes by it; it knows no method otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNSAFE_METHODS = frozenset({"author_removeExtrinsic"})
"""They change the node and are for its operator alone."""

READ, WALK, PAGE, BODY = 1, 5, 20, 50
"""Costs in calls: of a few rows; of many rows or a proof; of a page, or all that waits; of a whole block.

In about 0.1 ms of a node's time, measured on blocks of 400 transfers and full pages.
"""
_COSTS: Mapping[str, int] = {
    "author_extrinsicStatus": WALK,
    "author_pendingExtrinsics": PAGE,
    "author_submitAndWatchExtrinsic": WALK,
    "chain_getBlock": BODY,
    "chain_getLightBlock": WALK,
    "chain_getReceipts": BODY,
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
"""Every other method costs READ, and so does a name that is none."""


def get_cost(method: str) -> int:
    """Calls of its rate that a caller pays for one of the method."""
    return _COSTS.get(method, READ)


def compute_cost(method: str, params: list[Any] | dict[str, Any]) -> int:
    """As `get_cost`; a parameter that is a list of things to look up counts as so many calls."""
    values = params.values() if isinstance(params, dict) else params
    return get_cost(method) * max((len(one) for one in values if isinstance(one, list) and one), default=1)
