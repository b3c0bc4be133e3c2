"""Commands for calls that take their fields unchanged: an argument for each field, read as `call_forms` says."""

from __future__ import annotations

import inspect
import typing
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.amounts import AMOUNT_HELP
from node.cli.call_forms import AMOUNT_FIELDS, load_json, read_call, read_fields
from node.cli.keyring import ACCOUNT_HELP
from node.cli.sending import CallSigner, MakeCall, register_sender
from proto_specs.types import calls
from proto_specs.types.calls import AsMulti, BatchAll, BatchEach, MultisigCall
from proto_specs.types.common import Kind

PLAIN_COMMANDS: dict[str, type] = {
    "delegate": calls.Delegate,
    "undelegate": calls.Undelegate,
    "redelegate": calls.Redelegate,
    "claim-rewards": calls.ClaimRewards,
    "set-commission": calls.SetCommission,
    "unjail": calls.Unjail,
    "retire-validator": calls.RetireValidator,
    "register-model": calls.RegisterModel,
    "register-verifier": calls.RegisterVerifier,
    "unregister-verifier": calls.UnregisterVerifier,
    "leave-worker": calls.LeaveWorker,
    "move-worker": calls.MoveWorker,
    "report-absent": calls.ReportAbsent,
    "open-session": calls.OpenSession,
    "top-up-session": calls.TopUpSession,
    "commit-verdict": calls.CommitVerdict,
    "reveal-verdict": calls.RevealVerdict,
}
FileArgument = Annotated[Path, typer.Argument(help="JSON file.")]
CallFileArgument = Annotated[
    Path, typer.Argument(help='JSON file with a call: {"type": "Transfer", "dest": "dev:bob", "amount": "1.5"}.')
]
ThresholdOption = Annotated[int, typer.Option(min=2, help="How many have to approve.")]
OthersOption = Annotated[
    list[str], typer.Option("--other", help=f"Every other signatory, in any order. {ACCOUNT_HELP}")
]
OpenedOption = Annotated[int | None, typer.Option(min=0, help="Block the operation was opened in; none: open it.")]
CallHashArgument = Annotated[str, typer.Argument(help="Hash of the call, as the dry run of `as-multi` prints it.")]


def register_calls(app: typer.Typer) -> None:
    """Add all commands of this file."""
    for name, cls in PLAIN_COMMANDS.items():
        register_sender(app, name)(make_command(cls))
    register_sender(app, "transfer-all")(transfer_all_command)
    register_sender(app, "update-worker")(update_worker_command)
    register_sender(app, "settle")(settle_command)
    register_sender(app, "settle-statement")(settle_statement_command)
    register_sender(app, "report-equivocation")(report_equivocation_command)
    register_sender(app, "join-settlement")(join_settlement_command)
    register_sender(app, "report-double-promise")(report_double_promise_command)
    register_sender(app, "propose-params")(propose_params_command)
    register_sender(app, "vote-params")(vote_params_command)
    register_sender(app, "batch-all")(batch_all_command)
    register_sender(app, "batch-each")(batch_each_command)
    register_sender(app, "as-multi")(as_multi_command)
    register_sender(app, "approve-as-multi")(approve_as_multi_command)
    register_sender(app, "cancel-as-multi")(cancel_as_multi_command)
    register_sender(app, "call")(call_command)


def make_command(cls: type) -> Any:
    """A function for `register_sender`: an argument for each field of the call, and the call's docstring as help."""

    def command(**values: str) -> MakeCall:
        return lambda signer: read_fields(cls, values, signer)

    hints = typing.get_type_hints(cls, include_extras=True)
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # read by typer
        [
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=Annotated[str, typer.Argument(help=_describe(one.name, hints[one.name]))],
            )
            for one in fields(cls)
        ]
    )
    command.__doc__ = cls.__doc__
    return command


def _describe(name: str, hint: Any) -> str:
    if name in AMOUNT_FIELDS:
        return AMOUNT_HELP
    if Kind("account") in typing.get_args(hint):
        return ACCOUNT_HELP
    return "0x hex, or @FILE with the bytes." if typing.get_args(hint)[0] is bytes else "An integer."


def transfer_all_command(
    dest: Annotated[str, typer.Argument(help=ACCOUNT_HELP)],
    keep_alive: Annotated[bool, typer.Option("--keep-alive", help="Keep the existential deposit.")] = False,
) -> MakeCall:
    """Move the whole free balance to another account."""
    form = {"dest": dest, "keep_alive": keep_alive}
    return lambda signer: read_fields(calls.TransferAll, form, signer)


def update_worker_command(
    worker_key: Annotated[str, typer.Argument(help="Worker key: 0x and 64 hex digits.")],
    peer_id: Annotated[str, typer.Argument(help="libp2p peer id it is reached as now.")],
    prefill_price: Annotated[str, typer.Argument(help=f"Per layer and prompt token. {AMOUNT_HELP}")],
    decode_price: Annotated[str, typer.Argument(help=f"Per layer and new token. {AMOUNT_HELP}")],
    addresses: Annotated[list[str], typer.Argument(help="libp2p addresses it listens at now.")],
) -> MakeCall:
    """Announce a worker of the signer anew: where it is reached and what it asks. One that was absent is back."""
    form = {
        "worker_key": worker_key,
        "peer_id": peer_id,
        "addresses": addresses,
        "prefill_price": prefill_price,
        "decode_price": decode_price,
    }
    return lambda signer: read_fields(calls.UpdateWorker, form, signer)


