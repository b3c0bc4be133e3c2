"""`myelin tx`: sign and send transactions, or only say what they would cost."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from node.cli.amounts import AMOUNT_HELP, format_amount, parse_amount
from node.cli.connect import DEFAULT_RPC, RpcOption, open_account
from node.cli.errors import exit_on_error
from node.cli.keyring import DEV_PREFIX, KEY_HELP, KeysOption, get_keys_dir, load_signing_key
from node.cli.models import JsonOption
from node.cli.plain import print_pairs
from node.client.account import PERIOD_BLOCKS, Account
from node.derivation import KeyKind
from node.keystore import NAME_PATTERN, Keystore, get_dev_key
from proto_specs.codec import encode
from proto_specs.hashing import Tag
from proto_specs.ss58 import decode_address, encode_address
from proto_specs.types.calls import Bond, Call, RegisterValidator, Remark, Transfer, Unbond, WithdrawUnbonded
from proto_specs.types.chain import Transaction, TransactionBody

app = typer.Typer(no_args_is_help=True, help=__doc__)


class Wait(enum.StrEnum):
    """How long to stay."""

    POOL = "pool"
    FINALIZED = "finalized"


FromOption = Annotated[str, typer.Option("--from", help=f"Account that signs and pays. {KEY_HELP}")]
TipOption = Annotated[str, typer.Option(help=f"Paid to the block's proposer. {AMOUNT_HELP}")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Say what it would cost and send nothing.")]
WaitOption = Annotated[Wait, typer.Option(help="`pool`: until it is accepted; `finalized`: until it has taken effect.")]
AmountArgument = Annotated[str, typer.Argument(help=AMOUNT_HELP)]


@dataclass(frozen=True)
class Sending:
    """How to send: what all commands have in common."""

    signer: str
    rpc: str
    tip: str
    dry_run: bool
    wait: Wait
    keys: Path | None
    as_json: bool


MakeCall = Callable[[Account, int], Call]
"""(account, SS58 prefix) -> the call."""


@app.command("transfer")
def transfer_command(
    dest: Annotated[str, typer.Argument(help=f"Receiver: an address. {KEY_HELP}")],
    amount: AmountArgument,
    signer: FromOption,
    rpc: RpcOption = DEFAULT_RPC,
    tip: TipOption = "0",
    dry_run: DryOption = False,
    wait: WaitOption = Wait.FINALIZED,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move money."""
    sending = Sending(signer, rpc, tip, dry_run, wait, keys, as_json)
    _run(sending, lambda account, prefix: Transfer(find_account(dest, prefix, keys), parse_amount(amount)))


@app.command("bond")
def bond_command(
    amount: AmountArgument,
    signer: FromOption,
    rpc: RpcOption = DEFAULT_RPC,
    tip: TipOption = "0",
    dry_run: DryOption = False,
    wait: WaitOption = Wait.FINALIZED,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lock money as stake."""
    _run(Sending(signer, rpc, tip, dry_run, wait, keys, as_json), lambda account, prefix: Bond(parse_amount(amount)))


@app.command("unbond")
def unbond_command(
    amount: AmountArgument,
    signer: FromOption,
    rpc: RpcOption = DEFAULT_RPC,
    tip: TipOption = "0",
    dry_run: DryOption = False,
    wait: WaitOption = Wait.FINALIZED,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start releasing stake; `withdraw` frees it after the unbonding period."""
    _run(Sending(signer, rpc, tip, dry_run, wait, keys, as_json), lambda account, prefix: Unbond(parse_amount(amount)))


@app.command("withdraw")
def withdraw_command(
    signer: FromOption,
    rpc: RpcOption = DEFAULT_RPC,
    tip: TipOption = "0",
    dry_run: DryOption = False,
    wait: WaitOption = Wait.FINALIZED,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Free the stake whose unbonding period is over."""
    _run(Sending(signer, rpc, tip, dry_run, wait, keys, as_json), lambda account, prefix: WithdrawUnbonded())


@app.command("register-validator")
def register_validator_command(
    validator: Annotated[str, typer.Argument(help=f"Validator key. {KEY_HELP}")],
    signer: FromOption,
    rpc: RpcOption = DEFAULT_RPC,
    tip: TipOption = "0",
    dry_run: DryOption = False,
    wait: WaitOption = Wait.FINALIZED,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stand for election from the next epoch on; bond stake first."""

    def make_call(account: Account, _prefix: int) -> Call:
        key = load_signing_key(validator, KeyKind.VALIDATOR, keys)
        return RegisterValidator(key.public_key, key.sign(Tag.KEY_PROOF_SIGN, account.public_key))

    _run(Sending(signer, rpc, tip, dry_run, wait, keys, as_json), make_call)


@app.command("remark")
def remark_command(
    text: Annotated[str, typer.Argument(help="At most 1024 bytes.")],
    signer: FromOption,
    rpc: RpcOption = DEFAULT_RPC,
    tip: TipOption = "0",
    dry_run: DryOption = False,
    wait: WaitOption = Wait.FINALIZED,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a text on chain, to no effect."""
    _run(Sending(signer, rpc, tip, dry_run, wait, keys, as_json), lambda account, prefix: Remark(text.encode()))


def find_account(text: str, prefix: int, keys: Path | None) -> bytes:
    """The account of an address, a development name, or a key in the key directory.

    Raises AddressError, KeystoreError.
    """
    if text.startswith(DEV_PREFIX):
        return get_dev_key(text.removeprefix(DEV_PREFIX), KeyKind.ACCOUNT).public_key
    store = Keystore(get_keys_dir(keys))
    if NAME_PATTERN.fullmatch(text) and store.get_path(text).exists():
        return store.read_info(text).public_key
    return decode_address(text, prefix)


def _run(sending: Sending, make_call: MakeCall) -> None:
    with exit_on_error():
        tip = parse_amount(sending.tip)
        found = trio.run(_send, sending, tip, make_call)
    if sending.as_json:
        print(json.dumps(found))
        return
    print_pairs((name, format_amount(value) if name in ("fee", "tip") else str(value)) for name, value in found.items())


async def _send(sending: Sending, tip: int, make_call: MakeCall) -> dict[str, Any]:
    """What to show. Raises CallFailed, RpcError and the errors of keys and addresses."""
    async with open_account(sending.rpc, sending.signer, sending.keys) as (account, prefix):
        call = make_call(account, prefix)
        if sending.dry_run:
            return {"dry run": type(call).__name__, **await _query_cost(account, call, tip, prefix)}
        if sending.wait is Wait.POOL:
            return {"extrinsic": f"0x{(await account.send(call, tip)).hex()}", "status": "pending"}
        done = await account.execute(call, tip)
        return {"extrinsic": f"0x{done.extrinsic.hex()}", "status": "finalized", "height": done.height, "fee": done.fee}


async def _query_cost(account: Account, call: Call, tip: int, prefix: int) -> dict[str, Any]:
    nonce = int(await account.chain.rpc.call("system_accountNextIndex", account.address))
    height = await account.chain.get_height()
    body = TransactionBody(account.public_key, nonce, call, tip, height, PERIOD_BLOCKS)
    unsigned = f"0x{encode(Transaction(body, bytes(64))).hex()}"
    cost = await account.chain.rpc.call("payment_queryInfo", unsigned)
    return {"from": encode_address(account.public_key, prefix), "nonce": nonce, **cost}
