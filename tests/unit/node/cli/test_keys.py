"""`myelin keys`: words out and in, one file a key, what is shown needs no password, refusals that say what to do."""

from __future__ import annotations

import json

import pytest

from node.keys.derivation import KeyKind, derive_key
from node.keys.keystore import Keystore, get_dev_key
from proto_specs.ss58 import encode_address
from tests.unit.node.cli.conftest import QUICK_N, Cli

WORDS = "abandon " * 11 + "about"


def test_the_words_make_the_same_key_again(cli: Cli) -> None:
    made = cli.ask("keys", "new", "first", typed="secret\n")
    assert len(made["words"].split()) == 24
    key = derive_key(made["words"], KeyKind.ACCOUNT)
    assert made["address"] == encode_address(key.public_key, 42)
    assert Keystore(cli.keys).load("first", "secret") == key
    again = cli.ask("keys", "import", "second", typed=f"{made['words'].upper()}\nother\n")
    assert again["public_key"] == made["public_key"]
    assert "words" not in again
    assert Keystore(cli.keys).load("second", "other") == key


def test_the_words_are_printed_once_and_kept_nowhere(cli: Cli) -> None:
    done = cli.run("keys", "new", "first", typed="secret\n")
    words = done.stdout.splitlines()[0]
    assert len(words.split()) == 24
    assert done.stdout.count(words) == 1
    assert "only backup" in done.stderr
    assert words not in Keystore(cli.keys).get_path("first").read_text()
    assert words not in cli.run("keys", "show", "first").stdout


def test_the_key_files_of_this_test_are_cheap(cli: Cli) -> None:
    cli.ask("keys", "new", "first", typed="secret\n")
    assert json.loads(Keystore(cli.keys).get_path("first").read_text())["crypto"]["n"] == QUICK_N


@pytest.mark.parametrize("kind", list(KeyKind))
def test_every_kind_has_keys_of_its_own(cli: Cli, kind: KeyKind) -> None:
    found = cli.ask("keys", "import", "mine", "--kind", kind.value, "--index", "3", typed=f"{WORDS}\nsecret\n")
    assert found["public_key"] == f"0x{derive_key(WORDS, kind, 3).public_key.hex()}"
    assert found["kind"] == kind.value
    assert ("address" in found) is (kind is KeyKind.ACCOUNT), "an address is an account's"


def test_list_and_show_need_no_password(cli: Cli) -> None:
    assert "keys new" in cli.run("keys", "list").stdout
    assert cli.ask("keys", "list") == []
    cli.ask("keys", "import", "b", typed=f"{WORDS}\nsecret\n")
    cli.ask("keys", "import", "a", "--kind", "worker", typed=f"{WORDS}\nsecret\n")
    assert [one["name"] for one in cli.ask("keys", "list")] == ["a", "b"]
    public_key = derive_key(WORDS, KeyKind.ACCOUNT).public_key
    for prefix in (42, 0, 7_731):
        address = encode_address(public_key, prefix)
        assert cli.ask("keys", "show", "b", "--prefix", str(prefix))["address"] == address
        assert address in cli.run("keys", "show", "b", "--prefix", str(prefix)).stdout
        assert address in cli.run("keys", "list", "--prefix", str(prefix)).stdout


def test_development_names_are_shown_too(cli: Cli) -> None:
    found = cli.ask("keys", "show", "dev:alice", "--kind", "validator")
    assert found["public_key"] == f"0x{get_dev_key('alice', KeyKind.VALIDATOR).public_key.hex()}"


def test_refusals_say_what_to_do(cli: Cli) -> None:
    cli.ask("keys", "new", "first", typed="secret\n")
    assert "choose another name" in cli.refuse("keys", "new", "first", typed="secret\n")
    assert "no key name" in cli.refuse("keys", "new", "../x", typed="secret\n")
    assert "a mnemonic has 12, 15" in cli.refuse("keys", "new", "x", "--words", "13", typed="secret\n")
    assert "3 words" in cli.refuse("keys", "import", "x", typed="a b c\nsecret\n")
    assert "word 2" in cli.refuse("keys", "import", "x", typed="abandon qwerty " + "abandon " * 10 + "\nsecret\n")
    assert "checksum" in cli.refuse("keys", "import", "x", typed="abandon " * 12 + "\nsecret\n")
    assert "myelin keys new" in cli.refuse("keys", "show", "nobody")
    cli.refuse("keys", "show", "first", "--prefix", "20000", status=2)
    cli.refuse("keys", "new", "x", "--kind", "banker", status=2)
    assert [one["name"] for one in cli.ask("keys", "list")] == ["first"], "no refusal left a file"


def test_no_password_is_no_password(cli: Cli) -> None:
    assert "missing" in cli.refuse("keys", "new", "x", typed="")
    assert "empty" in cli.refuse("keys", "new", "x", typed="\n")
    assert "words of the key is missing" in cli.refuse("keys", "import", "x", typed="")
    assert "missing" in cli.refuse("keys", "import", "x", typed=f"{WORDS}\n")
    assert cli.ask("keys", "list") == []


def test_errors_are_json_for_those_who_asked_for_json(cli: Cli) -> None:
    error = json.loads(cli.refuse("keys", "show", "nobody", "--json"))
    assert error["error"] == "KeystoreMissing"
    assert "myelin keys new" in error["message"]
