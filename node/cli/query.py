"""`myelin query`: ask a node about the chain, check proofs of its state. Tables for people, records with `--json`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import trio
import typer

from consensus.runtime.balances import state as balances
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.staking import state as staking
from consensus.state.reader import StateReader
from node.cli import show_chain, show_records
from node.cli.connect import DEFAULT_RPC, Connection, RpcOption, open_connection
from node.cli.errors import CliError
from node.cli.failing import answer_in_json
from node.cli.keyring import ACCOUNT_HELP, KeysOption, find_account, get_sessions_dir, parse_hash
from node.cli.options import JsonOption
from node.cli.read_request import collect_request, collect_session, collect_stated
from node.client.read_proof import read_proven
from node.client.statement_files import find_stated
from proto_specs.jsonform import to_json

app = typer.Typer(no_args_is_help=True, help="Ask a node about the chain; check proofs of its state.")

T = TypeVar("T")
KEY_BYTES_MAX = 256
MODEL_HELP = "Model id, the start of one, or its name; see `myelin query models`."


class NothingFound(CliError):
    """The node knows no such thing."""


class ArgumentInvalid(CliError):
    """An argument is not of the form the command takes."""


@app.command("head")
def head_command(rpc: RpcOption = DEFAULT_RPC, as_json: JsonOption = False) -> None:
    """The node's health and the last block."""
    _ask(rpc, as_json, lambda node: node.rpc.call("system_health"), show_chain.show_health)


@app.command("block")
def block_command(
    block: Annotated[str | None, typer.Argument(help="Height or hash; the last block when left out.")] = None,
    rpc: RpcOption = DEFAULT_RPC,
    as_json: JsonOption = False,
) -> None:
    """A block: its header, who signed it, what became of each transaction in it."""

    async def read(node: Connection) -> dict[str, Any]:
        params = [] if block is None else [_parse_block(block)]
        found = await node.rpc.call("chain_getBlock", *params)
        if found is None:
            last = await node.chain.get_height()
            raise NothingFound(f"the node knows no block {block or last}: it has 1 to {last}")
        receipts = await node.rpc.call("chain_getReceipts", found["block"]["header"]["height"])
        return {**found, **receipts}

    _ask(rpc, as_json, read, show_chain.show_block)


@app.command("tx")
def tx_command(
    extrinsic: Annotated[str, typer.Argument(help="Hash, as `myelin tx` prints it.")],
    rpc: RpcOption = DEFAULT_RPC,
    as_json: JsonOption = False,
) -> None:
    """A transaction: where it is, what it paid, what happened."""

    async def read(node: Connection) -> dict[str, Any]:
        text = f"0x{parse_hash(extrinsic).hex()}"
        found = await node.rpc.call("author_extrinsicStatus", text)
        return {"extrinsic": text, **_require(found, f"transaction {text}, neither in a block nor waiting for one")}

    _ask(rpc, as_json, read, show_chain.show_transaction)


@app.command("account")
def account_command(
    account: Annotated[str, typer.Argument(help=ACCOUNT_HELP)],
    rpc: RpcOption = DEFAULT_RPC,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Nonce, balances, what is held of them and why, stake; and the state key to ask a proof for."""

    async def read(node: Connection) -> dict[str, Any]:
        who = find_account(account, node.prefix, keys)
        return {"account": node.address(who), **await node.chain.read(_read_account, who)}

    _ask(rpc, as_json, read, show_chain.show_account)


@app.command("validators")
def validators_command(rpc: RpcOption = DEFAULT_RPC, as_json: JsonOption = False) -> None:
    """The validators that decide the next block, and how many of the epoch's commits each has signed."""

    async def read(node: Connection) -> list[dict[str, Any]]:
        return await node.chain.read(_read_validators, node.prefix)

    _ask(rpc, as_json, read, show_chain.show_validators)


@app.command("models")
def models_command(rpc: RpcOption = DEFAULT_RPC, as_json: JsonOption = False) -> None:
    """The models registered on the chain, and how many of their layers have a worker."""

    async def read(node: Connection) -> list[dict[str, Any]]:
        return await node.chain.read(show_records.read_models, node.prefix)

    _ask(rpc, as_json, read, show_records.show_models)


@app.command("workers")
def workers_command(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)], rpc: RpcOption = DEFAULT_RPC, as_json: JsonOption = False
) -> None:
    """The bonded workers of a model: layers, bond, prices, earnings, verdicts."""

    async def read(node: Connection) -> list[dict[str, Any]]:
        wanted = _choose_model(await node.chain.read(show_records.list_model_names), model)
        return await node.chain.read(show_records.read_workers, wanted, node.prefix)

    _ask(rpc, as_json, read, show_records.show_workers)


