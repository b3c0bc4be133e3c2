"""The common part of every `myelin tx` command: takes options, prices or signs a call, sends it, awaits its effect."""

from __future__ import annotations

import enum
import inspect
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from consensus.runtime.balances.state import read_account
from node.cli.amounts import AMOUNT_HELP, format_myl, parse_amount
from node.cli.connect import DEFAULT_RPC, Connection, RpcOption, open_connection
from node.cli.errors import CallRefused
from node.cli.keyring import KEY_HELP, KeysOption, find_account, find_public_key, load_signing_key
from node.cli.options import JsonOption
from node.cli.plain import print_pairs
from node.client.account import PERIOD_BLOCKS, POLL_S
from node.client.chain_view import ChainUnreachable
from node.client.errors import TransactionLost
from node.keys.derivation import KeyKind
from proto_specs.codec import encode
from proto_specs.jsonform import to_json
from proto_specs.ss58 import encode_address
from proto_specs.types.calls import ApproveAsMulti, AsMulti, Call, CancelAsMulti, ModuleIndex
from proto_specs.types.chain import Transaction, TransactionBody, sign_transaction
from proto_specs.types.multisig import MultisigOwners, compute_call_hash, compute_multisig_account

UNSIGNED = bytes(64)
MISSING_ANSWERS_MAX = 2
"""Answers in a row that must miss a transaction before it counts as lost. The node looks in the chain, then in the
pool, so one answer may miss a transaction that moves between them.
"""


class Wait(enum.StrEnum):
    """How long to wait."""

    SUBMITTED = "submitted"
    FINALIZED = "finalized"


class OutcomeUnknown(ChainUnreachable):
    """The node went away after it had taken the transaction. The message has the hash to ask for later."""


@dataclass(frozen=True, kw_only=True)
class Sending:
    """How to send. Each field is an option of every `myelin tx` command."""

    account: Annotated[str, typer.Option(help=f"Account that signs and pays. {KEY_HELP}")]
    rpc: RpcOption = DEFAULT_RPC
    tip: Annotated[str, typer.Option(help=f"Paid to the block's proposer. {AMOUNT_HELP}")] = "0"
    nonce: Annotated[int | None, typer.Option(min=0, help="Nonce (default: the account's next).")] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost; sign and send nothing.")] = False
    wait: Annotated[
        Wait, typer.Option(help="`submitted`: until it is in the pool; `finalized`: until the state shows it.")
    ] = Wait.FINALIZED
    keys: KeysOption = None
    as_json: JsonOption = False


@dataclass(frozen=True, slots=True)
class CallSigner:
    """The signing account, and the meaning of names in the call's fields."""

    account: bytes
    prefix: int
    keys: Path | None

    def find_account(self, text: str) -> bytes:
        """See `keyring.find_account`."""
        return find_account(text, self.prefix, self.keys)


MakeCall = Callable[[CallSigner], Call]


@dataclass(frozen=True, slots=True)
class Listing:
    """In place of a call: what there is to choose from, when a command is used without saying which."""

    read: Callable[[Connection, bytes], Awaitable[dict[str, Any]]]
    """(connection, account) -> what is shown, as JSON."""
    show: Callable[[dict[str, Any]], None]


def register_sender(app: typer.Typer, name: str) -> Callable[[Callable[..., MakeCall | Listing]], None]:
    """Make a command of a function that returns the call: the function's parameters, then the options of `Sending`."""

    def register(function: Callable[..., MakeCall | Listing]) -> None:
        def command(**values: Any) -> None:
            options = Sending(**{one.name: values.pop(one.name) for one in fields(Sending)})
            made = function(**values)
            if isinstance(made, Listing):
                found, show = trio.run(_list, options, made), made.show
            else:
                found, show = trio.run(_send, options, parse_amount(options.tip), made), _show
            if options.as_json:
                print(json.dumps(found))
            else:
                show(found)

        own, shared = (inspect.signature(one, eval_str=True).parameters.values() for one in (function, Sending))
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *shared)]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by typer
        command.__doc__ = function.__doc__
        app.command(name)(command)

    return register


async def _list(options: Sending, listing: Listing) -> dict[str, Any]:
    account = find_public_key(options.account, KeyKind.ACCOUNT, options.keys)
    async with open_connection(options.rpc) as connection:
        return await listing.read(connection, account)


