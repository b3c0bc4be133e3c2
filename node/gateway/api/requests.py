"""GET /v1/requests/ID: what became of a request, for the key that made it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from node.client.answer import Resolution, StageOutcome
from node.gateway.accounts.keys import ApiKey
from node.gateway.accounts.store import StoredRequest
from node.gateway.booking import FREE_STATE
from node.gateway.composing import Desk
from node.gateway.errors import ApiRefusal

_ID_CHARS = 64


async def show_request(desk: Desk, request: Request) -> JSONResponse:
    """The route. Raises ApiRefusal 404, also for another key's request; ChainUnreachable."""
    key = desk.authenticate(request)
    found = find_request(desk, key, request.path_params["request"])
    continuing = desk.counters.store.find_continuing(found.request)
    is_asked = found.state != "open" and not (found.resolution.is_final and not found.cost)
    outcome = await desk.counters.inference.get_outcome(found.request, found.session) if is_asked else None
    resolution = found.resolution if outcome is None else outcome.resolution
    is_free = found.state != "open" and found.cost == 0 and resolution == Resolution.LOST
    body = {
        "id": found.request.hex(),
        "object": "myelin.request",
        "created": found.created,
        "model": found.model.hex(),
        "session": found.session.hex(),
        "continues": None if found.continues is None else found.continues.hex(),
        "continued_by": None if continuing is None else continuing.hex(),
        "progress": found.state,
        "state": FREE_STATE if is_free else resolution.value,
        "final": resolution.is_final,
        "price_max_nmyl": found.price_max,
        "cost_nmyl": found.cost,
        "price_nmyl": outcome.price if outcome is not None and outcome.stages else found.cost,
        "returned_nmyl": 0 if outcome is None else outcome.returned,
        "prompt_tokens": found.prompt_tokens,
        "generated_tokens": found.generated_tokens,
        "height": None if outcome is None else outcome.height,
        "statement": None if outcome is None or outcome.statement is None else outcome.statement.hex(),
        "stages": [] if outcome is None else [_describe_stage(one) for one in outcome.stages],
    }
    return JSONResponse(body)


def find_request(desk: Desk, key: ApiKey, text: str) -> StoredRequest:
    """A request of this key by its id in hex. Raises ApiRefusal 404, also for another key's."""
    text, found = text.removeprefix("0x"), None
    if len(text) == _ID_CHARS and set(text.lower()) <= set("0123456789abcdef"):
        found = desk.counters.store.get_request(bytes.fromhex(text))
    if found is None or found.key != key.number:
        raise ApiRefusal(
            404, "your key made no such request: take an id from x-myelin-request", code="request_not_found"
        )
    return found


def _describe_stage(stage: StageOutcome) -> dict[str, Any]:
    return {
        "worker": stage.worker.hex(),
        "start": stage.start,
        "end": stage.end,
        "status": stage.status,
        "drawn": stage.is_drawn,
        "distance_ppb": stage.distance_ppb,
        "threshold_ppb": stage.threshold_ppb,
    }