@app.command("request")
def request_command(
    request: Annotated[str, typer.Argument(help="Request id, as `myelin infer` prints it.")],
    rpc: RpcOption = DEFAULT_RPC,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """A settled request: stages, draws, verdicts with their distance and threshold, and who was paid what.

    One of a chat settles with others: then the statement is shown that an account of this machine keeps, and its part.
    """

    async def read(node: Connection) -> dict[str, Any]:
        wanted = parse_hash(request)
        what = f"settled request 0x{wanted.hex()} (one still running is not on chain, an old one is forgotten)"
        found = await collect_request(node, wanted)
        if found is None:
            stated = await trio.to_thread.run_sync(find_stated, get_sessions_dir(keys), wanted)
            found = None if stated is None else await collect_stated(node, stated)
        return _require(found, what)

    _ask(rpc, as_json, read, show_records.show_request)


@app.command("session")
def session_command(
    session: Annotated[str, typer.Argument(help="Session id, as `myelin query request` prints it.")],
    rpc: RpcOption = DEFAULT_RPC,
    as_json: JsonOption = False,
) -> None:
    """A session: its escrow, when it closes, and its settled requests."""

    async def read(node: Connection) -> dict[str, Any]:
        wanted = parse_hash(session)
        return _require(await collect_session(node, wanted), f"session 0x{wanted.hex()}")

    _ask(rpc, as_json, read, show_records.show_session)


@app.command("proof")
def proof_command(
    key: Annotated[str, typer.Argument(help="State key as 0x hex, such as `state key` of `myelin query account`.")],
    block: Annotated[
        str | None, typer.Option(help="Height or hash of the block after which to look (default: the last).")
    ] = None,
    rpc: RpcOption = DEFAULT_RPC,
    as_json: JsonOption = False,
) -> None:
    """What the state holds under a key, shown only if its proof holds against the header's state root."""

    async def read(node: Connection) -> dict[str, Any]:
        return await read_proven(node.rpc, _parse_key(key), None if block is None else _parse_block(block))

    _ask(rpc, as_json, read, show_chain.show_proof)


@app.command("call")
def call_command(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="Any JSON-RPC method; `rpc_methods` lists them.")],
    params: Annotated[list[str] | None, typer.Argument(help="Its parameters, as JSON or plain text.")] = None,
    rpc: RpcOption = DEFAULT_RPC,
) -> None:
    """Call a method and print its result as JSON."""
    answer_in_json(context)
    _ask(rpc, True, lambda node: node.rpc.call(method, *map(_parse_param, params or [])), _show_nothing)


def _ask(
    rpc: str, as_json: bool, read: Callable[[Connection], Awaitable[T]], show: Callable[[Connection, T], None]
) -> None:
    """Connect, read, and show as JSON or as text."""

    async def run() -> tuple[Connection, T]:
        async with open_connection(rpc) as node:
            return node, await read(node)

    node, found = trio.run(run)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        show(node, found)


def _show_nothing(node: Connection, found: Any) -> None:
    """Shows nothing: the command prints only JSON."""


def _read_account(state: StateReader, who: bytes) -> dict[str, Any]:
    found, stake = balances.read_account(state, who), staking.read_stake(state, who)
    return {
        "nonce": found.nonce,
        "free": found.free,
        "reserved": found.reserved,
        "holds": {one.name.lower(): balances.read_hold(state, who, one) for one in HoldReason},
        "bonded": stake.bonded,
        "unbonding": [{"amount": one.amount, "height": one.height} for one in stake.unbonding],
        "state_key": f"0x{balances.accounts.key(who).hex()}",
    }


def _read_validators(state: StateReader, prefix: int) -> list[dict[str, Any]]:
    members, past = staking.read_validators(state).members, staking.read_participation(state)
    # The two reads may straddle an epoch's end, and then the counts are those of another set.
    is_same_set = len(members) == len(past.signed)
    signed = past.signed if is_same_set else (0,) * len(members)
    blocks = past.blocks if is_same_set else 0
    return [
        {**to_json(member, prefix), "signed": count, "blocks": blocks}
        for member, count in zip(members, signed, strict=True)
    ]


def _choose_model(names: list[tuple[bytes, str]], text: str) -> bytes:
    """The model of an id, a unique id prefix, or a name. Raises NothingFound."""
    start = text.lower().removeprefix("0x")
    found = [one for one, name in names if one.hex().startswith(start) or name.lower() == text.lower()]
    if len(found) == 1:
        return found[0]
    if found:
        raise NothingFound(f"{text!r:.80} fits {len(found)} models: give more of the id")
    listed = ", ".join(f"{name} (0x{one.hex()[:12]})" for one, name in names) or "there is none"
    raise NothingFound(f"no model on chain is called {text!r:.80}: {listed}")


def _parse_block(text: str) -> int | str:
    if text.isascii() and text.isdecimal() and len(text) < len(str(1 << 63)):
        return int(text)
    try:
        return f"0x{parse_hash(text).hex()}"
    except CliError as error:
        raise ArgumentInvalid(f"{text!r:.80} is neither a height nor a block hash") from error


def _parse_key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise ArgumentInvalid(f"{text!r:.80} is no state key: 0x and an even number of hex digits") from error
    if len(key) > KEY_BYTES_MAX:
        raise ArgumentInvalid(f"a state key has at most {KEY_BYTES_MAX} bytes, this has {len(key)}")
    return key


def _parse_param(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _require(found: T | None, what: str) -> T:
    if found is None:
        raise NothingFound(f"the node knows no {what}")
    return found
