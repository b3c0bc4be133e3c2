"""POST /v1/completions: from OpenAI's words to a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from starlette.requests import Request

from node.gateway.accounts.keys import ApiKey
from node.gateway.answering import AnswerResponse
from node.gateway.api.completions_form import CompletionForm
from node.gateway.api.schemas.completions import CompletionRequest
from node.gateway.api.starting import Composed, start_answer
from node.gateway.catalog import OfferedModel
from node.gateway.composing import Desk, Wish, make_call
from node.gateway.drawing import add_logprobs, make_sampling, read_stops
from node.gateway.errors import refuse
from node.gateway.http.bodies import read_json

ROUTE = "/v1/completions"
OPERATION = "text_completion"
TOKENS_DEFAULT = 16
"""What OpenAI's API generates when the client does not say."""


async def answer_completion(desk: Desk, request: Request) -> AnswerResponse:
    """The route. Raises ApiRefusal and what `translate` knows."""
    key = desk.admit(request)
    asked = await read_json(request, CompletionRequest)
    composed = await compose_completion(desk, key, asked, request.headers)
    return start_answer(desk, ROUTE, asked, request.headers, composed)


async def compose_completion(desk: Desk, key: ApiKey, asked: CompletionRequest, headers: Mapping[str, str]) -> Composed:
    """The call, and how it is answered. Raises ApiRefusal and what `translate` knows."""
    model = await desk.find_model(key, asked.model)
    echo, is_streamed = bool(asked.echo), bool(asked.stream)
    if is_streamed and echo and asked.logprobs is not None:
        raise refuse("echo with logprobs is not streamed: leave stream out", "stream")
    prompts = [await _encode_prompt(desk, model, one) for one in _list_prompts(asked.prompt)]
    stops = read_stops(asked.stop)
    sampling = make_sampling(asked, stops, model.bounds.vocab, None)
    if asked.logprobs is not None:
        sampling = add_logprobs(sampling, asked.logprobs, of_prompt=echo)
    scores_only = asked.max_tokens == 0
    wish = Wish(
        key,
        model,
        tuple(prompts),
        1 if scores_only else TOKENS_DEFAULT if asked.max_tokens is None else asked.max_tokens,
        sampling,
        OPERATION,
        choices=asked.n or 1,
        stops=stops,
        drops_all=scores_only,
        prompt_param="prompt",
    )
    call = make_call(desk, headers, wish)
    form = CompletionForm(
        call,
        echo=echo,
        has_logprobs=asked.logprobs is not None,
        includes_usage=bool(asked.stream_options and asked.stream_options.include_usage),
    )
    return Composed(call, form, is_streamed)


def _list_prompts(prompt: str | list[int] | list[str] | list[list[int]]) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise refuse("the prompt is an empty list: say something", "prompt")
    if isinstance(prompt[0], int):
        return [prompt]
    return list(cast("list[str | list[int]]", prompt))


async def _encode_prompt(desk: Desk, model: OfferedModel, prompt: str | list[int]) -> tuple[int, ...]:
    if isinstance(prompt, str):
        return await desk.encode(lambda: model.tokenizer.encode(prompt))
    if any(one >= model.bounds.vocab for one in prompt):
        raise refuse(f"a token id of the prompt is not below {model.bounds.vocab}", "prompt")
    return tuple(prompt)
