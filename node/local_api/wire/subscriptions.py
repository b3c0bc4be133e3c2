"""The subscriptions of the public RPC's WebSocket, as clients find them listed. Pages: proto_specs/rpc.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subscription:
    """How one is begun and ended, the method of its notifications, and what it tells."""

    begin: str
    end: str
    notification: str
    text: str


SUBSCRIPTIONS = (
    Subscription("chain_subscribeNewHeads", "chain_unsubscribeNewHeads", "chain_newHead", "Every final header."),
    Subscription(
        "chain_subscribeFinalizedHeads",
        "chain_unsubscribeFinalizedHeads",
        "chain_finalizedHead",
        "The same: a block is final when it is known.",
    ),
    Subscription(
        "author_submitAndWatchExtrinsic",
        "author_unwatchExtrinsic",
        "author_extrinsicUpdate",
        "Submit a transaction; told when it waits and when it is in a block.",
    ),
    Subscription(
        "state_subscribeStorage",
        "state_unsubscribeStorage",
        "state_storage",
        "The values of state keys, and their changes.",
    ),
    Subscription(
        "inference_subscribeRequests",
        "inference_unsubscribeRequests",
        "inference_request",
        "Every event of a block that names a request.",
    ),
)
SUBSCRIPTION_METHODS = frozenset(name for one in SUBSCRIPTIONS for name in (one.begin, one.end))
