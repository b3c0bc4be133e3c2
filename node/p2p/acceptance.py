"""What a node does with a message that a peer passed on. Knows no libp2p, so that every package may import it."""

from __future__ import annotations

import enum


class Acceptance(enum.Enum):
    """The value of a received message.

    ACCEPT: pass it on. IGNORE: it is of no use now, and no peer is at fault. REJECT: the peer that sent it broke the
    protocol.
    """

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"
