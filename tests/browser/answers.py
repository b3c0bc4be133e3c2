"""The steps that scripted answers are made of, as the gateway's wire has them: headers, then events, gates and ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

REQUEST = "59a4920b9dd60b047794d4eed39b9f4fd716986f699812f02c2884c7eb45edba"
SESSION = "f5a955575f4afd2b755e4522a1f665b541c91a50207922604323c687a94fe4d3"
WORKERS = ("1be4c3a9" * 8, "72d00b5f" * 8, "c93e6a18" * 8)
PATH = [
    {"worker": WORKERS[0], "start": 0, "end": 10, "prefill_price": 2000, "decode_price": 4000},
    {"worker": WORKERS[1], "start": 10, "end": 20, "prefill_price": 2000, "decode_price": 4500},
    {"worker": WORKERS[2], "start": 20, "end": 30, "prefill_price": 1800, "decode_price": 4000},
]
COST_NMYL = 163_200_000
DONE = "data: [DONE]\n\n"


@dataclass
class Gate:
    """A place of an answer where it waits until the test opens it."""

    is_open: threading.Event = field(default_factory=threading.Event)

    def open(self) -> None:
        self.is_open.set()


@dataclass(frozen=True)
class Refuse:
    """Instead of an answer: an error in OpenAI's shape. Only as the first step."""

    status: int
    message: str
    code: str
    retry_after: int | None = None


@dataclass(frozen=True)
class Break:
    """The connection ends in the middle of the stream."""


Step = dict[str, str] | str | Gate | Refuse | Break
"""Headers (the first step), bytes of the stream, or one of the above."""


def make_headers(request: str = REQUEST) -> dict[str, str]:
    return {"x-request-id": "req_1", "x-myelin-request": request, "x-myelin-session": SESSION}


def make_event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


def make_delta(text: str) -> str:
    return make_event({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]})


def make_end(
    tokens: int = 57, finish: str = "stop", request: str = REQUEST, cost_nmyl: int = COST_NMYL, state: str = "pending"
) -> Iterator[str]:
    """The last chunks of an answer that ended well."""
    yield make_event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    usage = {"prompt_tokens": 44, "completion_tokens": tokens, "total_tokens": 44 + tokens}
    requests = [{"id": request, "cost_nmyl": cost_nmyl, "state": state}]
    yield make_event(
        {"choices": [], "usage": usage, "myelin": {"requests": requests, "session": SESSION, "path": PATH}}
    )
    yield DONE


def tell(text: str, request: str = REQUEST, pieces: int = 12) -> Iterator[Step]:
    """A whole answer, in pieces, with the comments that keep a connection alive."""
    yield make_headers(request)
    yield ": ping\n\n"
    size = max(1, -(-len(text) // pieces))
    for at in range(0, len(text), size):
        yield make_delta(text[at : at + size])
        yield ": ping\n\n"
    yield from make_end(request=request)


def make_proof(state: str, *statuses: str, drawn: tuple[int, ...] = (), returned: int = 0) -> dict[str, Any]:
    """What `GET /v1/requests/ID` answers; `statuses` are those of the path's stages, in order."""
    stages = [
        {
            "worker": one["worker"],
            "start": one["start"],
            "end": one["end"],
            "status": status,
            "drawn": index in drawn,
            "distance_ppb": (61_000_000 if status == "slashed" else 412_000) if index in drawn else None,
            "threshold_ppb": 10_000_000 if index in drawn else None,
        }
        for index, (one, status) in enumerate(zip(PATH, statuses, strict=False))
    ]
    return {
        "id": REQUEST,
        "state": state,
        "final": state not in ("pending", "settled"),
        "price_nmyl": COST_NMYL,
        "returned_nmyl": returned,
        "stages": stages,
    }
