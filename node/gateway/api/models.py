"""GET /v1/models and /v1/models/ID: what can be asked here, and what it costs."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from node.gateway.catalog import OfferedModel
from node.gateway.composing import Desk


async def list_models(desk: Desk, request: Request) -> JSONResponse:
    """The route of the list, in OpenAI's form; Anthropic's list has the same fields beside."""
    models = [_describe_model(one) for one in await desk.list_models(desk.authenticate(request))]
    ends = {"first_id": models[0]["id"] if models else None, "last_id": models[-1]["id"] if models else None}
    return JSONResponse({"object": "list", "data": models, "has_more": False, **ends})


async def show_model(desk: Desk, request: Request) -> JSONResponse:
    """The route of one model. Raises ApiRefusal 404."""
    found = await desk.find_model(desk.authenticate(request), request.path_params["model"])
    return JSONResponse(_describe_model(found))


def _describe_model(model: OfferedModel) -> dict[str, Any]:
    price = model.price
    myelin = {
        "id": model.model.hex(),
        "layers": model.bounds.layers,
        "has_chat_template": model.tokenizer.has_template,
        "is_served": price is not None,
        "prompt_nmyl_per_token": None if price is None else price.prompt_nmyl,
        "generated_nmyl_per_token": None if price is None else price.generated_nmyl,
    }
    return {
        "id": model.name,
        "object": "model",
        "type": "model",
        "display_name": model.name,
        "created": 0,
        "created_at": "1970-01-01T00:00:00Z",
        "owned_by": "myelin",
        "context_length": model.bounds.positions_max,
        "myelin": myelin,
    }
