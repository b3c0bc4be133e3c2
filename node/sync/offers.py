"""Which of the snapshots that peers offer to try next."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from proto_specs.types.snapshot_wire import SnapshotOffer


@dataclass(frozen=True, slots=True)
class Candidate:
    """A snapshot that several peers offer identically."""

    offer: SnapshotOffer
    peers: tuple[str, ...]


def choose_candidate(
    offers: Mapping[str, Iterable[SnapshotOffer]],
    refused: Collection[bytes] = (),
    begun: bytes | None = None,
    strikes: Mapping[str, int] | None = None,
) -> Candidate | None:
    """The next candidate: among those whose providers failed least, the `begun` one, else one that two offer, else
    the newest. None: there is no candidate.

    `refused` are hashes of manifests found false, `begun` is the hash of one, and `strikes` counts each peer's failed
    attempts, so that a peer with ever new false offers does not come first for ever.
    """
    providers: dict[SnapshotOffer, list[str]] = {}
    for peer in sorted(offers):
        for offer in set(offers[peer]):
            if offer.manifest_hash not in refused:
                providers.setdefault(offer, []).append(peer)
    if not providers:
        return None
    failed = strikes or {}

    def rank(offer: SnapshotOffer) -> tuple[int, bool, int, int, int, bytes]:
        least, count = min(failed.get(peer, 0) for peer in providers[offer]), len(providers[offer])
        is_begun = offer.manifest_hash == begun
        return -least, is_begun, min(count, 2), offer.height, count, offer.manifest_hash

    best = max(providers, key=rank)
    return Candidate(best, tuple(providers[best]))
