"""`myelin tx`: a command for every call there is, each building exactly the call that was meant and its exact price."""

from __future__ import annotations

import json
import typing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from consensus.runtime.fees import query_fee
from node.cli import sending
from node.cli.call_forms import AMOUNT_FIELDS, FormInvalid, read_call
from node.cli.connect import Connection, connect
from node.cli.sending import CallSigner
from node.client.account import PERIOD_BLOCKS
from node.client.rpc_errors import RpcError
from node.local_api.methods.all import NodeView
from node.local_api.wire.errors import ApiError
from proto_specs.codec import encode
from proto_specs.jsonform import to_json
from proto_specs.limits import FINGERPRINT_BYTES
from proto_specs.types import calls
from proto_specs.types.calls import Call
from proto_specs.types.chain import Transaction, TransactionBody
from proto_specs.types.multisig import MultisigOwners, compute_call_hash, compute_multisig_account
from proto_specs.types.promise_calls import JoinSettlement, ReportDoublePromise
from tests.unit.node.cli.conftest import Cli
from tests.unit.node.local_api.calling import answer
from tests.unit.node.world import ALICE, BOB, MYL, World
from tests.vectors.samples import make_filled

ID = bytes(range(32))
ID_TEXT = f"0x{ID.hex()}"
PRINT = bytes(FINGERPRINT_BYTES)
SIGNER = CallSigner(ALICE.account, 42, None)
TRANSFER = calls.Transfer(BOB.account, 1_500_000_000)
TRANSFER_FORM = {"type": "Transfer", "dest": "dev:bob", "amount": "1.5"}
BATCH = (TRANSFER, calls.Remark(b"\x01\x02"))
BATCH_FORM = [TRANSFER_FORM, {"type": "Remark", "data": "0x0102"}]
OTHERS = tuple(sorted((BOB.account, ID)))
MULTI = ("--threshold", "2", "--other", ID_TEXT, "--other", "dev:bob")

FILLED: calls.Settle = make_filled(calls.Settle)
SETTLE = to_json(FILLED, 42)
STATED: calls.SettleStatement = make_filled(calls.SettleStatement)
REPORT: calls.ReportEquivocation = make_filled(calls.ReportEquivocation)
JOIN: JoinSettlement = make_filled(JoinSettlement)
DOUBLE: ReportDoublePromise = make_filled(ReportDoublePromise)

CASES: list[tuple[list[Any], Call]] = [
    (["remark", "hi"], calls.Remark(b"hi")),
    (["transfer", "dev:bob", "1.5"], TRANSFER),
    (["transfer-all", "dev:bob", "--keep-alive"], calls.TransferAll(BOB.account, True)),
    (["bond", "2"], calls.Bond(2 * MYL)),
    (["unbond", "2nmyl"], calls.Unbond(2)),
    (["withdraw"], calls.WithdrawUnbonded()),
    (["delegate", "dev:bob", "3"], calls.Delegate(BOB.account, 3 * MYL)),
    (["undelegate", "dev:bob", "3nmyl"], calls.Undelegate(BOB.account, 3)),
    (["redelegate", "dev:bob", "dev:alice", "1"], calls.Redelegate(BOB.account, ALICE.account, MYL)),
    (["claim-rewards", "dev:bob"], calls.ClaimRewards(BOB.account)),
    (["set-commission", "50"], calls.SetCommission(50)),
    (["unjail"], calls.Unjail()),
    (["retire-validator"], calls.RetireValidator()),
    (["register-model", "0x0102"], calls.RegisterModel(b"\x01\x02")),
    (
        ["update-worker", ID_TEXT, "peer", "5nmyl", "7nmyl", "/a", "/b"],
        calls.UpdateWorker(ID, "peer", ("/a", "/b"), 5, 7),
    ),
    (["move-worker", ID_TEXT, "3", "7"], calls.MoveWorker(ID, 3, 7)),
    (["leave-worker", ID_TEXT], calls.LeaveWorker(ID)),
    (["report-absent", ID_TEXT], calls.ReportAbsent(ID)),
    (["retire-worker", ID_TEXT], calls.RetireWorker(ID)),
    (["register-verifier", ID_TEXT], calls.RegisterVerifier(ID)),
    (["unregister-verifier", ID_TEXT], calls.UnregisterVerifier(ID)),
    (["open-session", ID_TEXT, ID_TEXT, "5nmyl", "7", "9"], calls.OpenSession(ID, ID, 5, 7 * MYL, 9)),
    (["top-up-session", ID_TEXT, "1.5"], calls.TopUpSession(ID, 1_500_000_000)),
    (["close-session", ID_TEXT], calls.CloseSession(ID)),
    (["commit-verdict", ID_TEXT, ID_TEXT], calls.CommitVerdict(ID, ID)),
    (
        ["reveal-verdict", ID_TEXT, "1", "5", "6", f"0x{PRINT.hex()}", ID_TEXT],
        calls.RevealVerdict(ID, 1, 5, 6, PRINT, ID),
    ),
    (
        ["propose-params", "system.byte_price=7", "staking.jail_blocks=9"],
        calls.ProposeParams((calls.ParamChange("system.byte_price", 7), calls.ParamChange("staking.jail_blocks", 9))),
    ),
    (["vote-params", "3", "--reject"], calls.VoteParams(3, False)),
    (["batch-all", BATCH_FORM], calls.BatchAll(BATCH)),
    (["batch-each", BATCH_FORM], calls.BatchEach(BATCH)),
    (["as-multi", TRANSFER_FORM, *MULTI], calls.AsMulti(2, OTHERS, None, TRANSFER)),
    (
        ["as-multi", {"type": "BatchAll", "calls": BATCH_FORM}, *MULTI, "--opened-height", "7"],
        calls.AsMulti(2, OTHERS, 7, calls.BatchAll(BATCH)),
    ),
    (["approve-as-multi", ID_TEXT, *MULTI], calls.ApproveAsMulti(2, OTHERS, None, ID)),
    (["cancel-as-multi", ID_TEXT, *MULTI, "--opened-height", "7"], calls.CancelAsMulti(2, OTHERS, 7, ID)),
    (["report-equivocation", {key: one for key, one in to_json(REPORT, 42).items() if key != "type"}], REPORT),
    (["join-settlement", {key: one for key, one in to_json(JOIN, 42).items() if key != "type"}], JOIN),
    (["report-double-promise", {key: one for key, one in to_json(DOUBLE, 42).items() if key != "type"}], DOUBLE),
    (
        ["settle", {"order": SETTLE["order"], "voucher": SETTLE["voucher"], "stage_roots": SETTLE["stage_roots"]}],
        FILLED,
    ),
    (["settle-statement", {"statement": to_json(STATED, 42)["statement"]}], STATED),
    (["call", {"type": "Bond", "amount": 5}], calls.Bond(5)),
]
NEED_KEYS = {calls.RegisterValidator, calls.RegisterWorker}
"""Signed by a second key of one's own: tested apart."""


