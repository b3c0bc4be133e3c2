"""`myelin infer` and `myelin chat`: pay for an answer, watch it being verified."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import trio
import typer
from rich.console import Console

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import StageStatus
from inference.errors import TokenizerError
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer
from node.cli.connect import DEFAULT_RPC, RpcOption, open_account
from node.cli.keyring import KEY_HELP, KeysOption
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.names import make_dev_names
from node.cli.options import JsonOption
from node.cli.show_inference import InferenceScreen, show_statement
from node.cli.stored_models import find_model
from node.client.account import SigningAccount
from node.client.errors import InferenceRefused
from node.client.requests import Ask, RequestDone, run_inference
from node.client.statement import Statement, collect_statement
from node.p2p.host import P2PHost, open_host
from proto_specs.errors import ExitStatus
from proto_specs.types.request import compute_positions
from proto_specs.types.sampling import SamplingParams

DEFAULT_TOKENS = 96
DEFAULT_MAX_PRICE = 200_000
DEV_CHAIN = "myelin-dev"

ModelArgument = Annotated[
    str | None, typer.Option(help="Name, id, or the start of an id, as in `myelin model list` (default: the only one).")
]
AccountOption = Annotated[str, typer.Option(help=f"Account that pays. {KEY_HELP}")]
TokensOption = Annotated[int, typer.Option("--tokens", min=1, help="Most tokens to generate.")]
TemperatureOption = Annotated[float, typer.Option(min=0.0, max=100.0, help="0 is greedy.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the sampling, so that it can be derived again.")]
PriceOption = Annotated[int, typer.Option(min=1, help="Most nmyl per layer and token.")]


@dataclass(frozen=True)
class AskOptions:
    """The options that infer and chat share."""

    model: str | None
    tokens: int
    sampling: SamplingParams
    max_price: int


def infer_command(
    prompt: Annotated[str, typer.Argument(help="What to ask; `-` reads it from standard input.")],
    model: ModelArgument = None,
    account: AccountOption = "dev:client",
    rpc: RpcOption = DEFAULT_RPC,
    tokens: TokensOption = DEFAULT_TOKENS,
    temperature: TemperatureOption = 0.0,
    top_k: Annotated[int, typer.Option(min=0, help="Draw from the k likeliest; 0 is all.")] = 0,
    top_p: Annotated[float, typer.Option(min=0.001, max=1.0, help="Draw from this share of likelihood.")] = 1.0,
    seed: SeedOption = 0,
    max_price: PriceOption = DEFAULT_MAX_PRICE,
    models: ModelsOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask once: escrow, answer, settlement, verification, payment. Status 3 when a stage failed verification."""
    text = typer.get_text_stream("stdin").read() if prompt == "-" else prompt
    sampling = SamplingParams(round(temperature * 1000), top_k, round(top_p * 1000), seed)
    options = AskOptions(model, tokens, sampling, max_price)
    status = trio.run(_infer, text, options, rpc, account, models, keys, as_json)
    raise typer.Exit(status)


def chat_command(
    model: ModelArgument = None,
    account: AccountOption = "dev:client",
    rpc: RpcOption = DEFAULT_RPC,
    tokens: TokensOption = DEFAULT_TOKENS,
    temperature: TemperatureOption = 0.7,
    seed: SeedOption = 0,
    max_price: PriceOption = DEFAULT_MAX_PRICE,
    models: ModelsOption = None,
    keys: KeysOption = None,
) -> None:
    """Talk with a model; each answer is paid and verified like one of `infer`. An empty line ends it."""
    options = AskOptions(model, tokens, SamplingParams(round(temperature * 1000), 0, 950, seed), max_price)
    trio.run(_chat, options, rpc, account, models, keys)


