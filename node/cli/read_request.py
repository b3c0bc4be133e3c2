"""All that the chain knows of a request or session, read over RPC and combined into a JSON object."""

from __future__ import annotations

from typing import Any

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import Challenge, Request, Reveal, SessionStatus, StageStatus
from consensus.state.reader import StateReader
from node.cli.connect import Connection
from node.client.payment_rows import Row, collect_payments
from node.client.statement_files import StatedRequest
from proto_specs.jsonform import to_json
from proto_specs.types.calls import Outcome
from proto_specs.types.request import compute_stage_price
from proto_specs.types.verdict import compute_challenge_id

BLOCK_EVENTS = ("TipsPaid", "ValidatorRewarded")
"""Payments for whole blocks, which are no part of a request's payments."""

_Found = tuple[Request, str, int, list[tuple[Challenge, dict[bytes, Reveal]] | None]]
"""(request, the model's name, height its session was opened in, challenge and reveals by stage)."""


async def collect_request(node: Connection, request_id: bytes) -> dict[str, Any] | None:
    """A settled request with its stages, challenges, reveals and payments; None when the chain has none."""
    found = await node.chain.read(_read_request, request_id)
    if found is None:
        return None
    request, model_name, opened_height, challenges = found
    shown: dict[str, Any] = to_json(request, node.prefix)
    for stage, one, challenge in zip(shown["stages"], request.stages, challenges, strict=True):
        stage["status"] = StageStatus(one.status).name.lower()
        stage["challenge"] = None if challenge is None else _describe_challenge(node, *challenge)
    text, session = f"0x{request_id.hex()}", shown["session"]
    blocks = await _read_blocks(node, text, opened_height, request.settled_height)
    statement = collect_payments({text}, {session}, blocks)
    return {
        "request": text,
        **shown,
        "model_name": model_name,
        "status": "open" if request.open_stages else "resolved",
        "payments": [_describe_row(one) for one in statement.rows],
        "slashes": [_describe_row(one) for one in statement.slashes],
    }


async def collect_stated(node: Connection, stated: StatedRequest) -> dict[str, Any] | None:
    """The statement that a request settled in, and its part of that; None when it is not on chain (any more)."""
    found = await collect_request(node, stated.statement)
    if found is None:
        return None
    leaf = stated.leaf
    shares = [compute_stage_price(stage, leaf.billed_prompt, leaf.tokens) for stage in stated.told.path]
    part = {"request": f"0x{leaf.request.hex()}", "sequence": leaf.sequence, "price": sum(shares)}
    return {**found, "part": {**part, "prompt_tokens": leaf.billed_prompt, "tokens": leaf.tokens}}


async def collect_session(node: Connection, session_id: bytes) -> dict[str, Any] | None:
    """A session and its settled requests; None when the chain has none."""
    found = await node.chain.read(queries.read_session, session_id)
    if found is None:
        return None
    requests = await node.chain.read(queries.list_requests, session_id)
    return {
        "session": f"0x{session_id.hex()}",
        **to_json(found, node.prefix),
        "status": SessionStatus(found.status).name.lower(),
        "promisable": found.promisable,
        "requests": [{"sequence": sequence, "request": f"0x{one.hex()}"} for sequence, one in requests],
    }


async def list_open_sessions(node: Connection, account: bytes) -> dict[str, Any]:
    """The sessions that an account can close, with what is left in each."""
    found = await node.chain.read(queries.list_sessions, account)
    return {
        "sessions": [
            {"session": f"0x{key.hex()}", **to_json(one, node.prefix), "status": "open"}
            for key, one in found
            if one.status == SessionStatus.OPEN
        ]
    }


def _read_request(state: StateReader, request_id: bytes) -> _Found | None:
    request = queries.read_request(state, request_id)
    if request is None:
        return None
    manifest, session = queries.read_manifest(state, request.model), queries.read_session(state, request.session)
    challenges: list[tuple[Challenge, dict[bytes, Reveal]] | None] = []
    for number in range(len(request.stages)):
        challenge_id = compute_challenge_id(request_id, number)
        challenge = queries.read_challenge(state, challenge_id)
        challenges.append(None if challenge is None else (challenge, queries.read_reveals(state, challenge_id)))
    opened = request.settled_height if session is None else session.opened_height
    return request, "" if manifest is None else manifest.name, opened, challenges


def _describe_challenge(node: Connection, challenge: Challenge, reveals: dict[bytes, Reveal]) -> dict[str, Any]:
    return {
        **to_json(challenge, node.prefix),
        "outcome": None if challenge.outcome is None else Outcome(challenge.outcome).name.lower(),
        "reveals": [
            {
                "verifier": node.address(verifier),
                **to_json(reveal, node.prefix),
                "outcome": Outcome(reveal.outcome).name.lower(),
            }
            for verifier, reveal in reveals.items()
        ],
    }


async def _read_blocks(node: Connection, request: str, opened: int, settled: int) -> list[tuple[int, Any]]:
    """(height, receipts) of the block with the escrow, and of the blocks from settlement to resolution."""
    blocks: list[tuple[int, Any]] = []
    last = await node.chain.get_height()
    for height in sorted({opened, *range(settled, last + 1)}):
        found = await node.rpc.call("chain_getReceipts", height)
        if found is None:
            continue  # pruned: its payments can no longer be read
        blocks.append((height, _keep_request_events(found, request)))
        if height >= settled and any(_is_resolution(one, request) for one in _list_events(found)):
            break
    return blocks


def _keep_request_events(block: dict[str, Any], request: str) -> dict[str, Any]:
    """The block without the events of other requests (perhaps of the same session) or of the whole block."""

    def keep(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [one for one in events if one["type"] not in BLOCK_EVENTS and one.get("request", request) == request]

    receipts = [{**one, "events": keep(one["events"])} for one in block["receipts"]]
    return {"receipts": receipts, "events": {phase: keep(events) for phase, events in block["events"].items()}}


def _list_events(block: dict[str, Any]) -> list[dict[str, Any]]:
    receipts = [one for receipt in block["receipts"] for one in receipt["events"]]
    return [*block["events"]["initialize"], *receipts, *block["events"]["finalize"]]


def _is_resolution(event: dict[str, Any], request: str) -> bool:
    return bool(event["type"] == "RequestResolved" and event["request"] == request)


def _describe_row(row: Row) -> dict[str, Any]:
    return {"who": row.who, "as": row.role, "for": row.what_for, "amount": row.amount, "height": row.height}
