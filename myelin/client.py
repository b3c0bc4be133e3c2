"""A client for application developers: ask a model, pay, and prove what was paid. Async, on trio; `sync.py` is without.

async with connect(rpc="http://127.0.0.1:9944", seed=seed, models=models) as client:
    async with client.chat([{"role": "user", "content": "Hi"}], model="SmolLM2", max_tokens=32) as answer:
        async for text in answer:
            print(text, end="")
    print(answer.receipt)
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from consensus.runtime.inference import queries
from consensus.runtime.inference import state as inference_state
from consensus.runtime.inference.state import Request
from inference.errors import StoreError
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer
from inference.routing import Prefer
from inference.serving.client import PromptScored
from node.client.account import SigningAccount
from node.client.answer import Answer, Ask, Generated, Inference, RequestOutcome
from node.client.inference import open_inference
from node.client.purse import PoolRules
from node.client.read_proof import read_proven
from node.client.rpc import open_rpc
from node.client.rpc_chain import RpcChain
from node.p2p.circuits import open_roaming_host
from proto_specs.codec import decode
from proto_specs.ed25519 import SigningKey
from proto_specs.errors import MyelinError
from proto_specs.ss58 import encode_address
from proto_specs.types.request import PathStage
from proto_specs.types.sampling import SamplingParams
from proto_specs.types.wire import FinishReason

MAX_PRICE = 200_000
GREEDY = SamplingParams(0, 0, 1000, 0)

Message = dict[str, str]


class ModelAmbiguous(MyelinError):
    """More than one stored model is called so, or none is."""


@dataclass(frozen=True, slots=True)
class AnswerReceipt:
    """What an answer was and cost. `cost_nmyl` is what it settles at."""

    request: bytes
    session: bytes
    path: tuple[PathStage, ...]
    tokens: int
    finish: FinishReason
    cost_nmyl: int


@dataclass(frozen=True, slots=True)
class Payment:
    """A settled request with the proof that the header of block `height` commits to it (`proof`, as RPC encodes it)."""

    request: Request
    height: int
    block_hash: bytes
    state_root: bytes
    proof: bytes


class AnswerText:
    """An answer as pieces of text. Use it as a block: leaving early cancels the request."""

    def __init__(self, inference: Inference, ask: Ask, tokenizer: Tokenizer) -> None:
        self._inference = inference
        self._ask = ask
        self._tokenizer = tokenizer
        self._text = tokenizer.stream()
        self._stack = AsyncExitStack()
        self._answer: Answer | None = None
        self._items: AsyncIterator[Generated | PromptScored]
        self._tokens = 0
        self._finish = FinishReason.NONE

    @property
    def receipt(self) -> AnswerReceipt:
        """What it is so far; final once it has ended. Raises MyelinError before it began."""
        if self._answer is None:
            raise MyelinError("the request has not begun: read a piece of it first")
        one = self._answer
        return AnswerReceipt(one.request, one.session, one.path, self._tokens, self._finish, one.cost_nmyl)

    def __aiter__(self) -> AnswerText:
        """Pieces of text, none of them empty."""
        return self

    async def __anext__(self) -> str:
        """The next piece. Raises what `Inference.ask` and iterating its answer raise."""
        while True:
            if self._finish is not FinishReason.NONE:
                await self.aclose()
                raise StopAsyncIteration
            piece = await self._read()
            if piece:
                return piece

    async def aclose(self) -> None:
        """End it; cancels what has not ended."""
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        """The request begins with the first piece."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        await self.aclose()

    async def _read(self) -> str:
        if self._answer is None:
            self._answer = await self._stack.enter_async_context(self._inference.ask(self._ask))
            self._items = aiter(self._answer)
        try:
            item = await anext(self._items)
        except BaseException:
            await self.aclose()
            raise
        if not isinstance(item, Generated):
            return ""
        self._tokens += 1
        self._finish = item.finish
        text = "" if self._tokenizer.is_eos(item.token) else self._text.push(item.token)
        return text if item.finish is FinishReason.NONE else text + self._text.finish()


