"""POST /v1/messages and /v1/messages/count_tokens: from Anthropic's words to a call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from node.gateway.accounts.keys import ApiKey
from node.gateway.answering import AnswerResponse
from node.gateway.api.chat import ANY_OBJECT
from node.gateway.api.messages_form import MessagesForm
from node.gateway.api.schemas.common import DrawingFields
from node.gateway.api.schemas.messages import (
    AnthropicTool,
    AnthropicTurn,
    CountTokensRequest,
    MessagesRequest,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from node.gateway.api.starting import Composed, start_answer
from node.gateway.catalog import OfferedModel
from node.gateway.composing import Desk, Wish, make_call
from node.gateway.drawing import make_sampling, read_stops
from node.gateway.errors import refuse
from node.gateway.grammars import BoundGrammar, make_bound_grammar, write_schema
from node.gateway.http.bodies import read_json
from node.gateway.tools import ToolScanner, adapt_messages, find_tool_use, make_tool_lark
from proto_specs.types.sampling import GrammarKind

ROUTE = "/v1/messages"
OPERATION = "messages"


async def answer_messages(desk: Desk, request: Request) -> AnswerResponse:
    """The route of answers. Raises ApiRefusal and what `translate` knows."""
    key = desk.admit(request)
    asked = await read_json(request, MessagesRequest)
    composed = await compose_messages(desk, key, asked, request.headers)
    return start_answer(desk, ROUTE, asked, request.headers, composed)


async def compose_messages(desk: Desk, key: ApiKey, asked: MessagesRequest, headers: Mapping[str, str]) -> Composed:
    """The call, and how it is answered. Raises ApiRefusal and what `translate` knows."""
    model = await desk.find_model(key, asked.model)
    prompt = await _encode(desk, model, asked)
    grammar = await _make_grammar(desk, model, asked)
    stops = read_stops(asked.stop_sequences)
    drawing = DrawingFields(temperature=asked.temperature, top_p=asked.top_p, top_k=asked.top_k)
    sampling = make_sampling(drawing, stops, model.bounds.vocab, grammar)
    wish = Wish(key, model, (prompt,), asked.max_tokens, sampling, OPERATION, stops=stops, grammar=grammar)
    call = make_call(desk, headers, wish)
    tools = _get_tools(asked)
    scanner = ToolScanner([one.name for one in tools]) if tools else None
    choice = asked.tool_choice
    form = MessagesForm(call, scanner, is_parallel=not (choice and choice.disable_parallel_tool_use))
    return Composed(call, form, bool(asked.stream))


async def count_tokens(desk: Desk, request: Request) -> JSONResponse:
    """The route that counts. Raises ApiRefusal and what `translate` knows."""
    key = desk.admit(request)
    asked = await read_json(request, CountTokensRequest)
    model = await desk.find_model(key, asked.model)
    return JSONResponse({"input_tokens": len(await _encode(desk, model, asked))})


async def _encode(desk: Desk, model: OfferedModel, asked: CountTokensRequest) -> tuple[int, ...]:
    messages: list[dict[str, Any]] = []
    system = asked.system if isinstance(asked.system, str) else "\n".join(one.text for one in asked.system or [])
    if system:
        messages.append({"role": "system", "content": system})
    for turn in asked.messages:
        messages += _make_messages(turn)
    use = find_tool_use(model.tokenizer.template_text)
    described = [_describe(one) for one in _get_tools(asked)]
    adapted = adapt_messages(messages, described, use)
    return await desk.encode_chat(model, adapted, described if described and use.is_native else None)


async def _make_grammar(desk: Desk, model: OfferedModel, asked: MessagesRequest) -> BoundGrammar | None:
    choice = asked.tool_choice
    if choice is None or choice.type in ("auto", "none"):
        return None
    allowed = [one for one in asked.tools or [] if choice.type == "any" or one.name == choice.name]
    if not allowed:
        raise refuse(f"tool_choice: {choice.name!r} is none of the tools", "tool_choice")
    parameters = [(one.name, write_schema(one.input_schema or ANY_OBJECT, "tools")) for one in allowed]
    lark = make_tool_lark(parameters, find_tool_use(model.tokenizer.template_text).style)
    return await make_bound_grammar(desk.judge, model, GrammarKind.LARK, lark, "tools")


def _get_tools(asked: CountTokensRequest) -> list[AnthropicTool]:
    is_off = asked.tool_choice is not None and asked.tool_choice.type == "none"
    return [] if is_off else asked.tools or []


def _make_messages(turn: AnthropicTurn) -> list[dict[str, Any]]:
    """A turn in OpenAI's form: results of tools are messages of their own, before the turn's text."""
    if isinstance(turn.content, str):
        return [{"role": turn.role, "content": turn.content}]
    results = [
        {"role": "tool", "tool_call_id": one.tool_use_id, "name": "", "content": _join(one)}
        for one in turn.content
        if isinstance(one, ToolResultBlock)
    ]
    calls = [
        {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": json.dumps(one.input)}}
        for one in turn.content
        if isinstance(one, ToolUseBlock)
    ]
    text = "".join(one.text for one in turn.content if isinstance(one, TextBlock))
    message: dict[str, Any] = {"role": turn.role, "content": text}
    if calls:
        message["tool_calls"] = calls
    return [*results, message] if text or calls else results


def _join(block: ToolResultBlock) -> str:
    content = block.content
    return content if isinstance(content, str) else "".join(one.text for one in content or [])


def _describe(tool: AnthropicTool) -> dict[str, Any]:
    named = {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema or ANY_OBJECT}
    return {"type": "function", "function": named}
