"""A peer that answers late is asked again; one that never answers is named; what was measured before is kept."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from benchmarks.chain import __main__ as bench
from benchmarks.chain import injective
from benchmarks.chain.load import LoadFailed

EARLY = {"jsonrpc": "2.0", "id": -1, "error": {"code": -32603, "message": "could not find results for height #7"}}
KNOWN = {"jsonrpc": "2.0", "id": -1, "result": {"height": "7", "txs_results": None}}


def make_client(answers: list[httpx.Response | Exception]) -> httpx.AsyncClient:
    """Gives one answer after the other, the last one for ever."""

    def answer(_request: httpx.Request) -> httpx.Response:
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, Exception):
            raise found
        return found

    return httpx.AsyncClient(base_url="http://peer", transport=httpx.MockTransport(answer))


async def ask(answers: list[httpx.Response | Exception], patience_s: float) -> object:
    async with make_client(answers) as client:
        return await injective.ask_peer(client, "/block_results", time.monotonic() + patience_s, height=7)


def run(answers: list[httpx.Response | Exception], patience_s: float) -> object:
    return asyncio.run(ask(answers, patience_s))


def test_results_that_come_after_their_height_is_named() -> None:
    late = [httpx.ConnectError("refused"), httpx.Response(502, text="<html>"), httpx.Response(500, json=EARLY)]
    assert run([*late, httpx.Response(200, json=KNOWN)], 30) == KNOWN["result"]


def test_who_never_answers_is_named() -> None:
    with pytest.raises(LoadFailed, match=r"injectived does not answer /block_results: .*could not find results"):
        run([httpx.Response(500, json=EARLY)], 0)


def test_what_was_measured_before_a_failure_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    def fail(*_: object) -> dict[str, object]:
        raise LoadFailed("injectived does not answer /status")

    monkeypatch.setattr(bench, "_measure_whole_path", fail)
    monkeypatch.setattr(bench, "_measure_scale", lambda *_: {"anvil": {"median": 5.0}, "py_evm": {"per_s": 7.0}})
    found = bench.run_parts(["scale", "whole-path"], tmp_path, tmp_path)
    assert found["failed"] == {"whole-path": "injectived does not answer /status"}
    bench.print_table(found)
    assert "py-evm" in capsys.readouterr().out