def settle_command(file: FileArgument) -> MakeCall:
    """Commit a finished request: order, voucher and stage roots from a JSON file, as clients do by themselves."""
    form = load_json(file)
    return lambda signer: read_call({"type": "Settle", **form} if isinstance(form, dict) else form, signer)


def settle_statement_command(file: FileArgument) -> MakeCall:
    """Commit many finished requests at once: a signed statement from a JSON file, as clients do by themselves."""
    form = load_json(file)
    return lambda signer: read_call({"type": "SettleStatement", **form} if isinstance(form, dict) else form, signer)


def report_equivocation_command(file: FileArgument) -> MakeCall:
    """Prove that a worker signed two different leaves for one slot. The file holds the fields of the call."""
    form = load_json(file)
    return lambda signer: read_call({"type": "ReportEquivocation", **form} if isinstance(form, dict) else form, signer)


def join_settlement_command(file: FileArgument) -> MakeCall:
    """Settle what some stages hold of a request, or add it to its settlement. The file holds the fields of the call."""
    form = load_json(file)
    return lambda signer: read_call({"type": "JoinSettlement", **form} if isinstance(form, dict) else form, signer)


def report_double_promise_command(file: FileArgument) -> MakeCall:
    """Prove that a session promised a position or a number twice. The file holds the fields of the call."""
    form = load_json(file)
    return lambda signer: read_call({"type": "ReportDoublePromise", **form} if isinstance(form, dict) else form, signer)


def propose_params_command(
    changes: Annotated[list[str], typer.Argument(help="MODULE.FIELD=VALUE, as `params_all` names them; all or none.")],
) -> MakeCall:
    """Put changes of protocol parameters to the vote, as an elected validator's operator."""
    pairs = [one.partition("=") for one in changes]
    form = {"changes": [{"name": name, "value": value} for name, _, value in pairs]}
    return lambda signer: read_fields(calls.ProposeParams, form, signer)


def vote_params_command(
    proposal: Annotated[int, typer.Argument(min=0, help="Number of the proposal (`params_proposals`).")],
    approve: Annotated[bool, typer.Option("--approve/--reject", help="What to vote; one of them has to be said.")],
) -> MakeCall:
    """Vote on changes of parameters, as an elected validator's operator; the last vote counts."""
    form = {"proposal": proposal, "approve": approve}
    return lambda signer: read_fields(calls.VoteParams, form, signer)


def batch_all_command(file: FileArgument) -> MakeCall:
    """Run the calls of a JSON list in order, all or none."""
    form = load_json(file)
    return lambda signer: read_fields(BatchAll, {"calls": form}, signer)


def batch_each_command(file: FileArgument) -> MakeCall:
    """Run the calls of a JSON list in order; one that fails is undone alone."""
    form = load_json(file)
    return lambda signer: read_fields(BatchEach, {"calls": form}, signer)


def as_multi_command(
    file: CallFileArgument, threshold: ThresholdOption, others: OthersOption, opened_height: OpenedOption = None
) -> MakeCall:
    """Approve a call for an account of several; the last approval runs it. Prints the account and the call's hash."""
    form = load_json(file)

    def make_call(signer: CallSigner) -> AsMulti:
        inner = read_call(form, signer, MultisigCall)
        return AsMulti(threshold, _sort(others, signer), opened_height, inner)

    return make_call


def approve_as_multi_command(
    call_hash: CallHashArgument,
    threshold: ThresholdOption,
    others: OthersOption,
    opened_height: OpenedOption = None,
) -> MakeCall:
    """Approve a call by its hash alone; the last approval has to be `as-multi`."""
    form = {"threshold": threshold, "opened_height": opened_height, "call_hash": call_hash}
    return lambda signer: _with_others(calls.ApproveAsMulti, form, others, signer)


def cancel_as_multi_command(
    call_hash: CallHashArgument,
    threshold: ThresholdOption,
    others: OthersOption,
    opened_height: Annotated[int, typer.Option(min=0, help="Block the operation was opened in.")],
) -> MakeCall:
    """Withdraw an operation that the signer opened; its deposit returns."""
    form = {"threshold": threshold, "opened_height": opened_height, "call_hash": call_hash}
    return lambda signer: _with_others(calls.CancelAsMulti, form, others, signer)


def call_command(file: CallFileArgument) -> MakeCall:
    """Send any call, from a JSON file."""
    form = load_json(file)
    return lambda signer: read_call(form, signer)


def _sort(others: list[str], signer: CallSigner) -> tuple[bytes, ...]:
    """The signatories in ascending order, as the chain takes them; people name them in any order."""
    return tuple(sorted({signer.find_account(one) for one in others}))


def _with_others(cls: type, form: dict[str, Any], others: list[str], signer: CallSigner) -> Any:
    sorted_others = [f"0x{one.hex()}" for one in _sort(others, signer)]
    return read_fields(cls, {**form, "others": sorted_others}, signer)
