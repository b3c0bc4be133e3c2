"""GET /v1/requests/ID: what became of a request, for the key that made it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from node.client.answer import RequestOutcome
from node.gateway.composing import Desk
from node.gateway.errors import ApiError

_ID_CHARS = 64


async def show_request(desk: Desk, request: Request) -> JSONResponse:
    """The route. Raises ApiError 404, also for another key's request; ChainUnreachable."""
    key = desk.authenticate(request)
    text = request.path_params["request"].removeprefix("0x")
    found = None
    if len(text) == _ID_CHARS and set(text.lower()) <= set("0123456789abcdef"):
        found = desk.counters.store.get_request(bytes.fromhex(text))
    if found is None or found.key != key.number:
        raise ApiError(404, "your key made no such request: take an id from x-myelin-request", code="request_not_found")
    outcome = None if found.state == "open" else await desk.counters.inference.get_outcome(found.request)
    resolution = found.resolution if outcome is None else outcome.resolution
    body = {
        "id": found.request.hex(),
        "object": "myelin.request",
        "created": found.created,
        "model": found.model.hex(),
        "session": found.session.hex(),
        "state": found.state,
        "resolution": resolution.value,
        "is_final": resolution.is_final,
        "price_max_nmyl": found.price_max,
        "cost_nmyl": found.cost,
        "prompt_tokens": found.prompt_tokens,
        "generated_tokens": found.generated_tokens,
        "chain": None if outcome is None else _describe_outcome(outcome),
    }
    return JSONResponse(body)


def _describe_outcome(outcome: RequestOutcome) -> dict[str, Any]:
    stages = [
        {
            "worker": one.worker.hex(),
            "start": one.start,
            "end": one.end,
            "status": one.status,
            "is_drawn": one.is_drawn,
            "distance_ppb": one.distance_ppb,
            "threshold_ppb": one.threshold_ppb,
        }
        for one in outcome.stages
    ]
    return {
        "height": outcome.height,
        "price_nmyl": outcome.price,
        "returned_nmyl": outcome.returned,
        "stages": stages,
    }
