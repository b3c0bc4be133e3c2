"""`myelin tx`: sign and send transactions, or only show their cost. Each function returns the call to send."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli.amounts import AMOUNT_HELP, parse_amount
from node.cli.call_commands import register_calls
from node.cli.call_forms import read_fields
from node.cli.errors import CliError
from node.cli.keyring import ACCOUNT_HELP, KEY_HELP, find_public_key, load_signing_key, parse_hash
from node.cli.read_request import list_open_sessions
from node.cli.sending import CallSigner, Listing, MakeCall, register_sender
from node.cli.show_records import show_open_sessions
from node.keys.derivation import KeyKind
from proto_specs.hashing import Tag
from proto_specs.types.calls import (
    Bond,
    CloseSession,
    RegisterValidator,
    RegisterWorker,
    Remark,
    RetireWorker,
    Transfer,
    Unbond,
    WithdrawUnbonded,
)

app = typer.Typer(no_args_is_help=True, help="Sign and send transactions, or only say what they would cost.")

REMARK_BYTES_MAX = 1024
AmountArgument = Annotated[str, typer.Argument(help=AMOUNT_HELP)]


class RemarkTooLong(CliError):
    """The chain takes no remark of this length."""


@register_sender(app, "transfer")
def transfer_command(dest: Annotated[str, typer.Argument(help=ACCOUNT_HELP)], amount: AmountArgument) -> MakeCall:
    """Move money to another account."""
    nmyl = parse_amount(amount)
    return lambda signer: Transfer(signer.find_account(dest), nmyl)


@register_sender(app, "bond")
def bond_command(amount: AmountArgument) -> MakeCall:
    """Lock money as stake."""
    nmyl = parse_amount(amount)
    return lambda signer: Bond(nmyl)


@register_sender(app, "unbond")
def unbond_command(amount: AmountArgument) -> MakeCall:
    """Start releasing stake; `withdraw` frees it after the unbonding period."""
    nmyl = parse_amount(amount)
    return lambda signer: Unbond(nmyl)


@register_sender(app, "withdraw")
def withdraw_command() -> MakeCall:
    """Free the stake whose unbonding period is over."""
    return lambda signer: WithdrawUnbonded()


@register_sender(app, "register-validator")
def register_validator_command(
    validator: Annotated[str, typer.Argument(help=f"Validator key. {KEY_HELP}")],
) -> MakeCall:
    """Stand for election from the next epoch on; bond stake first."""

    def make_call(signer: CallSigner) -> RegisterValidator:
        key = load_signing_key(validator, KeyKind.VALIDATOR, signer.keys)
        return RegisterValidator(key.public_key, key.sign(Tag.KEY_PROOF_SIGN, signer.account))

    return make_call


@register_sender(app, "retire-worker")
def retire_worker_command(
    worker: Annotated[str, typer.Argument(help=f"Worker key: 0x and 64 hex digits. {KEY_HELP}")],
) -> MakeCall:
    """Take a worker out of service; its bond is free after the unbonding period."""
    if worker.startswith("0x"):
        key = parse_hash(worker)
        return lambda signer: RetireWorker(key)
    return lambda signer: RetireWorker(find_public_key(worker, KeyKind.WORKER, signer.keys))


@register_sender(app, "close-session")
def close_session_command(
    session: Annotated[
        str | None, typer.Argument(help="Session id: 0x and 64 hex digits. Without it the open ones are listed.")
    ] = None,
) -> MakeCall | Listing:
    """Give notice; what no request has claimed of the escrow comes back after the notice period."""
    if session is None:
        return Listing(list_open_sessions, show_open_sessions)
    session_id = parse_hash(session)
    return lambda signer: CloseSession(session_id)


@register_sender(app, "remark")
def remark_command(text: Annotated[str, typer.Argument(help=f"At most {REMARK_BYTES_MAX} bytes.")]) -> MakeCall:
    """Put a text on chain, to no effect."""
    data = text.encode()
    if len(data) > REMARK_BYTES_MAX:
        raise RemarkTooLong(f"the remark has {len(data)} bytes; at most {REMARK_BYTES_MAX} are taken: shorten it")
    return lambda signer: Remark(data)


@register_sender(app, "register-worker")
def register_worker_command(
    worker: Annotated[str, typer.Argument(help=f"Worker key. {KEY_HELP}")],
    model: Annotated[str, typer.Argument(help="Model id: 0x and 64 hex digits.")],
    start: Annotated[int, typer.Argument(min=0, help="First layer.")],
    end: Annotated[int, typer.Argument(min=1, help="Layer after the last.")],
    bond: AmountArgument,
    peer_id: Annotated[str, typer.Argument(help="libp2p peer id it is reached as.")],
    addresses: Annotated[list[str], typer.Argument(help="libp2p addresses it listens at.")],
    prefill_price: Annotated[str, typer.Option(help=f"Per layer and prompt token. {AMOUNT_HELP}")] = "0",
    decode_price: Annotated[str, typer.Option(help=f"Per layer and new token. {AMOUNT_HELP}")] = "0",
) -> MakeCall:
    """Bond and announce a worker; `myelin worker run` does so by itself."""
    form = {"model": model, "start": start, "end": end, "bond": bond, "peer_id": peer_id, "addresses": addresses}
    prices = {"prefill_price": prefill_price, "decode_price": decode_price}

    def make_call(signer: CallSigner) -> RegisterWorker:
        key = load_signing_key(worker, KeyKind.WORKER, signer.keys)
        proof = key.sign(Tag.KEY_PROOF_SIGN, signer.account)
        keys = {"worker_key": f"0x{key.public_key.hex()}", "key_proof": f"0x{proof.hex()}"}
        found: RegisterWorker = read_fields(RegisterWorker, {**form, **prices, **keys}, signer)
        return found

    return make_call


register_calls(app)
