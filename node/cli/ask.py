"""`myelin infer`: pay for an answer, watch it being verified; and what `myelin chat` shares with it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import trio
import typer
from rich.console import Console

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import SessionStatus, StageStatus
from inference.errors import TokenizerError
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer
from inference.routing import Prefer
from node.cli.connect import DEFAULT_RPC, RpcOption, open_account
from node.cli.keyring import KEY_HELP, KeysOption, get_sessions_dir
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.names import make_dev_names
from node.cli.options import JsonOption
from node.cli.sampling_options import (
    SEED_MAX,
    DecodingRules,
    FrequencyOption,
    MinPOption,
    PresenceOption,
    RepetitionOption,
    SchemaOption,
    SeedOption,
    StopOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    check_schema,
    make_rules,
)
from node.cli.show_inference import InferenceScreen, show_statement
from node.cli.stop_key import open_stop_key
from node.cli.stored_models import find_model
from node.client.account import SigningAccount
from node.client.answer import Ask, Generated
from node.client.batches import BatchRules
from node.client.chain_view import ChainUnreachable
from node.client.errors import InferenceRefused
from node.client.following import RequestDone, follow_requests
from node.client.inference import PaidInference, open_inference
from node.client.paid_answer import PaidAnswer
from node.client.payment_rows import PaymentRows, collect_payments, find_notice_fee
from node.client.purse import PoolRules
from node.client.rpc_errors import RpcError
from node.p2p.circuits import open_roaming_host
from node.p2p.host import P2PHost
from proto_specs.errors import ExitStatus
from proto_specs.types.request import compute_positions

DEFAULT_TOKENS = 96
DEFAULT_MAX_PRICE = 200_000
DEV_CHAIN = "myelin-dev"
ONE_ANSWER = PoolRules(asks_target=2, requests_max=4, looks_ahead=False)
"""As much again is escrowed for the order that goes on where a worker is lost; the rest comes back at the end."""

ModelArgument = Annotated[
    str | None, typer.Option(help="Name, id, or the start of an id, as in `myelin model list` (default: the only one).")
]
AccountOption = Annotated[str, typer.Option(help=f"Account that pays. {KEY_HELP}")]
TokensOption = Annotated[int, typer.Option("--tokens", min=1, help="Most tokens to generate.")]
PriceOption = Annotated[int, typer.Option(min=1, help="Most nmyl per layer and token.")]
PreferOption = Annotated[
    Prefer,
    typer.Option(help="fast: the cheapest of the paths at most a tenth slower than the fastest. cheap: the cheapest."),
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait for settlement, verification and payment; show them.")]


@dataclass(frozen=True)
class AskOptions:
    """The options that infer and chat share."""

    model: str | None
    tokens: int
    rules: DecodingRules
    max_price: int
    rpc: str
    account: str
    models: Path | None
    keys: Path | None
    prefer: Prefer = Prefer.FAST


def infer_command(
    prompt: Annotated[str, typer.Argument(help="What to ask; `-` reads it from standard input.")],
    model: ModelArgument = None,
    account: AccountOption = "dev:client",
    rpc: RpcOption = DEFAULT_RPC,
    tokens: TokensOption = DEFAULT_TOKENS,
    temperature: TemperatureOption = 0.0,
    top_k: TopKOption = 0,
    top_p: TopPOption = 1.0,
    min_p: MinPOption = 0.0,
    repetition_penalty: RepetitionOption = 1.0,
    presence_penalty: PresenceOption = 0.0,
    frequency_penalty: FrequencyOption = 0.0,
    seed: SeedOption = 0,
    stop: StopOption = None,
    json_schema: SchemaOption = None,
    max_price: PriceOption = DEFAULT_MAX_PRICE,
    prefer: PreferOption = Prefer.FAST,
    wait: WaitOption = False,
    models: ModelsOption = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask once, in a session of its own. With --wait, status 3 says that a stage failed verification."""
    rules = make_rules(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        seed=seed,
        stop=stop,
        schema=json_schema,
    )
    text = typer.get_text_stream("stdin").read() if prompt == "-" else prompt
    options = AskOptions(model, tokens, rules, max_price, rpc, account, models, keys, prefer)
    raise typer.Exit(trio.run(_infer, text, options, wait, as_json))


