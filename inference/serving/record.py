"""The record that a stage keeps of a finished request until it is resolved on chain, and the opening made of it."""

from __future__ import annotations

from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U8, Max, record
from proto_specs.types.common import Payload
from proto_specs.types.request import Opening, SignedLeaf, SignedOrder, SignedVoucher, compute_leaf_hash

_Leaves = Annotated[tuple[SignedLeaf, ...], Max(limits.WINDOWS_MAX)]
_Payloads = Annotated[tuple[Payload, ...], Max(limits.WINDOWS_MAX)]


@record
class RequestRecord:
    """Both boundaries of a stage: signed leaves and exact bytes of every window, and what its rules read besides.

    `voucher`: the client's last promise, where this stage has one.
    """

    order: SignedOrder
    stage: U8
    input_leaves: _Leaves
    input_payloads: _Payloads
    output_leaves: _Leaves
    output_payloads: _Payloads
    traces: _Payloads
    prompt: Payload
    grammar: Annotated[bytes, Max(limits.GRAMMAR_BYTES_MAX)]
    voucher: SignedVoucher | None = None


def make_opening(kept: RequestRecord, window: int, windows: int | None = None) -> Opening:
    """All that a verifier needs to recompute `window`. `windows`: the first ones were settled, and more may be kept.

    Raises IndexError for a window that does not exist.
    """
    windows = len(kept.output_leaves) if windows is None else windows
    if not 0 <= window < windows <= len(kept.output_leaves):
        raise IndexError(f"{len(kept.output_leaves)} windows are kept, {windows} settled, number {window} is asked for")
    end = window + 1
    is_last = kept.stage == len(kept.order.order.path) - 1
    drawn = window if is_last else 0
    return Opening(
        order=kept.order,
        input_hashes=tuple(compute_leaf_hash(one.leaf) for one in kept.input_leaves[:windows]),
        input_leaves=kept.input_leaves[:end],
        input_payloads=kept.input_payloads[:end],
        output_hashes=tuple(compute_leaf_hash(one.leaf) for one in kept.output_leaves[:windows]),
        output_leaf=kept.output_leaves[window],
        output_payload=kept.output_payloads[window],
        trace_payload=kept.traces[window],
        drawn_leaves=tuple(one.leaf for one in kept.output_leaves[:drawn]),
        drawn_payloads=kept.output_payloads[:drawn],
        prompt=kept.prompt,
        grammar=kept.grammar,
    )
