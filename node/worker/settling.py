"""What a last stage does with the settlement of a request, and what it tells the client of it."""

from __future__ import annotations

from node.worker.archive import RequestArchive
from proto_specs.types.calls import Settle
from proto_specs.types.request import compute_request_id
from proto_specs.types.wire import RootsFrame, Settled


async def settle(archive: RequestArchive, call: Settle, *, batched: bool) -> RootsFrame | Settled | None:
    """Submit it, or hold it for a statement where the client wants that and has the whole answer. Raises OSError.

    None: the chain is out of reach for now.
    """
    request = compute_request_id(call.order.order)
    if batched and call.voucher.voucher.final:
        await archive.hold(request, call)
        return RootsFrame(call.stage_roots)
    extrinsic = await archive.settle(request, call)
    return None if extrinsic is None else Settled(request, extrinsic)