class Asker:
    """A connected client that asks a model and shows the answer. `answer` is the one under way, or the last."""

    def __init__(
        self, account: SigningAccount, inference: PaidInference, store: ShardStore, options: AskOptions
    ) -> None:
        self.answer: PaidAnswer | None = None
        self._account = account
        self._inference = inference
        self._store = store
        self._options = options
        self._model: bytes | None = None

    async def make_screen(self, console: Console, prefix: int, names: dict[str, str]) -> InferenceScreen:
        """A screen for answers of the model. Raises GrammarError for a schema that its workers would not take."""
        model = await self._get_model()
        tokenizer = Tokenizer.load(self._store, model)
        if self._options.rules.grammar:
            vocab = self._store.load_manifest(model).architecture.vocab
            await trio.to_thread.run_sync(check_schema, tokenizer, vocab, self._options.rules.grammar)
        return InferenceScreen(console, tokenizer, prefix, names, self._options.rpc)

    async def ask(self, messages: list[dict[str, str]], screen: InferenceScreen, turn: int = 0) -> None:
        """Ask once and show the answer. Raises what `Inference.ask` and iterating an answer raise.

        Each `turn` of a conversation draws with a seed of its own.
        """
        self.answer = None
        model = await self._get_model()
        tokenizer = Tokenizer.load(self._store, model)
        if tokenizer.has_template or len(messages) > 1:
            prompt = tuple(tokenizer.encode_chat(messages))
        else:  # a model that was never taught to chat goes on with the text
            prompt = tuple(tokenizer.encode(messages[0]["content"]))
        options = self._options
        context = self._store.load_manifest(model).architecture.context_max
        if compute_positions(len(prompt), options.tokens) > context:
            raise InferenceRefused(
                f"the prompt has {len(prompt)} tokens; with {options.tokens} to generate that is more than the "
                f"{context} positions of the model: shorten the prompt or ask for fewer --tokens"
            )
        rules = options.rules
        sampling = dataclasses.replace(rules.sampling, seed=(rules.sampling.seed + turn) % (SEED_MAX + 1))
        ask = Ask(model, prompt, options.tokens, sampling, options.max_price, rules.grammar, options.prefer)
        with screen.show_progress("finding workers, and a session that pays"):
            async with self._inference.ask(ask) as answer:
                self.answer = answer
                screen.show_start(answer, self._inference.find_session(answer.session))
                try:
                    async for item in answer:
                        if isinstance(item, Generated):
                            screen.show_token(item)
                finally:
                    screen.show_moves(answer)

    def require_answer(self) -> PaidAnswer:
        """The last answer, of an `ask` that has returned."""
        assert self.answer is not None, "ask returned"
        return self.answer

    async def _get_model(self) -> bytes:
        """A stored model by what it is called; without that, the only one that is on chain too. Raises StoreError."""
        if self._model is None:
            self._model = await self._choose_model(self._options.model)
        return self._model

    async def _choose_model(self, wanted: str | None) -> bytes:
        if wanted is None:
            registered = {model for model, _ in await self._account.chain.read(queries.list_models)}
            both = [one for one in self._store.list_models() if one in registered]
            if len(both) == 1:
                return both[0]
        return find_model(self._store, wanted)


async def _infer(text: str, options: AskOptions, wait: bool, as_json: bool) -> int:
    """Returns the exit status. Ctrl-C stops the answer, tells its cost and ends the command."""
    if not text.strip():
        raise TokenizerError("the prompt is empty: say what to ask")
    store = ShardStore(get_models_dir(options.models))
    console = Console(quiet=as_json)
    paid: tuple[list[RequestDone], PaymentRows] | None = None
    async with (
        open_account(options.rpc, options.account, options.keys) as (account, prefix),
        open_client_host() as host,
    ):
        names = await read_names(account, prefix)
        async with open_asking(account, host, options, ONE_ANSWER, console) as inference:
            asker = Asker(account, inference, store, options)
            screen = await asker.make_screen(console, prefix, names)
            async with open_stop_key() as key:
                with key.stopping_answer() as stopped:
                    await asker.ask([{"role": "user", "content": text}], screen)
                if wait and not stopped.cancel_called:
                    with key.stopping_answer() as stopped:
                        paid = await _wait_for_chain(account, asker.require_answer(), screen)
            if asker.answer is None:
                console.print("stopped: nothing was paid")
                return ExitStatus.INTERRUPTED
            if paid is None:
                screen.show_cost(asker.answer)
            else:
                show_statement(console, paid[1], names)
        await show_escrow(account, screen)
    made = _make_json(screen, asker.answer)
    if paid is None:
        if as_json:
            print(json.dumps(made))
        return ExitStatus.INTERRUPTED if stopped.cancel_called else ExitStatus.DONE
    done, statement = paid
    is_verified = all(one.status == StageStatus.PAID for each in done for one in each.found.stages)
    if as_json:
        print(json.dumps({**made, **_make_chain_json(done, statement, is_verified)}))
    return ExitStatus.DONE if is_verified else ExitStatus.NOT_VERIFIED


