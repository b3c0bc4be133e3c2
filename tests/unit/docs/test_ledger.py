"""The code of docs/ledger.md makes the transactions of the vectors: a wallet built from the page alone works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from genesis.dev import get_dev_identity
from proto_specs.codec import encode
from proto_specs.types.calls import Transfer
from proto_specs.types.chain import TransactionBody, compute_extrinsic_hash, sign_transaction

ROOT = Path(__file__).parents[3]


def load_page_code() -> dict[str, Any]:
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "ledger.md").read_text("utf-8"), re.DOTALL)
    scope: dict[str, Any] = {}
    exec(compile(source, "docs/ledger.md", "exec"), scope)  # noqa: S102
    return scope


def test_the_page_s_code_makes_what_the_node_takes() -> None:
    make_transfer = load_page_code()["make_transfer"]
    genesis, bob = bytes([1]) * 32, get_dev_identity("bob")
    for nonce, amount, tip in ((0, 1, 0), (7, 1 << 40, 5), (1 << 33, (1 << 64) - 1, 1 << 20)):
        body = TransactionBody(bob.account, nonce, Transfer(bytes(range(32)), amount), tip, 0, 0)
        expected = sign_transaction(body, genesis, genesis, bob.account_key)
        made = make_transfer(bob.account_key.seed, genesis, nonce, bytes(range(32)), amount, tip)
        assert made == (encode(expected), compute_extrinsic_hash(expected))


def test_the_pages_it_names_are_there() -> None:
    page = (ROOT / "docs" / "ledger.md").read_text("utf-8")
    names = set(re.findall(r"`([\w/]+\.(?:md|py|json))`", page))
    missing = {one for one in names if not (ROOT / one).exists() and not (ROOT / "proto_specs" / one).exists()}
    assert missing == set()
