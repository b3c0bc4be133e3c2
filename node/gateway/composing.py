"""From a parsed request to a call: the caller's key, the model, the prompt's tokens, how many may come, the rates.

All of it is checked before the network is asked for anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import trio
from starlette.requests import Request

from inference.routing import Prefer
from node.client.answer import Ask, Resolution
from node.gateway.accounts.keys import OPEN_KEY, ApiKey
from node.gateway.accounts.rates import KeyRates
from node.gateway.calls import Call, Counters
from node.gateway.catalog import Catalog, OfferedModel, find_offered
from node.gateway.drawing import vary_seed
from node.gateway.errors import ApiRefusal, refuse, refuse_context, refuse_key, refuse_model
from node.gateway.grammars import BoundGrammar, GrammarJudge
from node.gateway.journal import Journals
from node.gateway.settings import LOOPBACK, GatewaySettings
from proto_specs.types.request import compute_positions
from proto_specs.types.sampling import SamplingParams

WAIT_HEADER = "x-myelin-wait"
PREFER_HEADER = "x-myelin-prefer"
REQUESTS_PER_CALL_MAX = 64
_WAITS = {"settled": Resolution.SETTLED, "verified": Resolution.VERIFIED}


@dataclass(frozen=True, slots=True)
class Desk:
    """What every route works with."""

    settings: GatewaySettings
    catalog: Catalog
    judge: GrammarJudge
    counters: Counters
    rates: KeyRates
    threads: trio.CapacityLimiter
    journals: Journals

    def authenticate(self, request: Request) -> ApiKey:
        """Who asks. Raises ApiRefusal 401."""
        if self.settings.is_open:
            self._require_own_page(request)
            return OPEN_KEY
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        given = text.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        key = self.counters.store.find_key(given)
        if key is None:
            raise refuse_key()
        return key

    def _require_own_page(self, request: Request) -> None:
        """Without keys any web page could ask at this account's cost, were it not for what a browser says of it."""
        host = request.headers.get("host", "")
        if _read_hostname(host) not in LOOPBACK:
            raise ApiRefusal(403, "a gateway without keys is asked by its loopback address", code="forbidden_host")
        origin = request.headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", *self.settings.origins):
            raise ApiRefusal(403, f"pages of {origin!r:.120} may not ask here", code="forbidden_origin")

    def admit(self, request: Request) -> ApiKey:
        """Who asks, and whether it may ask once more now. Raises ApiRefusal 401 or 429."""
        key = self.authenticate(request)
        self.rates.take_request(key)
        return key

    async def list_models(self, key: ApiKey) -> tuple[OfferedModel, ...]:
        """The models that the key may use. Raises ChainUnreachable."""
        allowed = {one.lower().removeprefix("0x") for one in key.limits.models}
        models = await self.catalog.list_models()
        return tuple(one for one in models if not allowed or {one.name.lower(), one.model.hex()} & allowed)

    async def find_model(self, key: ApiKey, name: str) -> OfferedModel:
        """Raises ApiRefusal 404, ChainUnreachable."""
        found = find_offered(await self.list_models(key), name)
        if found is None:
            raise refuse_model(name)
        return found

    async def encode(self, function: Callable[[], list[int]]) -> tuple[int, ...]:
        """Token ids that a function makes, in a thread. Raises TokenizerError."""
        return tuple(await trio.to_thread.run_sync(function, limiter=self.threads))

    async def encode_chat(
        self, model: OfferedModel, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None = None
    ) -> tuple[int, ...]:
        """Token ids of a conversation; a model without a template goes on with the texts. Raises TokenizerError."""
        tokenizer = model.tokenizer
        if tokenizer.has_template:
            return await self.encode(lambda: tokenizer.encode_chat(messages, tools=tools))
        text = "\n".join(str(one["content"]) for one in messages)
        return await self.encode(lambda: tokenizer.encode(text))


@dataclass(frozen=True, slots=True)
class Wish:
    """What a call asks of a model, before its numbers are checked. `stops` are those of `sampling`, as texts."""

    key: ApiKey
    model: OfferedModel
    prompts: tuple[tuple[int, ...], ...]
    tokens_max: int | None
    sampling: SamplingParams
    operation: str
    choices: int = 1
    stops: tuple[str, ...] = ()
    grammar: BoundGrammar | None = None
    drops_all: bool = False
    prompt_param: str = "messages"


def _read_hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # brackets that hold no address
        return None


def make_call(desk: Desk, headers: Mapping[str, str], wish: Wish) -> Call:
    """The call. Raises ApiRefusal 400 or 429."""
    if len(wish.prompts) * wish.choices > REQUESTS_PER_CALL_MAX:
        raise refuse(f"prompts times n are {REQUESTS_PER_CALL_MAX} at most", "n")
    prefer = read_prefer(headers, desk.settings.prefer)
    asks: list[Ask] = []
    wait = read_wait(headers)
    for prompt in wish.prompts:
        tokens_max = _compute_tokens_max(desk, wish, len(prompt))
        for _ in range(wish.choices):
            sampling = vary_seed(wish.sampling, len(asks))
            grammar = b"" if wish.grammar is None else wish.grammar.text
            max_price = desk.settings.max_price
            rules = (tokens_max, sampling, max_price, grammar, prefer)
            asks.append(Ask(wish.model.model, prompt, *rules, is_awaited=wait is not None))
    desk.rates.take_tokens(wish.key, sum(len(one.prompt) + one.tokens_max for one in asks))
    return Call(wish.key, wish.model, tuple(asks), wish.stops, wish.operation, wait, wish.drops_all)


def read_wait(headers: Mapping[str, str]) -> Resolution | None:
    """What the client waits for before its answer ends. Raises ApiRefusal 400."""
    given = headers.get(WAIT_HEADER)
    if given is None:
        return None
    if given.lower() not in _WAITS:
        raise refuse(f"{WAIT_HEADER} is settled or verified", WAIT_HEADER)
    return _WAITS[given.lower()]


def read_prefer(headers: Mapping[str, str], otherwise: Prefer) -> Prefer:
    """What the client's path is chosen by. Raises ApiRefusal 400."""
    given = headers.get(PREFER_HEADER)
    if given is None:
        return otherwise
    try:
        return Prefer(given.lower())
    except ValueError:
        raise refuse(f"{PREFER_HEADER} is fast or cheap", PREFER_HEADER) from None


def _compute_tokens_max(desk: Desk, wish: Wish, prompt: int) -> int:
    positions_max = wish.model.bounds.positions_max
    if prompt < 1:
        raise refuse("the prompt has no tokens: say something", wish.prompt_param)
    room = positions_max - prompt + 1
    if room < 1:
        raise refuse_context(
            f"this model's maximum context length is {positions_max} tokens, and your prompt has {prompt}: shorten it",
            wish.prompt_param,
        )
    wanted = wish.tokens_max
    if wanted is None:
        return min(desk.settings.tokens_default, room)
    if compute_positions(prompt, wanted) > positions_max:
        raise refuse_context(
            f"this model's maximum context length is {positions_max} tokens; you asked for {prompt + wanted} "
            f"({prompt} in the prompt, {wanted} to generate): ask for less",
            wish.prompt_param,
        )
    return wanted
