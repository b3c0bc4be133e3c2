"""JSON form: accounts as addresses, bytes as hex, variants by name; every record of the runtime has one."""

from __future__ import annotations

import json
from typing import Annotated

import pytest

from consensus.runtime.events import Event
from consensus.runtime.inference.state import Worker
from consensus.runtime.receipts import BlockEvents, ModuleError, Receipt
from consensus.runtime.system.events import Remarked
from proto_specs.codec import Max, record
from proto_specs.jsonform import build_writer, to_json
from proto_specs.ss58 import encode_address
from proto_specs.types.calls import Call, Remark, Transfer
from proto_specs.types.chain import Block, Commit, Transaction, TransactionBody, Vote, VoteKind
from proto_specs.types.manifest import Manifest

ALICE = bytes(range(32))
PREFIX = 42


def test_a_variant_names_its_class_first_and_its_account_as_address() -> None:
    made = to_json(Transfer(ALICE, 2**64 - 1), PREFIX)
    assert list(made) == ["type", "dest", "amount"]
    assert made == {"type": "Transfer", "dest": encode_address(ALICE, PREFIX), "amount": 2**64 - 1}


def test_the_prefix_of_the_chain_decides_the_address() -> None:
    assert to_json(Transfer(ALICE, 1), 7)["dest"] == encode_address(ALICE, 7) != encode_address(ALICE, PREFIX)


def test_a_record_holds_its_fields_in_order_without_type() -> None:
    transaction = Transaction(TransactionBody(ALICE, 3, Remark(b"\x01\xff"), 0, 5, 64), bytes(64))
    made = to_json(transaction, PREFIX)
    assert list(made) == ["body", "signature"]
    assert list(made["body"]) == ["signer", "nonce", "call", "tip", "birth_height", "period_blocks"]
    assert made["body"]["call"] == {"type": "Remark", "data": "0x01ff"}
    assert made["signature"] == "0x" + "00" * 64


def test_an_absent_optional_is_null_and_a_present_one_is_its_value() -> None:
    nil = Vote(VoteKind.PREVOTE, 1, 0, None, ALICE, bytes(64))
    vote = Vote(VoteKind.PREVOTE, 1, 0, ALICE, ALICE, bytes(64))
    assert to_json(nil, PREFIX)["block_hash"] is None
    assert to_json(vote, PREFIX)["block_hash"] == "0x" + ALICE.hex()
    assert to_json(vote, PREFIX)["kind"] == 1


def test_lists_unions_and_nested_optionals() -> None:
    error = ModuleError(2, "InsufficientBalance")
    receipt = Receipt(ALICE, error, 1, 2, 3, (Remarked(ALICE, ALICE),))
    made = to_json(receipt, PREFIX)
    assert made["error"] == {"module": 2, "error": "InsufficientBalance", "item": None}
    assert made["events"] == [{"type": "Remarked", "who": encode_address(ALICE, PREFIX), "hash": "0x" + ALICE.hex()}]


@pytest.mark.parametrize("as_type", [Block, Commit, Transaction, Manifest, Worker, Receipt, BlockEvents, Call, Event])
def test_every_record_of_the_surface_has_a_form(as_type: object) -> None:
    build_writer(as_type)


@record
class Inner:
    """A field."""

    one: Annotated[bytes, Max(4)]


@record
class Outer:
    """Holds a field."""

    inner: Inner


def test_the_form_is_json() -> None:
    text = json.dumps(to_json(Outer(Inner(b"\x00")), PREFIX))
    assert text == '{"inner": {"one": "0x00"}}'


def test_a_value_without_form_is_refused() -> None:
    with pytest.raises(TypeError, match="no JSON form"):
        to_json(1.5, PREFIX)
