"""Blocks, transactions, accounts, validators and proofs as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from node.cli.amounts import format_myl
from node.cli.connect import Connection
from node.cli.plain import print_pairs, print_table
from node.cli.sending import format_record

Json = dict[str, Any]


def show_health(node: Connection, found: Json) -> None:
    """Print every field that has a value."""
    print_pairs((name, str(value)) for name, value in found.items() if value is not None)


def show_block(node: Connection, found: Json) -> None:
    """Print header, signatures, and a line for each transaction."""
    header = found["block"]["header"]
    time = datetime.fromtimestamp(header["time_ms"] / 1000, UTC).isoformat(timespec="milliseconds")
    transactions = found["block"]["transactions"]
    print_pairs(
        [
            ("height", str(header["height"])),
            ("hash", found["hash"]),
            ("parent", header["parent_hash"]),
            ("time", time),
            ("proposer", header["proposer"]),
            ("state root", header["state_root"]),
            ("evidence", str(len(found["block"]["evidence"]))),
            ("signed by", f"{len(found['commit']['signatures'])} in round {found['commit']['round']}"),
            ("transactions", str(len(transactions))),
        ]
    )
    if not transactions:
        return
    rows = []
    for index, (one, receipt) in enumerate(zip(transactions, found["receipts"], strict=True)):
        body, error = one["body"], receipt["error"]
        outcome = "ok" if error is None else error["error"]
        fee = format_myl(receipt["fee"] + receipt["tip"])
        rows.append((str(index), receipt["extrinsic"], outcome, fee, node.name(body["signer"]), body["call"]["type"]))
    print()
    print_table(("index", "extrinsic", "outcome", "paid", "by", "call"), rows, right=("index", "paid"))


def show_transaction(node: Connection, found: Json) -> None:
    """Print the transaction's place; in a block, its fee and events too."""
    pairs = [("extrinsic", found["extrinsic"])]
    if found["status"] == "finalized":
        receipt = found["receipt"]
        error = receipt["error"]
        pairs += [
            ("status", "finalized" if error is None else f"failed: {error['error']} (its fee is paid)"),
            ("block", f"{found['height']}, transaction {found['index']}"),
            ("fee", format_myl(receipt["fee"])),
            ("tip", format_myl(receipt["tip"])),
            *(("event", format_record(one)) for one in receipt["events"]),
        ]
    else:
        pairs.append(("status", f"{found['status']}: waits for a block"))
    print_pairs(pairs)


def show_account(node: Connection, found: Json) -> None:
    """Print balances, holds and unbonding stake."""
    held = ", ".join(f"{format_myl(amount)} {name}" for name, amount in found["holds"].items() if amount)
    pairs = [
        ("account", node.name(found["account"])),
        ("nonce", str(found["nonce"])),
        ("free", format_myl(found["free"])),
        ("reserved", format_myl(found["reserved"]) + (f" ({held})" if held else "")),
        ("bonded", format_myl(found["bonded"])),
    ]
    pairs += [("unbonding", f"{format_myl(one['amount'])} from block {one['height']} on") for one in found["unbonding"]]
    print_pairs([*pairs, ("state key", found["state_key"])])


def show_validators(node: Connection, found: list[Json]) -> None:
    """Print a line for each validator."""
    total = sum(one["power"] for one in found)
    rows = [
        (
            node.name(one["operator"]),
            one["key"],
            format_myl(one["power"]),
            f"{one['power'] / total:.1%}",
            f"{one['signed']}/{one['blocks']}",
        )
        for one in found
    ]
    print_table(("operator", "consensus key", "stake", "share", "signed"), rows, right=("stake", "share", "signed"))


def show_proof(node: Connection, found: Json) -> None:
    """Print the value and what it was checked against."""
    print_pairs(
        [
            ("key", found["key"]),
            ("value", found["value"] or "none: the key holds nothing"),
            ("block", f"{found['height']}, {found['block']}"),
            ("state root", found["state_root"]),
            ("proof", f"{found['pages']} pages, checked here against the header: it holds"),
        ]
    )
