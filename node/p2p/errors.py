"""Every way the network can fail a caller, as one exception tree. libp2p's exceptions never get past it."""

from __future__ import annotations

from proto_specs.errors import MyelinError


class NetworkError(MyelinError):
    """Base of all errors raised by `node.p2p`."""


class AddressInvalid(NetworkError):
    """A peer id or multiaddr that cannot be parsed, or an address that lacks what is needed (`/tcp`, `/p2p`)."""


class PeerUnreachable(NetworkError):
    """No connection could be made, or a connected peer has been silent past the dead-peer limit."""


class ProtocolUnsupported(NetworkError):
    """The peer is there but does not speak the protocol that was asked for."""


class StreamClosed(NetworkError):
    """The stream ended in order: the peer finished after a whole frame, or this side has closed it."""


class StreamReset(NetworkError):
    """The stream was torn: reset by either side, cut inside a frame, or its connection is gone."""


class FrameTooLarge(NetworkError):
    """A frame header announces (or a caller offers) more bytes than the stream's limit; nothing was allocated."""


class ReceiverStalled(NetworkError):
    """This side's consumer left the receive queue full for longer than the stall limit; the stream was reset."""


class RequestRefused(NetworkError):
    """The peer refused a request. The message is the peer's: bounded, and not to be trusted."""


class RequestTimedOut(NetworkError):
    """The peer is connected but did not answer a request in the time given."""


class ListenFailed(NetworkError):
    """At least one of the addresses to listen at could not be bound."""
