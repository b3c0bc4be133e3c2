"""The routes of the gateway as an ASGI application. No route touches a wallet's key."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from node.gateway.answering import make_error_response
from node.gateway.api.chat import answer_chat
from node.gateway.api.completions import answer_completion
from node.gateway.api.messages import answer_messages, count_tokens
from node.gateway.api.models import list_models, show_model
from node.gateway.api.requests import show_request
from node.gateway.api.responses import answer_responses
from node.gateway.api.resume import resume_request
from node.gateway.composing import Desk
from node.gateway.errors import ApiRefusal, translate
from node.gateway.health import HealthCheck
from node.gateway.http.whole_bodies import WholeBodies
from node.gateway.metrics import CONTENT_TYPE
from node.gateway.openapi import make_document
from node.gateway.page.pages import PREFIX, PageFile, load_page_files

log = logging.getLogger(__name__)

Answering = Callable[[Desk, Request], Awaitable[Any]]
_GONE_STATUS = 499
_EXPOSED = (
    "x-request-id",
    "x-myelin-request",
    "x-myelin-session",
    "x-myelin-path",
    "x-myelin-price-max",
    "x-myelin-cost",
)


def make_app(desk: Desk, health: HealthCheck) -> Starlette:
    """All routes."""
    document = make_document()
    files = load_page_files()

    async def show_document(desk: Desk, request: Request) -> Response:
        return JSONResponse(document)

    async def show_health(desk: Desk, request: Request) -> Response:
        faults = [{"reason": one.reason, "message": one.message} for one in await health.find_faults()]
        state = {"status": "unhealthy" if faults else "healthy", "faults": faults}
        return JSONResponse(state, status_code=503 if faults else 200)

    async def show_metrics(desk: Desk, request: Request) -> Response:
        return Response(desk.counters.metrics.write(), headers={"content-type": CONTENT_TYPE})

    async def show_page(desk: Desk, request: Request) -> Response:
        return _serve_file(files.get(request.url.path), request)

    gets = {
        "/v1/models": list_models,
        "/v1/models/{model:path}": show_model,
        "/v1/requests/{request}": show_request,
        "/health": show_health,
        "/metrics": show_metrics,
        "/openapi.json": show_document,
        "/": show_page,
        f"{PREFIX}{{name:path}}": show_page,
    }
    posts = {
        "/v1/chat/completions": answer_chat,
        "/v1/completions": answer_completion,
        "/v1/responses": answer_responses,
        "/v1/messages": answer_messages,
        "/v1/messages/count_tokens": count_tokens,
        "/v1/requests/{request}/resume": resume_request,
    }
    routes = [Route(path, _guard(desk, function), methods=["GET"]) for path, function in gets.items()]
    routes += [Route(path, _guard(desk, function), methods=["POST"]) for path, function in posts.items()]
    return Starlette(
        routes=routes, middleware=_make_middleware(desk), exception_handlers={HTTPException: _explain_http}
    )


def _guard(desk: Desk, function: Answering) -> Callable[[Request], Awaitable[Any]]:
    """What a route raises, as the client's API says it."""

    async def endpoint(request: Request) -> Any:
        try:
            return await function(desk, request)
        except ClientDisconnect:
            return Response(status_code=_GONE_STATUS)
        except Exception as error:
            known = translate(error)
            if known is None:
                log.exception("%s failed by a bug", request.url.path)
                text = "the gateway failed by a bug of its own: its log has the details"
                known = ApiRefusal(500, text, kind="server_error")
            return _explain(known, request)

    return endpoint


async def _explain_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it alone"
    if error.status_code == 405:
        known = ApiRefusal(405, f"{request.method} is not what this path takes", code="method_not_allowed")
    else:
        known = ApiRefusal(error.status_code, "there is nothing at this path: see /openapi.json", code="not_found")
    response = _explain(known, request)
    response.headers.update(error.headers or {})
    return response


def _explain(error: ApiRefusal, request: Request) -> Response:
    is_anthropic = request.url.path.startswith("/v1/messages")
    return make_error_response(error.to_anthropic() if is_anthropic else error.to_openai(), error)


def _serve_file(file: PageFile | None, request: Request) -> Response:
    if file is None:
        raise ApiRefusal(404, "there is no such page: the API is at /v1", code="not_found")
    headers = file.list_headers()
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers)


def _make_middleware(desk: Desk) -> list[Middleware]:
    origins = desk.settings.origins
    first = [Middleware(WholeBodies)]
    if not origins:
        return first
    return [
        *first,
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=list(_EXPOSED),
        ),
    ]
