"""Batches: several calls in one transaction, with one nonce and one fee. Knows no module whose calls it runs."""

from __future__ import annotations

from consensus.runtime.context import Environment, Inner
from consensus.runtime.errors import CallError
from consensus.runtime.utility.errors import EmptyBatch
from consensus.runtime.utility.events import ItemCompleted, ItemFailed
from proto_specs.types.calls import BatchAll, BatchEach


def batch_all(env: Environment, origin: bytes, call: BatchAll, inner: Inner) -> None:
    """Run all of the calls or none. Raises EmptyBatch, or the error of the first call that fails, with its `item`.

    The calls share this call's own layer, so the caller that catches the error undoes them together.
    """
    if not call.calls:
        raise EmptyBatch("a batch has at least one call")
    for item, one in enumerate(call.calls):
        try:
            inner.dispatch(env, origin, one)
        except CallError as error:
            error.item = item
            raise


def batch_each(env: Environment, origin: bytes, call: BatchEach, inner: Inner) -> None:
    """Run the calls in order, whether earlier ones succeed or not. An event tells each result. Raises EmptyBatch."""
    if not call.calls:
        raise EmptyBatch("a batch has at least one call")
    env.events_reserved += len(call.calls)
    for item, one in enumerate(call.calls):
        error = inner.attempt(env, origin, one)
        env.events_reserved -= 1
        env.emit(ItemCompleted(item) if error is None else ItemFailed(item, error.module, error.name))
