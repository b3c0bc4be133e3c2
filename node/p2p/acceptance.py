"""What a message passed on by a peer is worth. Knows no libp2p, so that everybody may name it."""

from __future__ import annotations

import enum


class Acceptance(enum.Enum):
    """What a received message is worth.

    ACCEPT: pass it on. IGNORE: nothing to us now, and nobody's fault. REJECT: whoever passed it on broke the protocol.
    """

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"
