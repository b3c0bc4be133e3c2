"""`myelin query`: ask a node about the chain. Tables for people, the node's own answer with `--json`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from node.cli.connect import DEFAULT_RPC, RpcOption, read_prefix
from node.cli.errors import CliError, exit_on_error
from node.cli.keyring import KEY_HELP, KeysOption, find_account
from node.cli.models import JsonOption
from node.cli.plain import print_pairs
from node.cli.show_inference import format_myl
from node.rpc.client import open_rpc
from proto_specs.ss58 import encode_address

app = typer.Typer(no_args_is_help=True, help=__doc__)

Rows = list[tuple[str, str]]
Show = Callable[[Any], Rows]
BlockArgument = Annotated[str | None, typer.Argument(help="Height or hash; the last block when left out.")]


class NothingFound(CliError):
    """The node knows no such thing."""


@app.command("head")
def head_command(rpc: RpcOption = DEFAULT_RPC, as_json: JsonOption = False) -> None:
    """The node's health and the last block."""
    _ask(rpc, as_json, "system_health", [], "health", _show_fields)


@app.command("block")
def block_command(block: BlockArgument = None, rpc: RpcOption = DEFAULT_RPC, as_json: JsonOption = False) -> None:
    """A block: its header, and who signed what in it."""
    params = [] if block is None else [int(block) if block.isdecimal() else block]
    _ask(rpc, as_json, "chain_getBlock", params, f"block {block or ''}".strip(), _show_block)


@app.command("tx")
def tx_command(
    extrinsic: Annotated[str, typer.Argument(help="Hash, as `myelin tx` prints it.")],
    rpc: RpcOption = DEFAULT_RPC,
    as_json: JsonOption = False,
) -> None:
    """A transaction: where it is, what it paid, what happened."""
    _ask(rpc, as_json, "author_extrinsicStatus", [extrinsic], f"transaction {extrinsic}", _show_transaction)


@app.command("account")
def account_command(
    account: Annotated[str, typer.Argument(help=f"An address. {KEY_HELP}")],
    rpc: RpcOption = DEFAULT_RPC,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Nonce and balances of an account."""
    with exit_on_error():
        found = trio.run(_ask_account, rpc, account, keys)
    _print(found, as_json, _show_account)


@app.command("validators")
def validators_command(rpc: RpcOption = DEFAULT_RPC, as_json: JsonOption = False) -> None:
    """The validators that decide the next block."""
    _ask(rpc, as_json, "staking_validators", [], "validators", _show_validators)


@app.command("models")
def models_command(rpc: RpcOption = DEFAULT_RPC, as_json: JsonOption = False) -> None:
    """The models registered on the chain."""
    _ask(rpc, as_json, "inference_models", [], "models", _show_models)


@app.command("workers")
def workers_command(
    model: Annotated[str, typer.Argument(help="Model id (0x...), as `myelin query models` shows it.")],
    rpc: RpcOption = DEFAULT_RPC,
    as_json: JsonOption = False,
) -> None:
    """The bonded workers of a model: layers, bond, earnings."""
    _ask(rpc, as_json, "inference_workers", [model], "workers", _show_workers)


@app.command("call")
def call_command(
    method: Annotated[str, typer.Argument(help="Any JSON-RPC method; `rpc_methods` lists them.")],
    params: Annotated[list[str] | None, typer.Argument(help="Its parameters, as JSON or plain text.")] = None,
    rpc: RpcOption = DEFAULT_RPC,
) -> None:
    """Call a method and print its result as JSON."""
    _ask(rpc, True, method, [_parse_param(one) for one in params or []], method, _show_fields)


def _ask(rpc: str, as_json: bool, method: str, params: list[Any], what: str, show: Show) -> None:
    with exit_on_error():
        found = trio.run(_call, rpc, method, params)
        if found is None and not as_json:
            raise NothingFound(f"the node knows no {what}")
    _print(found, as_json, show)


async def _call(url: str, method: str, params: list[Any]) -> Any:
    async with open_rpc(url) as rpc:
        return await rpc.call(method, *params)


async def _ask_account(url: str, text: str, keys: Path | None) -> dict[str, Any]:
    async with open_rpc(url) as rpc:
        prefix = await read_prefix(rpc)
        address = encode_address(find_account(text, prefix, keys), prefix)
        return {"account": address, **await rpc.call("system_account", address)}


def _print(found: Any, as_json: bool, show: Show) -> None:
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print_pairs(show(found))


def _parse_param(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _show_fields(found: dict[str, Any]) -> Rows:
    return [(name, str(value)) for name, value in found.items() if value is not None]


def _show_account(found: dict[str, Any]) -> Rows:
    amounts = [(name, format_myl(found[name])) for name in ("free", "reserved")]
    return [("account", found["account"]), ("nonce", str(found["nonce"])), *amounts]


def _show_block(found: dict[str, Any]) -> Rows:
    header = found["block"]["header"]
    calls = [(f"call {index}", _show_call(one)) for index, one in enumerate(found["block"]["transactions"])]
    return [
        ("height", str(header["height"])),
        ("hash", found["hash"]),
        ("time", datetime.fromtimestamp(header["time_ms"] / 1000, UTC).isoformat(timespec="milliseconds")),
        ("proposer", header["proposer"]),
        ("state root", header["state_root"]),
        ("evidence", str(len(found["block"]["evidence"]))),
        ("signed by", f"{len(found['commit']['signatures'])} in round {found['commit']['round']}"),
        ("transactions", str(len(calls))),
        *calls,
    ]


def _show_call(transaction: dict[str, Any]) -> str:
    body = transaction["body"]
    fields = ", ".join(f"{name} {str(value)[:48]}" for name, value in body["call"].items() if name != "type")
    return f"{body['call']['type']}({fields}) by {body['signer']}"


def _show_transaction(found: dict[str, Any]) -> Rows:
    if found["status"] != "finalized":
        return [("status", found["status"])]
    receipt = found["receipt"]
    error = receipt["error"]
    return [
        ("status", "finalized" if error is None else f"failed: {error['error']}"),
        ("block", f"{found['height']}, transaction {found['index']}"),
        ("fee", format_myl(receipt["fee"])),
        ("tip", format_myl(receipt["tip"])),
        *[("event", _show_event(one)) for one in receipt["events"]],
    ]


def _show_event(event: dict[str, Any]) -> str:
    fields = ", ".join(f"{name} {value}" for name, value in event.items() if name != "type")
    return f"{event['type']}({fields})"


def _show_validators(found: list[dict[str, Any]]) -> Rows:
    total = sum(one["power"] for one in found)
    return [(one["operator"], f"{format_myl(one['power'])} ({one['power'] / total:.1%})") for one in found]


def _show_models(found: list[dict[str, Any]]) -> Rows:
    return [(one["model"], f"{one['layers']} layers, by {one['owner']}") for one in found] or [("none", "")]


def _show_workers(found: list[dict[str, Any]]) -> Rows:
    return [
        (
            one["worker"],
            f"layers {one['start']}:{one['end']}, bond {format_myl(one['bond'])}, "
            f"earned {format_myl(one['earned'])}, {one['passes']} checks passed, {one['fails']} failed",
        )
        for one in found
    ] or [("none", "")]
