"""Where a stage keeps the windows that its neighbours and itself have signed, while a request runs. Types alone."""

from __future__ import annotations

from typing import Protocol

from proto_specs.codec import record
from proto_specs.types.common import Payload
from proto_specs.types.request import SignedLeaf


@record
class SignedWindow:
    """A window at both boundaries of a stage: leaves with both signatures, exact bytes, and the sender's trace."""

    input_leaf: SignedLeaf
    input_payload: Payload
    output_leaf: SignedLeaf
    output_payload: Payload
    trace: Payload


class WindowStore(Protocol):
    """Keeps windows in order, from number 0."""

    def put(self, window: SignedWindow) -> None:
        """Keep the next window. Raises BoundaryError when it cannot be kept."""

    def get(self, number: int) -> SignedWindow:
        """A window that was kept. Raises BoundaryError when it cannot be read."""
