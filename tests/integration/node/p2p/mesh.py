"""Whom a peer passes messages on to at once: the state of GossipSub that tests wait for."""

from __future__ import annotations

from node.p2p.pubsub import PubSub


def list_mesh(pubsub: PubSub, topic: str) -> list[str]:
    """Peers in the mesh of a topic."""
    return sorted(peer.to_base58() for peer in pubsub._router.mesh.get(topic, ()))  # noqa: SLF001
