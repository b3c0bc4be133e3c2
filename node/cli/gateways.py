"""`myelin gateway`: answer OpenAI's and Anthropic's clients over HTTP; make keys for them, see what they use."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from consensus.runtime.arithmetic import compute_permille
from consensus.runtime.balances.state import read_account
from consensus.runtime.inference import queries
from inference.model.store import ShardStore
from inference.routing import Prefer
from node.cli.amounts import format_myl
from node.cli.ask import DEFAULT_MAX_PRICE, PreferOption, open_client_host
from node.cli.connect import DEFAULT_RPC, RpcOption, open_account
from node.cli.errors import CliError
from node.cli.keyring import KEY_HELP, KeysOption
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.options import DEFAULT_BASE, JsonOption, LogLevelOption
from node.cli.plain import print_table
from node.cli.running import run_until_signalled, setup_logging
from node.client.account import SigningAccount
from node.client.batches import BatchRules
from node.client.errors import EscrowShort
from node.client.inference import PaidInference, open_inference
from node.client.purse import PoolRules
from node.gateway.accounts.keys import KeyLimits, create_key, list_keys, revoke_key
from node.gateway.accounts.schema import open_database
from node.gateway.accounts.store import DAY_S, UsageDay, get_day, list_usage
from node.gateway.catalog import StoredCatalog
from node.gateway.service import run_gateway
from node.gateway.settings import GatewaySettings
from proto_specs.errors import MyelinError

app = typer.Typer(no_args_is_help=True, help=__doc__)
keys_app = typer.Typer(no_args_is_help=True, help="API keys: made, listed, revoked.")
app.add_typer(keys_app, name="keys")

BASE_HELP = "The gateway's directory: its keys, budgets and usage."
DEFAULT_PORT = 8080
DEFAULT_DAYS = 30
DEFAULT_PARALLEL = 32
DEFAULT_STATEMENT_AFTER_S = BatchRules().wait_s
TYPICAL_PROMPT_TOKENS = 512
"""The first session is opened before any request, for as many requests at once as asked for, each of this prompt."""
SESSIONS_NAME = "sessions"

log = logging.getLogger("myelin.gateway")

GatewayBaseOption = Annotated[Path, typer.Option("--base", help=BASE_HELP)]
DEFAULT_GATEWAY_BASE = DEFAULT_BASE / "gateway"


class KeyUnknown(CliError):
    """No key is called so. See `myelin gateway keys list`."""


class KeyNameEmpty(CliError):
    """A key needs a name, for lists."""


@app.command("run")
def run_command(
    account: Annotated[str, typer.Option(help=f"Account that pays. {KEY_HELP}")],
    rpc: RpcOption = DEFAULT_RPC,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen at.")] = DEFAULT_PORT,
    base: GatewayBaseOption = DEFAULT_GATEWAY_BASE,
    is_open: Annotated[bool, typer.Option("--open", help="Serve without keys, on loopback only.")] = False,
    max_price: Annotated[int, typer.Option(min=1, help="Most nmyl per layer and token.")] = DEFAULT_MAX_PRICE,
    prefer: PreferOption = Prefer.FAST,
    parallel: Annotated[
        int, typer.Option(min=2, max=1_000, help="Requests at once that the deposit covers before it is topped up.")
    ] = DEFAULT_PARALLEL,
    statement_after: Annotated[
        float, typer.Option(min=0, help="Seconds that a finished request waits for others to settle with it.")
    ] = DEFAULT_STATEMENT_AFTER_S,
    origin: Annotated[list[str] | None, typer.Option(help="A web page's origin that may ask (CORS).")] = None,
    models: ModelsOption = None,
    keys: KeysOption = None,
    log_level: LogLevelOption = "INFO",
) -> None:
    """Answer until SIGINT or SIGTERM."""
    setup_logging(log_level)
    if not is_open and not _has_key(base):
        log.warning("no key yet, so every request is refused: `myelin gateway keys create NAME --base %s`", base)
    settings = GatewaySettings(
        base, max_price, host=host, port=port, is_open=is_open, origins=tuple(origin or ()), prefer=prefer
    )
    batching = BatchRules(wait_s=statement_after)
    trio.run(run_until_signalled, serve, settings, PoolRules(parallel), batching, rpc, account, models, keys)


async def serve(
    settings: GatewaySettings,
    rules: PoolRules,
    batching: BatchRules,
    rpc: str,
    name: str,
    models: Path | None,
    keys: Path | None,
) -> None:
    """Connect and serve."""
    store = ShardStore(get_models_dir(models))
    async with (
        open_account(rpc, name, keys) as (account, _),
        open_client_host() as host,
        open_inference(account, host, settings.directory / SESSIONS_NAME, rules, _report_closed, batching) as inference,
        trio.open_nursery() as nursery,
    ):
        catalog = StoredCatalog(store, account.chain, settings.max_price)
        nursery.start_soon(_prepare, inference, catalog, settings)
        probe, count = partial(_probe_account, account), inference.count_sessions
        # A signal of its own: what is being answered goes on for a moment, and needs its session until then.
        await run_until_signalled(run_gateway, settings, inference, catalog, probe, count, inference.probe_workers)
        nursery.cancel_scope.cancel()


async def _prepare(inference: PaidInference, catalog: StoredCatalog, settings: GatewaySettings) -> None:
    """Open a session for each model that is served, so that its first request waits for no block."""
    try:
        for one in await catalog.list_models():
            if one.price is not None:
                tokens = min(settings.tokens_default, one.bounds.positions_max)
                price = TYPICAL_PROMPT_TOKENS * one.price.prompt_nmyl + tokens * one.price.generated_nmyl
                await inference.prepare(one.model, settings.max_price, price)
    except MyelinError as error:  # the first request tries again, and tells whoever asked
        log.warning("no session is open yet: %s", error.message)


def _report_closed(session: bytes) -> None:
    log.info("session 0x%s was left open by an earlier run: closed", session.hex())


async def _probe_account(account: SigningAccount) -> None:
    """Raises EscrowShort for an account that could not open the smallest session, ChainUnreachable."""
    params = await account.chain.read(queries.read_params)
    needed = params.session_deposit_min + compute_permille(params.session_deposit_min, params.client_bond_permille)
    free = (await account.chain.read(read_account, account.public_key)).free
    if free < needed:
        raise EscrowShort(needed, free)


@keys_app.command("create")
def create_command(
    name: Annotated[str, typer.Argument(help="Whose key it is, for lists.")],
    base: GatewayBaseOption = DEFAULT_GATEWAY_BASE,
    budget: Annotated[int | None, typer.Option(min=0, help="Most nmyl in all.")] = None,
    daily_budget: Annotated[int | None, typer.Option(min=0, help="Most nmyl a day (UTC).")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Most requests a minute.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens a minute, prompt and answer.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model that it may use, by name or id (default: all).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, this once: the database holds its hash alone."""
    if not name.strip():
        raise KeyNameEmpty("the key's name is empty: say whose it is")
    with _open(base) as database:
        text = create_key(database, name, KeyLimits(budget, daily_budget, requests, tokens, tuple(model or ())))
    print(json.dumps({"name": name, "key": text}) if as_json else text)