class Client:
    """Asks stored models and pays by one account. Made by `connect` only."""

    def __init__(
        self, chain: RpcChain, inference: Inference, store: ShardStore, registered: Collection[bytes] = ()
    ) -> None:
        self._chain = chain
        self._registered = frozenset(registered)
        self._inference = inference
        self._store = store

    @property
    def inference(self) -> Inference:
        """What asks by tokens, for whoever wants no text."""
        return self._inference

    def chat(
        self,
        messages: Sequence[Message],
        *,
        model: str | None = None,
        max_tokens: int = 256,
        sampling: SamplingParams = GREEDY,
        grammar: bytes = b"",
        max_price: int = MAX_PRICE,
        prefer: Prefer = Prefer.FAST,
    ) -> AnswerText:
        """An answer to a conversation. `model`: a stored model's name or id in hex; none names the only one on chain.
        `prefer`: Prefer.FAST or CHEAP, by which the workers are chosen.

        Raises ModelAmbiguous, StoreError, TokenizerError; iterating raises the rest.
        """
        model_id = self._find_model(model)
        tokenizer = Tokenizer.load(self._store, model_id)
        prompt = tuple(tokenizer.encode_chat(list(messages)))
        ask = Ask(model_id, prompt, max_tokens, sampling, max_price, grammar, prefer)
        return AnswerText(self._inference, ask, tokenizer)

    async def outcome(self, request: bytes) -> RequestOutcome:
        """What the chain made of a request: pending, settled, verified, slashed. Raises ChainUnreachable."""
        return await self._inference.get_outcome(request)

    async def payment(self, request: bytes) -> Payment | None:
        """The settled request with its proof; None while the chain has none. Raises ProofRefused, RpcError."""
        found = await read_proven(self._chain.rpc, inference_state.requests.key(request))
        if found["value"] is None:
            return None
        value, block, root, proof = (
            bytes.fromhex(found[name][2:]) for name in ("value", "block", "state_root", "proof")
        )
        return Payment(decode(Request, value), found["height"], block, root, proof)

    def _find_model(self, name: str | None) -> bytes:
        stored = self._store.list_models()
        if name is not None:
            wanted = name.removeprefix("0x")
            stored = [one for one in stored if one.hex() == wanted] or [
                one for one in stored if self._is_called(one, name)
            ]
        if len(stored) > 1:  # what nobody can serve is not meant
            stored = [one for one in stored if one in self._registered] or stored
        if len(stored) != 1:
            raise ModelAmbiguous(f"{len(stored)} stored models are meant by {name!r}: name one of `myelin model list`")
        return stored[0]

    def _is_called(self, model: bytes, name: str) -> bool:
        try:
            return self._store.load_manifest(model).name == name
        except StoreError:
            return False  # one of another version lies beside it


def ignore_closed(_session: bytes) -> None:
    """Sessions that an earlier run left open are closed without a word."""


@asynccontextmanager
async def connect(
    *,
    rpc: str,
    seed: bytes,
    models: Path,
    sessions: Path | None = None,
    rules: PoolRules | None = None,
    report_closed: Callable[[bytes], None] = ignore_closed,
) -> AsyncIterator[Client]:
    """A client for the block. `seed`: the account's 32 bytes; `models`: the directory of `myelin model`.

    Sessions are noted under `sessions` (default: `~/.myelin/sessions`) until they are closed; `report_closed` is told
    of those that an earlier run left. Raises ChainUnreachable, RpcError.
    """
    if not models.is_dir():
        raise StoreError(f"{models} is no directory of models: see `myelin model import`")
    async with open_rpc(rpc) as connection, open_roaming_host(os.urandom(32), []) as (host, _):
        chain = await RpcChain.connect(connection)
        properties: Any = await connection.call("system_properties")
        key = SigningKey.from_seed(seed)
        account = SigningAccount(chain, key, encode_address(key.public_key, int(properties["ss58Format"])))
        base = Path.home() / ".myelin" / "sessions" if sessions is None else sessions
        async with open_inference(account, host, base, rules or PoolRules(), report_closed) as inference:
            registered = [model for model, _ in await chain.read(queries.list_models)]
            yield Client(chain, inference, ShardStore(models), registered)
