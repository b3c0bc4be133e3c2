"""Who received what for the requests of an answer, from the chain's receipts. Pure over `chain_getReceipts`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

BURN = "burn"

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """`amount` nmyl to `who` (an address, or "burn"), in block `height`; `role` is the recipient's role."""

    who: str
    role: str
    what_for: str
    amount: int
    height: int


@dataclass(frozen=True, slots=True)
class PaymentRows:
    """Every payment of an answer, in chain order; slashes are separate, since the client does not pay them."""

    rows: tuple[Row, ...]
    slashes: tuple[Row, ...]


def collect_payments(requests: Set[str], sessions: Set[str], blocks: Iterable[tuple[int, Json]]) -> PaymentRows:
    """Payments about requests (0x ids) and their sessions in (height, result of chain_getReceipts) pairs."""
    rows: list[Row] = []
    slashes: list[Row] = []
    challenges: dict[str, int] = {}
    for height, block in blocks:
        for event in _iterate_events(block):
            if event["type"] == "ChallengeDrawn" and event["request"] in requests:
                challenges[event["challenge"]] = event["stage"]
            if event["type"] == "WorkerSlashed" and event["request"] in requests:
                what = f"stage {event['stage']} was proven wrong"
                slashes.append(Row(event["operator"], "worker", what, event["amount"], height))
            if event["type"] == "WorkerCharged" and event["request"] in requests:
                what = f"stage {event['stage']} was not opened"
                slashes.append(Row(event["operator"], "worker", what, event["amount"], height))
            rows += _make_rows(event, requests, sessions, challenges, height)
        rows += _make_fee_rows(block, requests, sessions, challenges, height)
    return PaymentRows(tuple(rows), tuple(slashes))


def find_notice_fee(session: str, block: Json) -> int | None:
    """What it cost to give notice of a session (0x id) in this block; None where nobody did."""
    for receipt in block["receipts"]:
        if any(one["type"] == "SessionClosing" and one["session"] == session for one in receipt["events"]):
            return int(receipt["fee"])
    return None


def _iterate_events(block: Json) -> Iterable[Json]:
    yield from block["events"]["initialize"]
    for receipt in block["receipts"]:
        yield from receipt["events"]
    yield from block["events"]["finalize"]


def _make_rows(
    event: Json, requests: Set[str], sessions: Set[str], challenges: Mapping[str, int], height: int
) -> list[Row]:
    kind = event["type"]
    if kind == "VerifierPaid" and event["challenge"] in challenges:
        what = f"verifying stage {challenges[event['challenge']]}"
        return [Row(event["verifier"], "block producer", what, event["amount"], height)]
    if kind == "SessionClosed" and event["session"] in sessions and event["refund"]:
        return [Row(event["client"], "client", "rest of the escrow", event["refund"], height)]
    if kind == "TipsPaid":
        return [Row(event["operator"], "block producer", "tips of the block", event["amount"], height)]
    if kind == "ValidatorRewarded":
        what = f"emission: signed {event['signed']} of {event['blocks']} blocks"
        return [Row(event["operator"], "block producer", what, event["amount"], height)]
    if event.get("request") not in requests:
        return []
    match kind:
        case "StagePaid":
            checked = "verified" if event["challenged"] else "not drawn"
            return [Row(event["operator"], "worker", f"stage {event['stage']}, {checked}", event["amount"], height)]
        case "FeeBurned":
            return [Row(BURN, BURN, f"share of stage {event['stage']}", event["amount"], height)]
        case "VerificationPoolPaid":
            return [Row("verification pool", "pool", f"stage {event['stage']}", event["amount"], height)]
        case "StageRefunded":
            what = f"refund of stage {event['stage']}"
            return [Row(event["client"], "client", what, event["amount"], height)]
        case "WorkerSlashed":
            rows = [
                Row(event["client"], "client", "compensation out of the slash", event["compensation"], height),
                Row(BURN, BURN, "out of the slash", event["burned"], height),
            ]
            return [row for row in rows if row.amount]
        case "WorkerCharged":
            return [Row(BURN, BURN, "out of what a withheld stage cost its worker", event["burned"], height)]
        case "DepositForfeited":
            what = f"deposit of the settler of stage {event['stage']}"
            return [Row("verification pool", "pool", what, event["amount"], height)]
        case _:
            return []


def _make_fee_rows(
    block: Json, requests: Set[str], sessions: Set[str], challenges: Mapping[str, int], height: int
) -> list[Row]:
    """Transaction fees of the receipts that are about these requests; the fee without tip is burned."""
    rows = []
    for receipt in block["receipts"]:
        kinds = [
            event["type"]
            for event in receipt["events"]
            if event.get("request") in requests
            or event.get("session") in sessions
            or event.get("challenge") in challenges
        ]
        if kinds:
            rows.append(Row(BURN, BURN, f"transaction fee ({kinds[0]})", receipt["fee"], height))
    return rows