@keys_app.command("list")
def list_command(base: GatewayBaseOption = DEFAULT_GATEWAY_BASE, as_json: JsonOption = False) -> None:
    """All keys, with their limits."""
    with _open(base) as database:
        found = list_keys(database)
    rows: list[dict[str, Any]] = [
        {
            "number": one.number,
            "name": one.name,
            "created": _show_day(one.created // DAY_S),
            "budget": one.limits.budget,
            "dailyBudget": one.limits.daily_budget,
            "requestsAMinute": one.limits.requests_a_minute,
            "tokensAMinute": one.limits.tokens_a_minute,
            "models": list(one.limits.models),
            "revoked": one.is_revoked,
        }
        for one in found
    ]
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        print(f"no keys in {base}: make one with `myelin gateway keys create NAME`")
        return
    header = ("number", "name", "created", "budget", "a day", "requests/min", "tokens/min", "models", "")
    print_table(header, [_show_key(one) for one in rows], right=("number", "budget", "a day"))


@keys_app.command("revoke")
def revoke_command(
    name: Annotated[str, typer.Argument(help="Name or number, as in `myelin gateway keys list`.")],
    base: GatewayBaseOption = DEFAULT_GATEWAY_BASE,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key, from its next request on; by name, all keys of that name."""
    with _open(base) as database:
        count = revoke_key(database, name)
    if count == 0:
        raise KeyUnknown(f"no key that is not revoked is called {name!r:.80}: see `myelin gateway keys list`")
    print(json.dumps({"revoked": count}) if as_json else f"revoked: {count}")


@app.command("usage")
def usage_command(
    base: GatewayBaseOption = DEFAULT_GATEWAY_BASE,
    days: Annotated[int, typer.Option(min=1, help="How many days back.")] = DEFAULT_DAYS,
    as_json: JsonOption = False,
) -> None:
    """What each key used, by day."""
    with _open(base) as database:
        names = {one.number: one.name for one in list_keys(database)}
        found = list_usage(database, get_day() - days + 1)
    if as_json:
        print(json.dumps([_describe_usage(one, names) for one in found]))
        return
    if not found:
        print(f"no requests in {base} in the last {days} days")
        return
    rows = [
        (
            _show_day(one.day),
            names.get(one.key, "open"),
            str(one.requests),
            str(one.prompt_tokens),
            str(one.generated_tokens),
            format_myl(one.cost),
        )
        for one in found
    ]
    print_table(
        ("day", "key", "requests", "prompt", "generated", "cost"),
        rows,
        right=("requests", "prompt", "generated", "cost"),
    )


def _has_key(base: Path) -> bool:
    with _open(base) as database:
        return any(not one.is_revoked for one in list_keys(database))


def _describe_usage(row: UsageDay, names: dict[int, str]) -> dict[str, Any]:
    return {
        "day": _show_day(row.day),
        "number": row.key,
        "name": names.get(row.key),
        "requests": row.requests,
        "promptTokens": row.prompt_tokens,
        "generatedTokens": row.generated_tokens,
        "cost": row.cost,
    }


def _open(base: Path) -> Any:
    return contextlib.closing(open_database(GatewaySettings(base, 1).database))


def _show_key(row: dict[str, Any]) -> list[str]:
    limits = [row[name] for name in ("budget", "dailyBudget", "requestsAMinute", "tokensAMinute")]
    shown = ["" if one is None else str(one) for one in limits]
    models = ", ".join(row["models"]) or "all"
    return [str(row["number"]), row["name"], row["created"], *shown, models, "revoked" if row["revoked"] else ""]


def _show_day(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * DAY_S))
