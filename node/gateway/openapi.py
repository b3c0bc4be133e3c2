"""The OpenAPI document, made of the schemas by which requests are read."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from node.gateway.api.schemas.chat import ChatRequest
from node.gateway.api.schemas.completions import CompletionRequest
from node.gateway.api.schemas.messages import CountTokensRequest, MessagesRequest
from node.gateway.api.schemas.responses import ResponsesRequest

_POSTS: dict[str, tuple[type[BaseModel], str]] = {
    "/v1/chat/completions": (ChatRequest, "Go on with a conversation, as OpenAI's API."),
    "/v1/completions": (CompletionRequest, "Go on with a text, as OpenAI's API."),
    "/v1/responses": (ResponsesRequest, "Answer a text, as OpenAI's API."),
    "/v1/messages": (MessagesRequest, "Go on with a conversation, as Anthropic's API."),
    "/v1/messages/count_tokens": (CountTokensRequest, "Count a conversation's tokens, as Anthropic's API."),
}
_GETS = {
    "/v1/models": "The models that can be asked.",
    "/v1/models/{model}": "One model.",
    "/v1/requests/{request}": "What became of a request.",
    "/health": "Whether answers can be had; 503 with the reasons.",
    "/metrics": "Counters for Prometheus.",
    "/openapi.json": "This document.",
}
_RESUME = "/v1/requests/{request}/resume"
_KEYLESS = frozenset({"/health", "/metrics", "/openapi.json"})
_ANSWERS = {"200": {"description": "The answer."}, "4XX": {"description": "The request is wrong."}}


def make_document() -> dict[str, Any]:
    """The whole document."""
    forms = [(form, "validation") for form, _ in _POSTS.values()]
    _, defined = models_json_schema(forms, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    paths: dict[str, Any] = {}
    for path, text in _GETS.items():
        names = [one.strip("{}") for one in path.split("/") if one.startswith("{")]
        parameters = [{"name": one, "in": "path", "required": True, "schema": {"type": "string"}} for one in names]
        security: dict[str, Any] = {"security": []} if path in _KEYLESS else {}
        paths[path] = {"get": {"summary": text, "parameters": parameters, "responses": _ANSWERS, **security}}
    for path, (form, text) in _POSTS.items():
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{form.__name__}"}}}
        paths[path] = {
            "post": {"summary": text, "requestBody": {"required": True, "content": content}, "responses": _ANSWERS}
        }
    given = {"name": "request", "in": "path", "required": True, "schema": {"type": "string"}}
    text = "Go on with an answer that was under way when the gateway died, in the form in which it was asked for."
    paths[_RESUME] = {"post": {"summary": text, "parameters": [given], "responses": _ANSWERS}}
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Myelin gateway", "version": "1"},
        "security": [{"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {"schemas": defined["$defs"], "securitySchemes": schemes},
    }