class Asker:
    """A connected client that asks a model."""

    def __init__(
        self, account: SigningAccount, host: P2PHost, prefix: int, names: dict[str, str], store: ShardStore
    ) -> None:
        self._account = account
        self._host = host
        self._prefix = prefix
        self.names = names
        self._store = store

    async def ask(
        self, messages: list[dict[str, str]], options: AskOptions, console: Console
    ) -> tuple[InferenceScreen, RequestDone, Statement]:
        """Ask once; wait for settlement and verification. Raises InferenceRefused, and what `run_inference` raises."""
        model = await self._choose_model(options.model)
        tokenizer = Tokenizer.load(self._store, model)
        if tokenizer.has_template or len(messages) > 1:
            prompt = tuple(tokenizer.encode_chat(messages))
        else:  # a model that was never taught to chat goes on with the text
            prompt = tuple(tokenizer.encode(messages[0]["content"]))
        context = self._store.load_manifest(model).architecture.context_max
        if compute_positions(len(prompt), options.tokens) > context:
            raise InferenceRefused(
                f"the prompt has {len(prompt)} tokens; with {options.tokens} to generate that is more than the "
                f"{context} positions of the model: shorten the prompt or ask for fewer --tokens"
            )
        screen = InferenceScreen(console, tokenizer, self._prefix, self.names)
        ask = Ask(model, prompt, options.tokens, options.sampling, options.max_price)
        done = await run_inference(self._account, self._host, ask, screen)
        return screen, done, await self._read_statement(screen, done)

    async def _choose_model(self, wanted: str | None) -> bytes:
        """A stored model by what it is called; without that, the only one that is on chain too. Raises StoreError."""
        if wanted is None:
            registered = {model for model, _ in await self._account.chain.read(queries.list_models)}
            both = [one for one in self._store.list_models() if one in registered]
            if len(both) == 1:
                return both[0]
        return find_model(self._store, wanted)

    async def _read_statement(self, screen: InferenceScreen, done: RequestDone) -> Statement:
        """The payments, from the receipts of all blocks since the escrow."""
        assert screen.session is not None, "a resolved request has a session"
        blocks: list[tuple[int, Any]] = []
        for height in range(screen.first_height, done.height + 1):
            blocks.append((height, await self._account.chain.rpc.call("chain_getReceipts", height)))
        return collect_statement(f"0x{done.request.hex()}", f"0x{screen.session.hex()}", blocks)


async def _infer(
    text: str, options: AskOptions, rpc: str, name: str, models: Path | None, keys: Path | None, as_json: bool
) -> int:
    if not text.strip():
        raise TokenizerError("the prompt is empty: say what to ask")
    store = ShardStore(get_models_dir(models))
    console = Console(quiet=as_json)
    async with open_account(rpc, name, keys) as (account, prefix), open_client_host() as host:
        asker = Asker(account, host, prefix, await read_names(account, prefix), store)
        messages = [{"role": "user", "content": text}]
        screen, done, statement = await asker.ask(messages, options, console)
    show_statement(console, statement, asker.names)
    is_verified = all(one.status == StageStatus.PAID for one in done.found.stages)
    if as_json:
        print(json.dumps(_make_json(screen, done, statement, is_verified)))
    return ExitStatus.DONE if is_verified else ExitStatus.NOT_VERIFIED


async def _chat(options: AskOptions, rpc: str, name: str, models: Path | None, keys: Path | None) -> None:
    console = Console()
    store = ShardStore(get_models_dir(models))
    messages: list[dict[str, str]] = []
    async with open_account(rpc, name, keys) as (account, prefix), open_client_host() as host:
        asker = Asker(account, host, prefix, await read_names(account, prefix), store)
        while text := (await trio.to_thread.run_sync(_read_line)).strip():
            messages.append({"role": "user", "content": text})
            screen, _, _ = await asker.ask(messages, options, console)
            messages.append({"role": "assistant", "content": screen.answer})


def _read_line() -> str:
    try:
        return input("you> ")
    except EOFError:
        return ""


def open_client_host() -> Any:
    """A libp2p host that only dials, under a fresh identity."""
    return open_host(os.urandom(32), [])


async def read_names(account: SigningAccount, prefix: int) -> dict[str, str]:
    """Readable names of addresses; only the development chain has any."""
    return make_dev_names(prefix) if await account.chain.rpc.call("system_chain") == DEV_CHAIN else {}


def _make_json(screen: InferenceScreen, done: RequestDone, statement: Statement, is_verified: bool) -> dict[str, Any]:
    rows = [
        {"who": one.who, "as": one.role, "for": one.what_for, "amount": one.amount, "height": one.height}
        for one in statement.rows
    ]
    return {
        "request": f"0x{done.request.hex()}",
        "answer": screen.answer,
        "verified": is_verified,
        "tokens": len(screen.speed.times_s),
        "firstTokenSeconds": round(screen.speed.first_token_s, 3),
        "tokensPerSecond": round(screen.speed.tokens_per_s, 2),
        "price": done.found.price,
        "returned": done.found.returned,
        "stages": [StageStatus(one.status).name.lower() for one in done.found.stages],
        "payments": rows,
        "slashes": [{"who": one.who, "amount": one.amount, "for": one.what_for} for one in statement.slashes],
    }
