"""keys, tx and query as a user types them, against a running node: text, JSON, exit statuses, no traceback ever."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from genesis.dev import get_dev_identity
from node.cli.errors import EXIT_ERROR, EXIT_UNREACHABLE, EXIT_USAGE
from proto_specs.ss58 import encode_address
from tests.integration.node.processes import MYELIN, REPOSITORY, NodeDirectory

pytestmark = pytest.mark.slow
WORDS = "abandon " * 11 + "about"
ALICE = encode_address(get_dev_identity("alice").account, 42)


class Cli:
    """Runs `myelin` with a key directory and a node."""

    def __init__(self, keys: Path, url: str) -> None:
        self._keys = keys
        self._url = url

    def run(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        argv = [*MYELIN, *arguments]
        if arguments[0] != "query" or arguments[1] == "account":
            argv += ["--keys", str(self._keys)]
        if arguments[0] != "keys":
            argv += ["--rpc", self._url]
        done = subprocess.run(
            argv, input=typed, capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def ask(self, *arguments: str, typed: str = "") -> Any:
        done = self.run(*arguments, "--json", typed=typed)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refuse(self, *arguments: str, typed: str = "", status: int = EXIT_ERROR) -> str:
        done = self.run(*arguments, typed=typed)
        assert done.returncode == status, (done.stdout, done.stderr)
        return done.stderr


@pytest.fixture
def cli(tmp_path: Path, shared_node: NodeDirectory) -> Cli:
    return Cli(tmp_path / "keys", shared_node.url)


def test_keys_are_made_from_words_and_only_once(cli: Cli) -> None:
    made = cli.ask("keys", "new", "first", typed="password\n")
    assert len(made["words"].split()) == 24
    again = cli.ask("keys", "import", "second", typed=f"{made['words']}\nother\n")
    assert again["address"] == made["address"]
    assert "already" in cli.refuse("keys", "new", "first", typed="password\n")
    assert "3 words" in cli.refuse("keys", "import", "third", typed="a b c\nx\n")
    assert "no key name" in cli.refuse("keys", "new", "../x", typed="password\n")
    assert [one["name"] for one in cli.ask("keys", "list")] == ["first", "second"]
    assert cli.ask("keys", "show", "first")["address"] == made["address"]
    assert "myelin keys new" in cli.refuse("keys", "show", "nobody")
    assert cli.ask("keys", "show", "dev:alice")["address"] == ALICE
    words = cli.run("keys", "new", "shown", typed="password\n")
    assert len(words.stdout.splitlines()[0].split()) == 24


def test_a_transfer_from_the_price_to_the_receipt(cli: Cli) -> None:
    cli.ask("keys", "import", "mine", typed=f"{WORDS}\nsecret\n")
    price = cli.ask("tx", "transfer", "mine", "2.5", "--account", "dev:charlie", "--dry-run")
    assert cli.ask("query", "account", "mine")["free"] == 0
    done = cli.ask("tx", "transfer", "mine", "2.5", "--account", "dev:charlie")
    assert abs(done["fee"] - price["fee"]) < 500, "the birth block's number may have grown by a digit meanwhile"
    assert cli.ask("query", "account", "mine")["free"] == 2_500_000_000
    status = cli.ask("query", "tx", done["extrinsic"])
    assert (status["status"], status["height"]) == ("finalized", done["height"])
    assert cli.ask("query", "block", str(done["height"]))["block"]["header"]["height"] == done["height"]
    text = cli.run("query", "tx", done["extrinsic"]).stdout
    assert "Transferred" in text
    back = cli.ask("tx", "transfer", "dev:charlie", "1", "--account", "mine", "--wait", "submitted", typed="secret\n")
    assert back["status"] == "submitted"
    assert "does not open" in cli.refuse("tx", "transfer", ALICE, "1", "--account", "mine", typed="wrong\n")


def test_stake(cli: Cli) -> None:
    assert cli.ask("tx", "bond", "10", "--account", "dev:dave")["status"] == "finalized"
    assert cli.ask("query", "account", "dev:dave")["reserved"] == 10 * 10**9
    assert cli.ask("tx", "unbond", "4", "--account", "dev:dave")["status"] == "finalized"
    assert "NothingToWithdraw" in cli.refuse("tx", "withdraw", "--account", "dev:dave")
    assert "InsufficientStake" in cli.refuse("tx", "register-validator", "dev:dave", "--account", "dev:dave")


def test_refusals_say_what_to_do_and_have_their_status(cli: Cli, tmp_path: Path) -> None:
    assert "InsufficientBalance" in cli.refuse("tx", "transfer", "dev:bob", "9000000", "--account", "dev:eve")
    assert "no amount" in cli.refuse("tx", "transfer", "dev:bob", "1e5", "--account", "dev:eve")
    assert "base58" in cli.refuse("tx", "transfer", "0OIl", "1", "--account", "dev:eve")
    assert "typing error" in cli.refuse("tx", "transfer", ALICE[:-1] + "1", "1", "--account", "dev:eve")
    assert "knows no block" in cli.refuse("query", "block", "99999999")
    assert "no method" in cli.refuse("query", "call", "nonsense")
    cli.refuse("tx", "transfer", "dev:bob", status=EXIT_USAGE)
    away = Cli(tmp_path, "http://127.0.0.1:9")
    assert "is it running" in away.refuse("query", "head", status=EXIT_UNREACHABLE)


def test_everything_that_can_be_asked_has_a_text(cli: Cli) -> None:
    for arguments in (["head"], ["block"], ["validators"], ["models"], ["account", "dev:alice"]):
        done = cli.run("query", *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
    assert ALICE in cli.run("query", "account", ALICE).stdout
    assert cli.run("query", "call", "system_name").stdout.strip() == '"myelin"'
