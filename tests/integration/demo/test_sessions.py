"""Sessions that last, on a real network: one for a conversation, one for many at once, none left behind by a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import Session, SessionStatus
from genesis.dev import get_dev_identity
from myelin.client import Client, connect
from myelin.sync import connect_sync
from node.client.answer import Resolution
from tests.integration.demo.conftest import Running

pytestmark = [pytest.mark.slow, pytest.mark.leaves_open]

CLIENT = get_dev_identity("client")


async def list_sessions(running: Running) -> dict[bytes, Session]:
    return dict(await running.chain.read(queries.list_sessions, CLIENT.account))


async def wait_settled(running: Running, session: bytes, count: int) -> None:
    with trio.fail_after(60):
        while (await list_sessions(running))[session].requests_settled < count:
            await trio.sleep(0.1)


def list_files(sessions: Path) -> list[Path]:
    return sorted(sessions.rglob("*.session"))


async def test_sessions_that_last(running: Running, tmp_path: Path) -> None:
    """One network for all of it."""
    sessions = tmp_path / "client-sessions"
    models = Path(running.plan.models)
    async with connect(rpc=running.rpc_url, seed=CLIENT.account_key.seed, models=models, sessions=sessions) as client:
        await talk(running, client)
        await ask_at_once(running, client)
        assert len(await list_sessions(running)) == 1
    assert list_files(sessions) == []
    assert {one.status for one in (await list_sessions(running)).values()} == {SessionStatus.CLOSING}
    await trio.to_thread.run_sync(ask_without_async, running, models, sessions)
    await run_the_page_s_example(running, tmp_path)
    await infer_twice_at_once(running)
    await die(running, sessions)
    await converse(running, tmp_path)
    await interrupt(running, tmp_path)


async def talk(running: Running, client: Client) -> None:
    """Ten turns, one session; the first is verified and its payment is proven."""
    messages: list[dict[str, str]] = []
    receipts = []
    for number in range(10):
        messages.append({"role": "user", "content": f"Name the number {number}."})
        async with client.chat(messages, model=running.plan.model, max_tokens=6) as answer:
            text = "".join([piece async for piece in answer])
        messages.append({"role": "assistant", "content": text})
        receipts.append(answer.receipt)
    assert len({one.session for one in receipts}) == 1
    first = receipts[0]
    with trio.fail_after(60):
        while (outcome := await client.outcome(first.request)).resolution is not Resolution.VERIFIED:
            assert not outcome.resolution.is_final
            await trio.sleep(0.1)
    assert outcome.price == first.cost_nmyl
    payment = await client.payment(first.request)
    assert payment is not None
    assert (payment.request.price, payment.request.session) == (first.cost_nmyl, first.session)
    await wait_settled(running, first.session, 10)


async def ask_at_once(running: Running, client: Client) -> None:
    """Twenty at once settle; the chain refuses any that promises more than there is."""
    receipts: list[Any] = []

    async def ask(number: int) -> None:
        question = [{"role": "user", "content": f"What is {number} + {number}?"}]
        async with client.chat(question, model=running.plan.model, max_tokens=4) as answer:
            async for _ in answer:
                pass
        receipts.append(answer.receipt)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, number)
    (session,) = {one.session for one in receipts}
    await wait_settled(running, session, 30)
    numbers = sorted(sequence for sequence, _ in await running.chain.read(queries.list_requests, session))
    assert all(before < after for before, after in pairwise(numbers))
    found = (await list_sessions(running))[session]
    assert found.deposit + found.released == found.promisable


def ask_without_async(running: Running, models: Path, sessions: Path) -> None:
    with connect_sync(rpc=running.rpc_url, seed=CLIENT.account_key.seed, models=models, sessions=sessions) as client:
        answer = client.chat([{"role": "user", "content": "Say hello."}], model=running.plan.model, max_tokens=4)
        assert "".join(answer)
        assert client.outcome(answer.receipt.request).request == answer.receipt.request
    assert list_files(sessions) == []


async def run_the_page_s_example(running: Running, home: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "client.md").read_text("utf-8")
    code = (
        page.partition("```python\n")[2]
        .partition("```")[0]
        .replace("max_tokens=16", "max_tokens=16, model=sys.argv[3]")
    )
    code = code.replace("(rpc: str, models: str)", "(rpc: str, models: str, _model: str)")
    argv = [sys.executable, "-c", code, running.rpc_url, running.plan.models, running.plan.model]
    done = await trio.run_process(argv, capture_stdout=True, env={**os.environ, "HOME": str(home)})
    assert "verified, proven under block" in done.stdout.decode()


async def infer_twice_at_once(running: Running) -> None:
    """Two processes of one account take a nonce each."""
    statuses: list[int] = []

    async def infer(number: int) -> None:
        status, _, errors = await running.infer(f"Say {number}.", "--tokens", "2")
        assert status == 0, errors
        statuses.append(status)

    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(infer, number)
    assert statuses == [0, 0]


DYING = """
import os, sys, trio
from pathlib import Path
from myelin.client import connect
async def main(rpc, seed, models, sessions, model):
    async with connect(rpc=rpc, seed=bytes.fromhex(seed), models=Path(models), sessions=Path(sessions)) as client:
        async with client.chat([{"role": "user", "content": "Hi."}], model=model, max_tokens=200) as answer:
            async for _ in answer:
                os.kill(os.getpid(), 9)