async def _send(options: Sending, tip: int, make_call: MakeCall) -> dict[str, Any]:
    """The result. Raises KeystoreError, AddressError, RpcError, CallRefused, TransactionLost, ChainUnreachable."""
    account = find_public_key(options.account, KeyKind.ACCOUNT, options.keys)
    key = None if options.dry_run else load_signing_key(options.account, KeyKind.ACCOUNT, options.keys)
    async with open_connection(options.rpc) as connection:
        rpc = connection.rpc
        call = make_call(CallSigner(account, connection.prefix, options.keys))
        nonce = options.nonce
        if nonce is None:
            nonce = int(await rpc.call("system_accountNextIndex", connection.address(account)))
        birth = await connection.chain.get_height()
        body = TransactionBody(account, nonce, call, tip, birth, PERIOD_BLOCKS)
        several = describe_multisig(call, account, connection.prefix)
        if key is None:
            return {**await _price(connection, body), **several}
        birth_hash = bytes.fromhex((await rpc.call("chain_getBlockHash", birth))[2:])
        transaction = sign_transaction(body, connection.chain.genesis, birth_hash, key)
        extrinsic = str(await rpc.call("author_submitExtrinsic", f"0x{encode(transaction).hex()}"))
        if options.wait is Wait.SUBMITTED:
            return {"extrinsic": extrinsic, "status": "submitted", **several}
        if not options.as_json:
            print(f"submitted {extrinsic}", file=sys.stderr)
        try:
            found = await wait_finalized(connection, extrinsic, type(call).__name__, birth + PERIOD_BLOCKS)
            return {**found, **several}
        except ChainUnreachable as error:
            raise OutcomeUnknown(f"{error}; the transaction was submitted: `myelin query tx {extrinsic}`") from error


def describe_multisig(call: Call, signer: bytes, prefix: int) -> dict[str, Any]:
    """The account that an approval is for, and the hash of the approved call; empty for other calls."""
    if not isinstance(call, AsMulti | ApproveAsMulti | CancelAsMulti):
        return {}
    owners = MultisigOwners(call.threshold, tuple(sorted((signer, *call.others))))
    call_hash = compute_call_hash(call.call) if isinstance(call, AsMulti) else call.call_hash
    return {
        "multisig": encode_address(compute_multisig_account(owners), prefix),
        "call_hash": f"0x{call_hash.hex()}",
    }


async def _price(connection: Connection, body: TransactionBody) -> dict[str, Any]:
    """The exact fee of a transaction in the next block. A signature of zeros weighs as much as a real one."""
    unsigned = f"0x{encode(Transaction(body, UNSIGNED)).hex()}"
    cost = await connection.rpc.call("payment_queryInfo", unsigned)
    free = (await connection.chain.read(read_account, body.signer)).free
    total = int(cost["fee"]) + int(cost["tip"])
    return {
        "status": "dry run",
        "account": connection.address(body.signer),
        "call": to_json(body.call, connection.prefix),
        "nonce": body.nonce,
        **cost,
        "total": total,
        "free": free,
        "can_pay": total <= free,
    }


async def wait_finalized(connection: Connection, extrinsic: str, call: str, last_height: int) -> dict[str, Any]:
    """Wait until the node's finalized state holds the transaction's effect. Raises CallRefused, TransactionLost."""
    missing = 0
    while True:
        # The height is read first, so that a transaction in the last block it is valid in is still found.
        height = await connection.chain.get_height()
        found = await connection.rpc.call("author_extrinsicStatus", extrinsic)
        if found is not None and found["status"] == "finalized":
            return _read_outcome(found, extrinsic, call)
        missing = missing + 1 if found is None else 0
        if missing >= MISSING_ANSWERS_MAX:
            raise TransactionLost(
                f"{call} {extrinsic} left the node's pool (replaced, crowded out or expired): send it again"
            )
        if height >= last_height:
            raise TransactionLost(
                f"{call} {extrinsic} was in no block up to {height}, the last it is valid in: send it again"
            )
        await trio.sleep(POLL_S)


def _read_outcome(found: dict[str, Any], extrinsic: str, call: str) -> dict[str, Any]:
    receipt, height = found["receipt"], int(found["height"])
    error = receipt["error"]
    if error is not None:
        module = ModuleIndex(error["module"]).name.lower()
        raise CallRefused(call, module, error["error"], extrinsic, height, receipt["fee"] + receipt["tip"])
    return {
        "extrinsic": extrinsic,
        "status": "finalized",
        "height": height,
        "index": found["index"],
        "fee": receipt["fee"],
        "tip": receipt["tip"],
        "events": receipt["events"],
    }


def _show(found: dict[str, Any]) -> None:
    print_pairs((name.replace("_", " "), _format(name, value)) for name, value in found.items() if name != "events")
    if found.get("can_pay") is False:
        print("\nthe account cannot pay this: the node would refuse it (CannotPayFee)")


def _format(name: str, value: Any) -> str:
    if name in ("fee", "tip", "total", "free"):
        return format_myl(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format_record(value) if isinstance(value, dict) else str(value)


def format_record(record: dict[str, Any]) -> str:
    """A call or event in a line, with long values cut."""
    shown = ", ".join(f"{name} {value!s:.80}" for name, value in record.items() if name != "type")
    return f"{record['type']}({shown})"
