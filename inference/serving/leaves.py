"""Signs the leaves of a boundary, as its sender and as its receiver, and keeps the signatures. Pure."""

from __future__ import annotations

from inference.serving.boundary import BoundaryError, BoundaryLog
from inference.serving.window_store import SignedWindow, WindowStore
from proto_specs.ed25519 import SigningKey
from proto_specs.types.request import (
    is_input_signed,
    is_output_signed,
    sign_input,
    sign_output,
)
from proto_specs.types.wire import Countersign, OutputLeaf


def sign_next_leaf(log: BoundaryLog, key: SigningKey) -> OutputLeaf:
    """The sender's leaf over the next window, whose rows are all logged."""
    leaf = log.make_leaf(log.leaves)
    signature = sign_output(leaf, key)
    log.close_window(leaf, signature)
    return OutputLeaf(leaf, signature)


def countersign_leaf(log: BoundaryLog, frame: OutputLeaf, sender: bytes, key: SigningKey) -> Countersign:
    """The receiver's answer to the sender's leaf over the next window, which has at least one logged row.

    Raises BoundaryError when the leaf does not cover the received bytes, or is not signed by `sender`.
    """
    leaf = frame.leaf
    if leaf != log.make_leaf(log.leaves):
        raise BoundaryError(f"the leaf of window {leaf.window} does not cover the bytes that came")
    if not is_output_signed(leaf, sender, frame.signature):
        raise BoundaryError(f"the leaf of window {leaf.window} is not signed by the sender")
    log.close_window(leaf, frame.signature)
    signature = sign_input(leaf, key)
    log.add_signed(signature)
    return Countersign(leaf.request, leaf.boundary, leaf.window, signature)


def accept_countersign(log: BoundaryLog, boundary: int, frame: Countersign, receiver: bytes) -> None:
    """Keep the receiver's signature. Raises BoundaryError when it is not for the next leaf, or not by `receiver`."""
    leaf = log.get_leaf(frame.window)
    if frame.boundary != boundary or frame.window != log.signed or leaf is None:
        raise BoundaryError(f"countersignature of boundary {frame.boundary}, window {frame.window} is not due")
    if not is_input_signed(leaf, receiver, frame.signature):
        raise BoundaryError(f"the countersignature of window {frame.window} is not the receiver's")
    log.add_signed(frame.signature)


def store_windows(store: WindowStore, received: BoundaryLog, sent: BoundaryLog, numbers: range) -> None:
    """Keep windows that all have signed, and free the memory they take. Raises BoundaryError."""

    def read_input(number: int) -> tuple[bytes, bytes]:
        return store.get(number).input_payload, b""

    def read_output(number: int) -> tuple[bytes, bytes]:
        kept = store.get(number)
        return kept.output_payload, kept.trace

    for number in numbers:
        rows = received.get_payload(number), sent.get_signed_leaf(number), sent.get_payload(number)
        store.put(SignedWindow(received.get_signed_leaf(number), *rows, sent.get_trace(number)))
        received.release(number, read_input)
        sent.release(number, read_output)
