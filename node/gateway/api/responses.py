"""POST /v1/responses, the part that is text: from OpenAI's words to a call. Nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from node.gateway.accounts.keys import ApiKey
from node.gateway.answering import AnswerResponse
from node.gateway.api.chat import ANY_OBJECT
from node.gateway.api.responses_form import ResponsesForm
from node.gateway.api.schemas.common import DrawingFields
from node.gateway.api.schemas.responses import ResponsesRequest
from node.gateway.api.starting import Composed, start_answer
from node.gateway.composing import Desk, Wish, make_call
from node.gateway.drawing import make_sampling
from node.gateway.grammars import make_schema_grammar
from node.gateway.http.bodies import read_json

ROUTE = "/v1/responses"
OPERATION = "responses"


async def answer_responses(desk: Desk, request: Request) -> AnswerResponse:
    """The route. Raises ApiRefusal and what `translate` knows."""
    key = desk.admit(request)
    asked = await read_json(request, ResponsesRequest)
    composed = await compose_responses(desk, key, asked, request.headers)
    return start_answer(desk, ROUTE, asked, request.headers, composed)


async def compose_responses(desk: Desk, key: ApiKey, asked: ResponsesRequest, headers: Mapping[str, str]) -> Composed:
    """The call, and how it is answered. Raises ApiRefusal and what `translate` knows."""
    model = await desk.find_model(key, asked.model)
    prompt = await desk.encode_chat(model, _make_messages(asked))
    schema = _find_schema(asked)
    grammar = None if schema is None else await make_schema_grammar(desk.judge, model, schema, "text.format.schema")
    drawing = DrawingFields(temperature=asked.temperature, top_p=asked.top_p)
    sampling = make_sampling(drawing, (), model.bounds.vocab, grammar)
    wish = Wish(
        key, model, (prompt,), asked.max_output_tokens, sampling, OPERATION, grammar=grammar, prompt_param="input"
    )
    call = make_call(desk, headers, wish)
    return Composed(call, ResponsesForm(call, asked), bool(asked.stream))


def _make_messages(asked: ResponsesRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if asked.instructions:
        messages.append({"role": "system", "content": asked.instructions})
    if isinstance(asked.input, str):
        return [*messages, {"role": "user", "content": asked.input}]
    for item in asked.input:
        content = item.content if isinstance(item.content, str) else "".join(one.text for one in item.content)
        messages.append({"role": "system" if item.role == "developer" else item.role, "content": content})
    return messages


def _find_schema(asked: ResponsesRequest) -> dict[str, Any] | None:
    chosen = None if asked.text is None else asked.text.format
    if chosen is None or chosen.type == "text":
        return None
    return chosen.json_schema if chosen.type == "json_schema" else ANY_OBJECT