class Node:
    """The methods over a store."""

    def __init__(self, world: World) -> None:
        self._view = NodeView(world.genesis.spec, world.store, world.pool, lambda: 0)

    async def call(self, method: str, *params: Any) -> Any:
        """A result, or the refusal as it comes over the wire."""
        try:
            return await answer(self._view, method, list(params))
        except ApiError as error:
            raise RpcError(error.code, str(error), error.data) from error


@pytest.fixture
def node(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    @asynccontextmanager
    async def open_here(url: str) -> AsyncIterator[Connection]:
        yield await connect(Node(world))

    monkeypatch.setattr(sending, "open_connection", open_here)
    return world


def write(arguments: list[Any], tmp_path: Path) -> list[str]:
    """JSON among the arguments goes to a file."""
    found = []
    for one in arguments:
        if isinstance(one, str):
            found.append(one)
        else:
            (tmp_path / "form.json").write_text(json.dumps(one))
            found.append(str(tmp_path / "form.json"))
    return found


def dry_run(cli: Cli, *arguments: str) -> Any:
    return cli.ask("tx", *arguments, "--account", "dev:alice", "--dry-run", "--tip", "3nmyl")


@pytest.mark.parametrize(("arguments", "expected"), CASES, ids=lambda one: one[0] if isinstance(one, list) else "")
def test_a_dry_run_shows_the_call_and_its_exact_price(
    node: World, cli: Cli, tmp_path: Path, arguments: list[Any], expected: Call
) -> None:
    found = dry_run(cli, *write(arguments, tmp_path))
    assert found["call"] == to_json(expected, 42)
    body = TransactionBody(ALICE.account, 0, expected, 3, 0, PERIOD_BLOCKS)
    cost = query_fee(node.store, Transaction(body, bytes(64)))
    assert (found["fee"], found["tip"], found["total"]) == (cost.fee, 3, cost.fee + 3)
    assert found["bytes"] == len(encode(Transaction(body, bytes(64))))
    assert len(node.pool) == 0


def test_every_call_has_a_command() -> None:
    every = set(typing.get_args(Call))
    assert {type(one) for _, one in CASES} | NEED_KEYS == every


@pytest.mark.parametrize(("arguments", "expected"), CASES, ids=lambda one: one[0] if isinstance(one, list) else "")
def test_what_is_shown_can_be_read_back(arguments: list[Any], expected: Call) -> None:
    assert read_call(json.loads(json.dumps(to_json(expected, 42))), SIGNER) == expected


def test_calls_with_a_second_key(node: World, cli: Cli) -> None:
    worker = ["register-worker", "dev:bob", ID_TEXT, "2", "5", "10", "peer", "/a", "--prefill-price", "4nmyl"]
    found = dry_run(cli, *worker)["call"]
    assert (found["type"], found["start"], found["end"], found["bond"]) == ("RegisterWorker", 2, 5, 10 * MYL)
    assert (found["prefill_price"], found["decode_price"], found["addresses"]) == (4, 0, ["/a"])
    assert dry_run(cli, "register-validator", "dev:bob")["call"]["type"] == "RegisterValidator"


def test_an_approval_prints_its_account_and_the_hash_of_the_call(node: World, cli: Cli, tmp_path: Path) -> None:
    found = dry_run(cli, *write(["as-multi", TRANSFER_FORM, *MULTI], tmp_path))
    owners = MultisigOwners(2, tuple(sorted((ALICE.account, *OTHERS))))
    assert CallSigner(b"", 42, None).find_account(found["multisig"]) == compute_multisig_account(owners)
    assert found["call_hash"] == f"0x{compute_call_hash(TRANSFER).hex()}"
    again = dry_run(cli, "approve-as-multi", found["call_hash"], *MULTI)
    assert (again["multisig"], again["call_hash"]) == (found["multisig"], found["call_hash"])


def test_it_is_sent_once_and_its_hash_is_printed(node: World, cli: Cli) -> None:
    found = cli.ask("tx", "delegate", "dev:alice", "50", "--account", "dev:bob", "--wait", "submitted")
    (waiting,) = node.pool
    assert waiting.body.call == calls.Delegate(ALICE.account, 50 * MYL)
    assert found["status"] == "submitted"
    assert node.add_block(node.pool.select()).executed.receipts[0].error is None


@pytest.mark.parametrize(
    ("form", "complaint"),
    [
        ([], "one of"),
        ({"type": "Nothing"}, "one of"),
        ({"type": ["Bond"]}, "one of"),
        ({"type": "Bond"}, "lacks the field amount"),
        ({"type": "Bond", "amount": 1, "extra": 2}, "has no field 'extra'"),
        ({"type": "Bond", "amount": -1}, "Bond.amount has to be an integer"),
        ({"type": "Bond", "amount": 1 << 64}, "Bond.amount has to be an integer"),
        ({"type": "Bond", "amount": True}, "Bond.amount has to be an integer"),
        ({"type": "Bond", "amount": 1.5}, "Bond.amount has to be an integer"),
        ({"type": "SetCommission", "commission_permille": 1 << 16}, "0 to 65535"),
        ({"type": "CloseSession", "session": "0x01"}, "has to have 32 bytes, not 1"),
        ({"type": "CloseSession", "session": "zz"}, "no 0x hex"),
        ({"type": "CloseSession", "session": 1}, "has to be text"),
        ({"type": "Remark", "data": "0x" + "00" * 1025}, "longer than 1024"),
        ({"type": "VoteParams", "proposal": 1, "approve": "yes"}, "true or false"),
        ({"type": "BatchAll", "calls": {}}, "has to be a list"),
        ({"type": "BatchAll", "calls": [{"type": "BatchAll", "calls": []}]}, "one of"),
        ({"type": "ProposeParams", "changes": [1]}, "has to be an object"),
        ({"type": "ProposeParams", "changes": [{"name": 1, "value": 1}]}, "is text"),
    ],
)
def test_a_form_that_is_no_call_is_refused_by_its_field(form: Any, complaint: str) -> None:
    with pytest.raises(FormInvalid) as refused:
        read_call(form, SIGNER)
    assert complaint in str(refused.value)


def test_no_form_becomes_a_call_that_cannot_be_encoded() -> None:
    for _, one in CASES:
        assert encode(read_call(to_json(one, 42), SIGNER), Call)


def test_amounts_are_the_fields_that_hold_money() -> None:
    """A new Balance field has to be named among them, or `1` would mean one nmyl of it and one MYL of others."""
    source = Path(calls.__file__).read_text("utf-8")
    named = {line.split(":")[0].strip() for line in source.splitlines() if line.endswith(": Balance")}
    assert named == AMOUNT_FIELDS


def test_files_are_read_at_the_edge(node: World, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"manifest")
    found = dry_run(cli, "register-model", f"@{tmp_path}/bytes")
    assert found["call"]["manifest"] == f"0x{b'manifest'.hex()}"
    (tmp_path / "bad").write_text("[")
    assert "no JSON" in cli.refuse("tx", "batch-all", str(tmp_path / "bad"), "--account", "dev:alice")
    assert "error:" in cli.refuse("tx", "batch-all", str(tmp_path / "none"), "--account", "dev:alice")


def test_close_session_without_a_session_lists_the_open_ones(node: World, cli: Cli) -> None:
    assert cli.ask("tx", "close-session", "--account", "dev:alice") == {"sessions": []}
    done = cli.run("tx", "close-session", "--account", "dev:alice")
    assert done.output == "the account has no open session\n"
    assert len(node.pool) == 0
