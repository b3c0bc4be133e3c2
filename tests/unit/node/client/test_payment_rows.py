"""The statement of a request, from receipts recorded of a network of real processes: an honest run and a caught cheat.

Recorded with `chain_getReceipts` from the block that opened the session on; blocks without events are left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from node.client.payment_rows import BURN, PaymentRows, Row, collect_payments

RECORDED = Path(__file__).parent / "recorded"


@dataclass
class Recording:
    request: str
    session: str
    price: int
    blocks: list[tuple[int, Any]]

    def collect(self) -> PaymentRows:
        return collect_payments({self.request}, {self.session}, self.blocks)


@pytest.fixture(params=["honest", "cheat"])
def recording(request: pytest.FixtureRequest) -> Recording:
    return load(request.param)


def load(name: str) -> Recording:
    return Recording(**json.loads((RECORDED / f"{name}.json").read_text()))


def is_of_the_price(row: Row) -> bool:
    """Whether a row is a part of what the client paid for the request."""
    is_stage = row.what_for.startswith(("stage ", "share of stage", "refund of stage"))
    return is_stage or row.what_for.startswith("verifying stage")


def test_every_nmyl_of_an_honest_request_is_accounted_for() -> None:
    recording = load("honest")
    statement = recording.collect()
    assert sum(row.amount for row in statement.rows if is_of_the_price(row)) == recording.price
    workers = [row for row in statement.rows if row.role == "worker"]
    assert sorted(row.what_for for row in workers) == [f"stage {at}, verified" for at in range(3)]
    assert len({row.who for row in workers}) == 3
    assert len({row.amount for row in workers}) == 1
    assert statement.slashes == ()
    assert not [row for row in statement.rows if row.role == "client"]


def test_a_cheat_pays_back_the_client_and_is_named() -> None:
    recording = load("cheat")
    statement = recording.collect()
    (slash,) = statement.slashes
    assert slash.what_for == "stage 1 was proven wrong"
    client = [row for row in statement.rows if row.role == "client"]
    assert [row.what_for for row in client] == ["refund of stage 1", "compensation out of the slash"]
    assert sum(row.amount for row in client) == recording.price
    assert slash.who not in {row.who for row in statement.rows if row.role == "worker"}
    bounty = next(row for row in statement.rows if row.what_for == "verifying stage 1")
    burned = next(row for row in statement.rows if row.what_for == "out of the slash")
    assert slash.amount == bounty.amount + burned.amount + client[1].amount


def test_fees_are_those_of_the_request_s_own_transactions(recording: Recording) -> None:
    fees = [row for row in recording.collect().rows if row.what_for.startswith("transaction fee")]
    kinds = [row.what_for.removeprefix("transaction fee ") for row in fees]
    assert kinds[:2] == ["(SessionOpened)", "(RequestSettled)"]
    assert sorted(kinds[2:]) == ["(VerdictCommitted)"] * 3 + ["(VerdictRevealed)"] * 3
    assert all(row.who == BURN and row.amount > 0 for row in fees)
    total = sum(receipt["fee"] for _, block in recording.blocks for receipt in block["receipts"])
    assert sum(row.amount for row in fees) == total


def test_rows_are_in_the_order_of_the_chain(recording: Recording) -> None:
    statement = recording.collect()
    heights = [row.height for row in statement.rows]
    assert heights == sorted(heights)


def test_another_request_has_no_part_in_it(recording: Recording) -> None:
    other = collect_payments({"0x" + "ab" * 32}, {"0x" + "cd" * 32}, recording.blocks)
    assert {row.what_for.split(":")[0] for row in other.rows} <= {"emission", "tips of the block"}
    assert other.slashes == ()


def test_a_withheld_stage_and_a_forfeited_deposit_are_shown() -> None:
    about = {"request": "0x01", "stage": 2}
    charged = {"type": "WorkerCharged", "operator": "W", "worker": "0x02", "amount": 30, "bounty": 10, "burned": 20}
    forfeited = {"type": "DepositForfeited", "settler": "S", "amount": 7}
    events = {"initialize": [{**charged, **about}, {**forfeited, **about}], "finalize": []}
    shown = collect_payments({"0x01"}, set(), [(9, {"events": events, "receipts": []})])
    assert shown.slashes == (Row("W", "worker", "stage 2 was not opened", 30, 9),)
    assert [(row.who, row.amount) for row in shown.rows] == [(BURN, 20), ("verification pool", 7)]
