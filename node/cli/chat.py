"""`myelin chat`: a conversation in one session. An answer can be stopped, and one that fails ends nothing."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated

import trio
import typer
from rich.console import Console

from inference.model.store import ShardStore
from inference.routing import Prefer
from node.cli.ask import (
    DEFAULT_MAX_PRICE,
    DEFAULT_TOKENS,
    AccountOption,
    Asker,
    AskOptions,
    ModelArgument,
    PreferOption,
    PriceOption,
    TokensOption,
    open_asking,
    open_client_host,
    read_names,
    show_escrow,
)
from node.cli.connect import DEFAULT_RPC, RpcOption, open_account
from node.cli.keyring import KeysOption
from node.cli.lines import LineReader
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.sampling_options import (
    SEED_MAX,
    FrequencyOption,
    MinPOption,
    PresenceOption,
    RepetitionOption,
    SchemaOption,
    StopOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    make_rules,
)
from node.cli.show_inference import InferenceScreen
from node.cli.stop_key import StopKey, open_stop_key
from node.client.batches import BatchRules
from node.client.inference import PaidInference
from node.client.purse import PoolRules
from proto_specs.errors import ExitStatus, MyelinError

CONVERSATION = PoolRules(asks_target=4, requests_max=1_000)

ChatSeedOption = Annotated[
    int | None,
    typer.Option(min=0, max=SEED_MAX, help="Seed of the first answer's draw, one more for each (default: random)."),
]


def chat_command(
    model: ModelArgument = None,
    account: AccountOption = "dev:client",
    rpc: RpcOption = DEFAULT_RPC,
    tokens: TokensOption = DEFAULT_TOKENS,
    temperature: TemperatureOption = 0.7,
    top_k: TopKOption = 0,
    top_p: TopPOption = 0.95,
    min_p: MinPOption = 0.0,
    repetition_penalty: RepetitionOption = 1.0,
    presence_penalty: PresenceOption = 0.0,
    frequency_penalty: FrequencyOption = 0.0,
    seed: ChatSeedOption = None,
    stop: StopOption = None,
    json_schema: SchemaOption = None,
    max_price: PriceOption = DEFAULT_MAX_PRICE,
    prefer: PreferOption = Prefer.FAST,
    models: ModelsOption = None,
    keys: KeysOption = None,
) -> None:
    """Talk with a model in one session; each answer's verification is told before a later prompt.

    Ctrl-C stops an answer, which costs what came of it; at the prompt it ends the chat, as an empty line does. The
    exit status is that of the last prompt.
    """
    rules = make_rules(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        seed=secrets.randbelow(SEED_MAX + 1) if seed is None else seed,
        stop=stop,
        schema=json_schema,
    )
    options = AskOptions(model, tokens, rules, max_price, rpc, account, models, keys, prefer)
    raise typer.Exit(trio.run(_chat, options))


class Conversation:
    """The turns so far, and which answers the chain has yet to resolve."""

    def __init__(self, asker: Asker, inference: PaidInference, screen: InferenceScreen, console: Console) -> None:
        self._asker = asker
        self._inference = inference
        self._screen = screen
        self._console = console
        self._messages: list[dict[str, str]] = []
        self._pending: list[tuple[int, bytes]] = []
        self._turn = 0
        self.status: int = ExitStatus.DONE

    async def take_turn(self, text: str, key: StopKey) -> None:
        """Ask, and show the answer and what became of earlier ones. A failure is shown, and the turn forgotten."""
        self._screen.begin_answer()
        said = {"role": "user", "content": text}
        try:
            with key.stopping_answer():
                await self._asker.ask([*self._messages, said], self._screen, self._turn)
            self.status = ExitStatus.DONE
        except MyelinError as error:
            self._console.print(f"[red]{error.message}[/red]", highlight=False, soft_wrap=True)
            self.status = error.exit_status
            return
        answer = self._asker.answer
        if answer is None:
            self._console.print("stopped: nothing was paid")
            return
        self._turn += 1
        if self._screen.answer:
            self._messages += [said, {"role": "assistant", "content": self._screen.answer}]
        self._screen.show_cost(answer)
        self._pending += [(self._turn, one.request) for one in answer.parts if one.cost_nmyl]
        await self.show_outcomes()

    async def show_outcomes(self) -> None:
        """What has been verified of earlier answers since the last prompt. What no node tells now is told later."""
        try:
            for number, request in list(self._pending):
                outcome = await self._inference.get_outcome(request)
                if outcome.resolution.is_final:
                    self._screen.show_outcome(number, outcome)
                    self._pending.remove((number, request))
        except MyelinError as error:
            self._console.print(f"[yellow]{error.message}[/yellow]", highlight=False, soft_wrap=True)

    def show_rest(self) -> None:
        """At the end: what is not resolved yet."""
        if self._pending and self._screen.session is not None:
            self._screen.show_pending(self._screen.session, len({number for number, _ in self._pending}))


async def _chat(options: AskOptions) -> int:
    console = Console()
    store = ShardStore(get_models_dir(options.models))
    async with (
        open_account(options.rpc, options.account, options.keys) as (account, prefix),
        open_client_host() as host,
    ):
        names = await read_names(account, prefix)
        async with open_asking(account, host, options, CONVERSATION, console, BatchRules()) as inference:
            asker = Asker(account, inference, store, options)
            screen = await asker.make_screen(console, prefix, names)
            lines = LineReader(sys.stdin.fileno())
            talk = Conversation(asker, inference, screen, console)
            async with open_stop_key() as key:
                while text := await _read_prompt(console, lines):
                    await talk.take_turn(text, key)
                await talk.show_outcomes()
            if key.is_leaving:
                console.print()
            talk.show_rest()
        await show_escrow(account, screen)
    return talk.status


async def _read_prompt(console: Console, lines: LineReader) -> str:
    """What the user says; empty at the end of the input."""
    console.out("you> ", end="", highlight=False)
    console.file.flush()
    line = await lines.read_line()
    if line is None:
        console.print()
    return (line or "").strip()