async def _wait_for_chain(
    account: SigningAccount, answer: PaidAnswer, screen: InferenceScreen
) -> tuple[list[RequestDone], PaymentRows]:
    """Every request of the answer for which something is owed, until it is resolved; and all payments."""
    with screen.show_progress("waiting for the chain to settle, verify and pay"):
        owed = [one.request for one in answer.parts if one.cost_nmyl]
        done = await follow_requests(account.chain, owed, screen)
        return done, await _read_statement(account, screen, answer, done)


async def show_escrow(account: SigningAccount, screen: InferenceScreen) -> None:
    """What is left in the session once it was left. What no node tells now is no failure of the answer."""
    session, chain = screen.session, account.chain
    if session is None:
        return
    with contextlib.suppress(ChainUnreachable, RpcError):
        found, fee = await chain.read(queries.read_session, session), None
        if found is not None and found.status == SessionStatus.CLOSING:
            notice = found.close_height - (await chain.read(queries.read_params)).session_notice_blocks
            block = await chain.rpc.call("chain_getReceipts", notice)
            fee = find_notice_fee(f"0x{session.hex()}", block)
        screen.show_rest(session, found, fee)


def open_asking(
    account: SigningAccount,
    host: P2PHost,
    options: AskOptions,
    rules: PoolRules,
    console: Console,
    batches: BatchRules | None = None,
) -> AbstractAsyncContextManager[PaidInference]:
    """Inference for the block; a session that an earlier run left open is closed, and reported."""

    def report(session: bytes) -> None:
        console.print(f"[dim]session 0x{session.hex()} was left open by an earlier run: closed[/dim]", highlight=False)

    return open_inference(account, host, get_sessions_dir(options.keys), rules, report, batches)


@asynccontextmanager
async def open_client_host() -> AsyncIterator[P2PHost]:
    """A libp2p host that only dials, through relays as well, under a fresh identity."""
    logger = logging.getLogger("libp2p")  # cut off from the root when it is imported: it would print as it likes
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())  # what it logs of a failed call, the error says
    async with open_roaming_host(os.urandom(32), []) as (host, _):
        yield host


async def read_names(account: SigningAccount, prefix: int) -> dict[str, str]:
    """Readable names of addresses; only the development chain has any."""
    return make_dev_names(prefix) if await account.chain.rpc.call("system_chain") == DEV_CHAIN else {}


async def _read_statement(
    account: SigningAccount, screen: InferenceScreen, answer: PaidAnswer, done: list[RequestDone]
) -> PaymentRows:
    """The payments, from the receipts of all blocks since the escrow."""
    blocks: list[tuple[int, Any]] = []
    for height in range(screen.first_height, max((one.height for one in done), default=0) + 1):
        blocks.append((height, await account.chain.rpc.call("chain_getReceipts", height)))
    sessions = {f"0x{one.session.hex()}" for one in answer.parts}
    return collect_payments({f"0x{one.request.hex()}" for one in done}, sessions, blocks)


def _make_json(screen: InferenceScreen, answer: PaidAnswer) -> dict[str, Any]:
    return {
        "request": f"0x{answer.request.hex()}",
        "session": f"0x{answer.session.hex()}",
        "answer": screen.answer,
        "tokens": len(screen.speed.times_s),
        "finish": screen.finish,
        "firstTokenSeconds": round(screen.speed.first_token_s, 3),
        "tokensPerSecond": round(screen.speed.tokens_per_s, 2),
        "price": answer.cost_nmyl,
        "requests": [
            {"request": f"0x{one.request.hex()}", "session": f"0x{one.session.hex()}", "price": one.cost_nmyl}
            for one in answer.parts
        ],
        "moves": [
            {
                "worker": f"0x{one.worker.hex()}",
                "reason": one.reason,
                "tokens": one.tokens,
                "lostSeconds": round(one.lost_s, 3),
                "resumedSeconds": round(one.resumed_s, 3) if one.resumed_s else None,
                "successors": [f"0x{worker.hex()}" for worker in one.successors],
            }
            for one in answer.moves
        ],
    }


def _make_chain_json(done: list[RequestDone], statement: PaymentRows, is_verified: bool) -> dict[str, Any]:
    rows = [
        {"who": one.who, "as": one.role, "for": one.what_for, "amount": one.amount, "height": one.height}
        for one in statement.rows
    ]
    return {
        "verified": is_verified,
        "price": sum(one.found.price for one in done),
        "returned": sum(one.found.returned for one in done),
        "stages": [StageStatus(one.status).name.lower() for each in done for one in each.found.stages],
        "payments": rows,
        "slashes": [{"who": one.who, "amount": one.amount, "for": one.what_for} for one in statement.slashes],
    }