trio.run(main, *sys.argv[1:])
"""


async def die(running: Running, sessions: Path) -> None:
    """kill -9 in mid-answer leaves a file, and the next run closes the session."""
    known = set(await list_sessions(running))
    seed = CLIENT.account_key.seed
    argv = [sys.executable, "-c", DYING, running.rpc_url, seed.hex(), running.plan.models, str(sessions)]
    done = await trio.run_process([*argv, running.plan.model], check=False)
    assert done.returncode == -signal.SIGKILL
    ((session, found),) = [one for one in (await list_sessions(running)).items() if one[0] not in known]
    assert found.status == SessionStatus.OPEN
    (left,) = list_files(sessions)
    assert left.stem == session.hex()
    assert left.stat().st_mode & 0o777 == 0o600
    reported: list[bytes] = []
    models = Path(running.plan.models)
    async with connect(rpc=running.rpc_url, seed=seed, models=models, sessions=sessions, report_closed=reported.append):
        with trio.fail_after(20):
            while not reported:
                await trio.sleep(0.1)
    assert reported == [session]
    assert (await list_sessions(running))[session].status != SessionStatus.OPEN
    assert list_files(sessions) == []


async def converse(running: Running, tmp_path: Path) -> None:
    """`myelin chat`: three turns, one session, closed at the end."""
    known = set(await list_sessions(running))
    argv = [sys.executable, "-m", "node.cli.main", "chat", "--rpc", running.rpc_url, "--models", running.plan.models]
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    done = await trio.run_process(
        [*argv, "--model", running.plan.model, "--tokens", "5"],
        stdin=b"Say one.\nSay two.\nSay three.\n\n",
        capture_stdout=True,
        env=environment,
        stderr=subprocess.STDOUT,
    )
    assert done.stdout.decode().count("its verification:") == 3, done.stdout
    ((_, found),) = [one for one in (await list_sessions(running)).items() if one[0] not in known]
    assert found.status != SessionStatus.OPEN
    status, answer, errors = await running.infer("Hi", "--seed", str(2**64), "--tokens", "2")
    assert (status, answer) == (2, None), errors
    assert "seed" in errors


async def interrupt(running: Running, tmp_path: Path) -> None:
    """Ctrl-C in mid-answer: the chat tells what it cost and goes on; at its prompt it ends the chat."""
    argv = [sys.executable, "-m", "node.cli.main", "chat", "--rpc", running.rpc_url, "--models", running.plan.models]
    argv += ["--model", running.plan.model, "--temperature", "0", "--tokens", "400"]
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        process = await nursery.start(start)
        heard = b""

        async def hear(text: bytes, times: int = 1) -> None:
            nonlocal heard
            with trio.fail_after(60):
                while heard.count(text) < times:
                    heard += await process.stdout.receive_some()

        await hear(b"you> ")
        await process.stdin.send_all(b"Tell a long story of a river.\n")
        await hear(b"river")
        process.send_signal(signal.SIGINT)
        await hear(b"you> ", 2)
        assert b"stopped  after" in heard
        await process.stdin.send_all(b"Name the capital of France.\n")
        await hear(b"you> ", 3)
        assert b"generated" in heard
        process.send_signal(signal.SIGINT)
        await hear(b"not verified yet")
    assert process.returncode == 0
