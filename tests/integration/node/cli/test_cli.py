"""keys, tx and query as a user types them, against a running node: text, JSON, exit statuses, no traceback ever."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from consensus.runtime.balances.state import accounts
from genesis.dev import get_dev_identity
from proto_specs.errors import ExitStatus
from proto_specs.ss58 import encode_address
from tests.integration.node.cli.conftest import Cli
from tests.integration.node.processes import MYELIN, REPOSITORY, find_free_port

pytestmark = pytest.mark.slow
WORDS = "abandon " * 11 + "about"
MYL = 10**9
ALICE = encode_address(get_dev_identity("alice").account, 42)
NOTHING = f"0x{'00' * 32}"


def import_key(cli: Cli, name: str = "mine", kind: str = "account") -> None:
    cli.ask("keys", "import", name, "--kind", kind, typed=f"{WORDS}\nsecret\n")


def test_a_dry_run_tells_the_price_and_changes_nothing(cli: Cli) -> None:
    before = cli.ask("query", "account", "dev:bob")
    price = cli.ask("tx", "transfer", ALICE, "2.5", "--account", "dev:bob", "--tip", "7nmyl", "--dry-run")
    assert (price["tip"], price["total"], price["can_pay"]) == (7, price["fee"] + 7, True)
    assert price["call"] == {"type": "Transfer", "dest": ALICE, "amount": 2_500_000_000}
    assert cli.ask("query", "account", "dev:bob") == before
    done = cli.ask("tx", "transfer", ALICE, "2.5", "--account", "dev:bob", "--tip", "7nmyl")
    # The birth block's number may have grown by a digit meanwhile, which is a byte or two.
    assert 0 <= done["fee"] - price["fee"] <= 20
    after = cli.ask("query", "account", "dev:bob")
    assert after["free"] == before["free"] - 2_500_000_000 - done["fee"] - 7
    assert after["nonce"] == before["nonce"] + 1


def test_what_was_waited_for_can_be_read(cli: Cli) -> None:
    import_key(cli)
    for turn in range(1, 4):
        done = cli.ask("tx", "transfer", "mine", "2.5", "--account", "dev:charlie")
        assert cli.ask("query", "account", "mine")["free"] == turn * 2_500_000_000
    assert [one["type"] for one in done["events"]] == ["Transferred"]
    status = cli.ask("query", "tx", done["extrinsic"])
    assert (status["status"], status["height"], status["index"]) == ("finalized", done["height"], done["index"])
    assert "Transferred" in cli.show("query", "tx", done["extrinsic"])
    block = cli.ask("query", "block", str(done["height"]))
    assert block["receipts"][done["index"]]["extrinsic"] == done["extrinsic"]
    assert cli.ask("query", "block", block["hash"]) == block
    assert done["extrinsic"] in cli.show("query", "block", str(done["height"]))
    back = cli.ask("tx", "transfer", "dev:charlie", "1", "--account", "mine", "--wait", "submitted", typed="secret\n")
    assert back["status"] == "submitted"
    while (status := cli.ask("query", "tx", back["extrinsic"]))["status"] == "pending":
        pass
    assert cli.ask("query", "account", "mine")["free"] == 6_500_000_000 - status["receipt"]["fee"]


def test_passwords(cli: Cli) -> None:
    import_key(cli)
    send = ("tx", "transfer", ALICE, "1", "--account", "mine")
    assert cli.refuse(*send, typed="wrong\n")["error"] == "WrongPassword"
    assert cli.refuse(*send, typed="")["error"] == "PasswordMissing"
    assert cli.ask(*send, "--dry-run", typed="")["can_pay"] is not None, "a price needs no password"


def test_an_account_without_money(cli: Cli) -> None:
    send = ("tx", "transfer", ALICE, "1", "--account", "dev:nobody")
    error = cli.refuse(*send)
    assert (error["error"], error["free"]) == ("CannotPayFee", 0)
    assert error["needed"] == cli.ask(*send, "--dry-run")["total"]
    assert "would refuse it (CannotPayFee)" in cli.show(*send, "--dry-run")


def test_nonces(cli: Cli) -> None:
    cli.ask("tx", "remark", "one", "--account", "dev:ferdie")
    expected = cli.ask("query", "account", "dev:ferdie")["nonce"]
    stale = cli.refuse("tx", "remark", "two", "--account", "dev:ferdie", "--nonce", str(expected - 1))
    assert (stale["error"], stale["expected"]) == ("StaleNonce", expected)
    assert cli.refuse("tx", "remark", "x", "--account", "dev:ferdie", "--nonce", "99999")["error"] == "NonceTooFar"
    cli.ask("tx", "remark", "two", "--account", "dev:ferdie", "--nonce", str(expected))


def test_stake(cli: Cli) -> None:
    import_key(cli, "consensus", "validator")
    assert cli.ask("tx", "bond", "1000", "--account", "dev:dave")["status"] == "finalized"
    assert cli.ask("tx", "unbond", "4", "--account", "dev:dave")["status"] == "finalized"
    found = cli.ask("query", "account", "dev:dave")
    assert (found["bonded"], found["holds"]["stake"]) == (996 * MYL, 1000 * MYL)
    assert "4 MYL from block" in cli.show("query", "account", "dev:dave")
    error = cli.refuse("tx", "withdraw", "--account", "dev:dave")
    assert (error["error"], error["module"]) == ("NothingToWithdraw", "staking")
    assert cli.ask("query", "tx", error["extrinsic"])["receipt"]["fee"] == error["fee"]
    assert "failed: NothingToWithdraw" in cli.show("query", "tx", error["extrinsic"])
    register = ("tx", "register-validator", "consensus", "--account", "dev:dave")
    # The runtime looks at the stake last: the proof of the key's possession was good. A validator that is elected but
    # does not run would slow this node down.
    assert cli.refuse(*register, typed="secret\n")["error"] == "InsufficientStake"


def test_refusals_of_the_runtime_have_its_names(cli: Cli) -> None:
    eve = ("--account", "dev:eve")
    error = cli.refuse("tx", "transfer", "dev:bob", "9000000", *eve)
    assert (error["error"], error["module"]) == ("InsufficientBalance", "balances")
    text = cli.run("tx", "transfer", "dev:bob", "9000000", *eve).stderr
    assert "error: InsufficientBalance: module balances refused Transfer 0x" in text
    assert cli.refuse("tx", "retire-worker", "dev:eve", *eve)["error"] == "UnknownWorker"
    assert cli.refuse("tx", "close-session", NOTHING, *eve)["error"] == "UnknownSession"


def test_what_cannot_be_sent_is_not_sent(cli: Cli) -> None:
    import_key(cli, "gpu", "worker")
    before = cli.ask("query", "account", "dev:eve")["nonce"]
    refusals = [
        (("transfer", "dev:bob", "1e5"), "AmountInvalid", "no amount"),
        (("transfer", "dev:bob", "0.0000000001"), "AmountInvalid", "at most 9"),
        (("transfer", "dev:bob", "1", "--tip", "-1"), "AmountInvalid", "negative"),
        (("transfer", "0OIl", "1"), "AddressError", "base58"),
        (("transfer", ALICE[:-1] + "1", "1"), "AddressError", "typing error"),
        (("transfer", encode_address(bytes(32), 7), "1"), "AddressError", "another chain"),
        (("transfer", "gpu", "1"), "KeystoreError", "of kind worker"),
        (("close-session", "0x12"), "HashInvalid", "32 bytes"),
        (("remark", "x" * 1025), "RemarkTooLong", "1025 bytes"),
    ]
    for arguments, name, why in refusals:
        error = cli.refuse("tx", *arguments, "--account", "dev:eve")
        assert error["error"] == name
        assert why in error["message"]
    assert cli.refuse("tx", "remark", "x", "--account", "gpu", typed="secret\n")["error"] == "KeystoreError"
    for wrong in (("transfer", "dev:bob"), ("transfer", "dev:bob", "-1"), ("nonsense",)):
        assert cli.run("tx", *wrong, "--account", "dev:eve").exit_code == ExitStatus.WRONG_USAGE
    assert cli.ask("query", "account", "dev:eve")["nonce"] == before


def test_what_is_not_there(cli: Cli) -> None:
    for arguments in (
        ("block", "99999999"),
        ("block", NOTHING),
        ("tx", NOTHING),
        ("request", NOTHING),
        ("session", NOTHING),
        ("workers", "nonsense"),
    ):
        assert cli.refuse("query", *arguments)["error"] == "NothingFound"
    assert cli.refuse("query", "block", "x")["error"] == "ArgumentInvalid"
    assert cli.refuse("query", "proof", "0x123")["error"] == "ArgumentInvalid"
    assert cli.refuse("query", "tx", "0x12")["error"] == "HashInvalid"
    assert "no method" in cli.run("query", "call", "nonsense").stderr


def test_everything_that_can_be_asked_has_a_text(cli: Cli) -> None:
    assert "isHealthy" in cli.show("query", "head")
    assert "state root" in cli.show("query", "block")
    assert f"{ALICE} (alice)" in cli.show("query", "account", ALICE)
    assert f"{ALICE} (alice)" in cli.show("query", "validators")
    assert "100.0%" in cli.show("query", "validators")
    assert "no model" in cli.show("query", "models")
    assert cli.ask("query", "models") == []
    assert cli.show("query", "call", "system_name").strip() == '"myelin"'


def test_a_proof_is_checked_before_it_is_shown(cli: Cli) -> None:
    found = cli.ask("query", "account", "dev:alice")
    assert found["state_key"] == f"0x{accounts.key(get_dev_identity('alice').account).hex()}"
    proven = cli.ask("query", "proof", found["state_key"])
    assert proven["value"] is not None
    assert proven["block"] == cli.ask("query", "block", str(proven["height"]))["hash"]
    assert "it holds" in cli.show("query", "proof", found["state_key"])
    assert cli.ask("query", "proof", "0xabcd")["value"] is None


def test_a_light_client_believes_proofs_and_remembers(cli: Cli, tmp_path: Path) -> None:
    state, seen = ("--state", str(tmp_path / "light.json")), "--trusting-period-s"
    block_hash = json.loads(cli.show("query", "call", "chain_getBlockHash", "1"))
    begun = cli.ask("light", *state, seen, "600", "--trust", f"1:{block_hash}", "--witness", cli.url)
    assert (begun["verified"], begun["agreeing"]) == (True, [cli.url])
    found = cli.ask("light", *state, seen, "600", "--verify-account", "dev:alice")
    assert found["height"] >= begun["height"]
    assert found["block"] == cli.ask("query", "block", str(found["height"]))["hash"]
    assert found["account"]["free"] > 0
    assert cli.ask("light", *state, seen, "600", "--height", "1")["block"] == block_hash
    assert "verified" in cli.show("light", *state, seen, "600")
    other = ("--state", str(tmp_path / "other.json"))
    assert cli.refuse("light", *other, seen, "600")["error"] == "TrustMissing"
    assert cli.refuse("light", *other, "--trust", f"1:{block_hash}")["error"] == "TrustMissing"
    assert cli.refuse("light", *other, seen, "600", "--trust", "1")["error"] == "BlockIdInvalid"
    assert cli.refuse("light", *other, seen, "600", "--trust", f"2:{block_hash}")["error"] == "TrustMismatch"
    (tmp_path / "light.json").write_text("{", "utf-8")
    assert cli.refuse("light", *state, seen, "600")["error"] == "LightStateInvalid"


def test_a_node_that_does_not_answer(cli: Cli) -> None:
    away = Cli(cli.keys, f"http://127.0.0.1:{find_free_port()}")
    for arguments in (("query", "head"), ("tx", "remark", "x", "--account", "dev:eve")):
        error = away.refuse(*arguments, status=ExitStatus.UNREACHABLE)
        assert error["error"] == "RpcUnreachable"
        assert "is it running" in error["message"]


def test_the_installed_command_does_the_same(cli: Cli) -> None:
    argv = [*MYELIN, "tx", "transfer", ALICE, "1", "--account", "dev:nobody", "--rpc", cli.url]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (ExitStatus.REFUSED, "")
    assert done.stderr.startswith("error: CannotPayFee: ")
    assert done.stderr.count("\n") == 1
