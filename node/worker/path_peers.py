"""The links of a request on a stage, and who may send which frame about it."""

from __future__ import annotations

from dataclasses import dataclass

from inference.serving.events import ToClient, ToDownstream, ToFirst, ToUpstream
from node.client.link import FrameLink
from proto_specs.errors import ProtocolError
from proto_specs.types.wire import (
    Countersign,
    Failed,
    Frame,
    OutputLeaf,
    Ping,
    PrefixRoots,
    PromiseFrame,
    RootsFrame,
    Rows,
    Token,
    VoucherFrame,
)

ToPeer = ToClient | ToUpstream | ToDownstream | ToFirst
"""A frame for a peer of the path."""


class StrayFrame(ProtocolError):
    """A peer sent a frame about a request in which it has no such part."""


@dataclass(frozen=True)
class PathPeers:
    """libp2p peers of a path as registered on chain, and the links this stage sends on."""

    peer_ids: tuple[str, ...]
    client: FrameLink
    downstream: FrameLink | None
    first: FrameLink | None

    def may_send(self, stage: int, frame: Frame, link: FrameLink) -> bool:
        """Whether `stage` takes such a frame from the peer of this link."""
        last = len(self.peer_ids) - 1
        is_client = link is self.client
        is_from_last = stage == 0 < last and link.peer_id == self.peer_ids[last]
        match frame:
            case Failed():
                return is_client or link.peer_id in self.peer_ids
            case Ping():
                return is_client
            case Rows() | OutputLeaf():
                return link.peer_id == self.peer_ids[stage - 1] if stage else is_client
            case RootsFrame() | PrefixRoots():
                return stage > 0 and link.peer_id == self.peer_ids[stage - 1]
            case Countersign():
                return is_client if stage == last else link.peer_id == self.peer_ids[stage + 1]
            case VoucherFrame():
                return (is_client and stage == last) or is_from_last
            case PromiseFrame():
                return is_client and stage < last
            case Token():
                return is_from_last
            case _:
                return False
