"""A stage's place on its path: which boundaries are its own, and whose keys sign there. Pure; knows no state."""

from __future__ import annotations

from dataclasses import dataclass

from proto_specs.types.request import Order, compute_request_id


@dataclass(frozen=True, slots=True)
class Place:
    """A stage of a request. Rows come in over boundary `stage` and go out over boundary `stage + 1`."""

    request: bytes
    stage: int
    is_first: bool
    is_last: bool
    sender_key: bytes
    """The sender over the input boundary: the client, or the worker before."""
    receiver_key: bytes
    """The receiver over the output boundary: the worker after, or the client."""

    @property
    def is_end(self) -> bool:
        """Whether the stage is an end of the path: the client signs its input or its output."""
        return self.is_first or self.is_last


def compute_place(order: Order, stage: int, session_key: bytes) -> Place:
    """The place of stage number `stage` on the order's path."""
    # The signers of the boundaries, in order: the client, the workers, and the client again.
    keys = [session_key, *(worker.worker for worker in order.path), session_key]
    is_last = stage == len(order.path) - 1
    return Place(compute_request_id(order), stage, stage == 0, is_last, keys[stage], keys[stage + 2])
