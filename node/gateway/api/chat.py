"""POST /v1/chat/completions: from OpenAI's words to a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from node.gateway.accounts.keys import ApiKey
from node.gateway.answering import AnswerResponse
from node.gateway.api.chat_form import ChatForm
from node.gateway.api.schemas.chat import ChatMessage, ChatRequest, NamedTool, ResponseFormat
from node.gateway.api.schemas.common import ToolForm
from node.gateway.api.starting import Composed, start_answer
from node.gateway.catalog import OfferedModel
from node.gateway.composing import Desk, Wish, make_call
from node.gateway.drawing import add_logprobs, make_sampling, read_stops
from node.gateway.errors import refuse
from node.gateway.grammars import BoundGrammar, make_bound_grammar, make_schema_grammar, write_schema
from node.gateway.http.bodies import read_json
from node.gateway.tools import ToolScanner, ToolUse, adapt_messages, find_tool_use, make_tool_lark
from proto_specs.types.sampling import GrammarKind

ROUTE = "/v1/chat/completions"
OPERATION = "chat"
ANY_OBJECT: dict[str, Any] = {"type": "object"}


async def answer_chat(desk: Desk, request: Request) -> AnswerResponse:
    """The route. Raises ApiRefusal and what `translate` knows."""
    key = desk.admit(request)
    asked = await read_json(request, ChatRequest)
    composed = await compose_chat(desk, key, asked, request.headers)
    return start_answer(desk, ROUTE, asked, request.headers, composed)


async def compose_chat(desk: Desk, key: ApiKey, asked: ChatRequest, headers: Mapping[str, str]) -> Composed:
    """The call, and how it is answered. Raises ApiRefusal and what `translate` knows."""
    model = await desk.find_model(key, asked.model)
    tools = [one for one in asked.tools or [] if asked.tool_choice != "none"]
    use = find_tool_use(model.tokenizer.template_text)
    messages = [_to_template(one) for one in asked.messages]
    described = [_describe(one) for one in tools]
    adapted = adapt_messages(messages, described, use)
    prompt = await desk.encode_chat(model, adapted, described if described and use.is_native else None)
    grammar = await make_chat_grammar(desk, model, asked, tools, use)
    stops = read_stops(asked.stop)
    sampling = make_sampling(asked, stops, model.bounds.vocab, grammar)
    if asked.logprobs:
        sampling = add_logprobs(sampling, asked.top_logprobs or 0)
    choices = asked.n or 1
    wish = Wish(
        key,
        model,
        (prompt,),
        asked.max_completion_tokens or asked.max_tokens,
        sampling,
        OPERATION,
        choices=choices,
        stops=stops,
        grammar=grammar,
    )
    call = make_call(desk, headers, wish)
    names = [one.function.name for one in tools]
    scanners = [ToolScanner(names) for _ in range(choices)] if tools else []
    form = ChatForm(
        call,
        scanners,
        has_logprobs=bool(asked.logprobs),
        includes_usage=bool(asked.stream_options and asked.stream_options.include_usage),
        is_parallel=asked.parallel_tool_calls is not False,
    )
    return Composed(call, form, bool(asked.stream))


async def make_chat_grammar(
    desk: Desk, model: OfferedModel, asked: ChatRequest, tools: list[ToolForm], use: ToolUse
) -> BoundGrammar | None:
    """The grammar that tool_choice and response_format ask for. Raises ApiRefusal 400."""
    schema = find_answer_schema(asked.response_format)
    choice = asked.tool_choice
    is_forced = choice == "required" or isinstance(choice, NamedTool)
    if tools and (is_forced or schema is not None):
        wanted = choice.function.name if isinstance(choice, NamedTool) else None
        allowed = [one.function for one in tools if wanted in (None, one.function.name)]
        if not allowed:
            raise refuse(f"tool_choice: {wanted!r} is none of the tools", "tool_choice")
        parameters = [(one.name, write_schema(one.parameters or ANY_OBJECT, "tools")) for one in allowed]
        answer = None if is_forced or schema is None else write_schema(schema, "response_format")
        lark = make_tool_lark(parameters, use.style, answer)
        return await make_bound_grammar(desk.judge, model, GrammarKind.LARK, lark, "tools")
    if schema is None:
        return None
    return await make_schema_grammar(desk.judge, model, schema, "response_format")


def find_answer_schema(chosen: ResponseFormat | None) -> dict[str, Any] | None:
    """The schema that an answer has to fit; None for a text."""
    if chosen is None or chosen.type == "text":
        return None
    if chosen.type == "json_schema" and chosen.json_schema is not None:
        return chosen.json_schema.json_schema
    return ANY_OBJECT


def _to_template(message: ChatMessage) -> dict[str, Any]:
    content = message.content
    text = content if isinstance(content, str) else "".join(one.text for one in content or [])
    role = "system" if message.role == "developer" else message.role
    made: dict[str, Any] = {"role": role, "content": text}
    if message.tool_calls:
        made["tool_calls"] = [one.model_dump() for one in message.tool_calls]
    if message.role == "tool":
        made |= {"tool_call_id": message.tool_call_id or "", "name": message.name or ""}
    return made


def _describe(tool: ToolForm) -> dict[str, Any]:
    function = tool.function
    named = {"name": function.name, "description": function.description or ""}
    return {"type": "function", "function": {**named, "parameters": function.parameters or ANY_OBJECT}}
