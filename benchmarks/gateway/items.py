"""What is measured of a running gateway: streams at once, the first token, a long prompt, the processor's time."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from benchmarks.gateway.network import Running
from benchmarks.gateway.sse import Streamed, stream_chat
from benchmarks.inference.lines import Child
from inference.engine.scheduler import compute_chunk_rows

STREAMS = 32
STREAM_TOKENS = 128
FIRST_TOKENS = 100
LONG_TOKENS = 4_000
QUIET_SHARE = 0.06
QUIET_S_MAX = 120.0
GREEDY: dict[str, Any] = {"temperature": 0, "seed": 0}
_TICKS = os.sysconf("SC_CLK_TCK")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts of a wanted length, cut from a text whose words are about a token each."""

    text: str
    encode: Callable[[str], int]
    """How many tokens a chat message makes, the template's own included."""

    def make(self, tokens: int, place: int = 0) -> str:
        """The longest prompt of at most so many tokens; `place` begins it elsewhere, so that no two are alike."""
        words = self.text.split()
        words = words[place % len(words) :] + words[: place % len(words)]
        low, high = 1, 2 * tokens
        while low < high:
            middle = (low + high + 1) // 2
            if self.encode(_repeat(words, middle)) <= tokens:
                low = middle
            else:
                high = middle - 1
        return _repeat(words, low)


@dataclass(frozen=True, slots=True)
class Measured:
    """The model that is asked. `banned` are its end-of-sequence tokens: a stream of so many tokens has as many."""

    name: str
    banned: tuple[int, ...]
    prompts: Prompts

    def make_body(self, text: str, tokens: int, *, is_full: bool = False) -> dict[str, Any]:
        """A request; `is_full` keeps the answer from ending early."""
        body = {"model": self.name, "messages": [{"role": "user", "content": text}], "max_tokens": tokens, **GREEDY}
        return {**body, "logit_bias": {str(one): -100 for one in self.banned}} if is_full else body


async def measure_http(child: Child, port: int, measured: Measured, rounds: int, say: Say) -> dict[str, Any]:
    """Processor time of the gateway for a token and stream, 32 streams at once, before a stand-in for the network."""
    bodies = [measured.make_body("Go on.", STREAM_TOKENS)] * STREAMS
    await _stream_together(port, bodies[:4])
    cpu_ms = []
    for number in range(rounds):
        say(f"HTTP and accounting, round {number + 1} of {rounds}")
        before_s = child.call("read_cpu")
        together = await _stream_together(port, bodies)
        cpu_ms.append(1_000 * (child.call("read_cpu") - before_s) / together.tokens)
    return {"streams": STREAMS, "cpu_ms_per_token": _summarise(cpu_ms)}


async def measure_streams(running: Running, measured: Measured, rounds: int, say: Say) -> dict[str, Any]:
    """Tokens a second of one stream and of 32 at once, in alternating rounds; every answer must be whole.

    Between the rounds the verifier recomputes what was drawn, on the same processors: each round waits for that.
    """
    texts = [measured.prompts.make(48, place=17 * at) for at in range(STREAMS)]
    bodies = [measured.make_body(text, STREAM_TOKENS, is_full=True) for text in texts]
    await _stream_together(running.port, bodies[:1])
    one, many, cpu_ms = [], [], []
    for number in range(rounds):
        say(f"streams, round {number + 1} of {rounds}")
        await wait_quiet()
        alone = await _stream_together(running.port, bodies[number % STREAMS :][:1])
        one.append(alone.rate)
        await wait_quiet()
        before_s = read_cpu_s(running.gateway_pid)
        together = await _stream_together(running.port, bodies)
        many.append(together.rate)
        cpu_ms.append(1_000 * (read_cpu_s(running.gateway_pid) - before_s) / together.tokens)
    ratio = statistics.median(many) / statistics.median(one)
    return {
        "tokens_per_stream": STREAM_TOKENS,
        "one_tokens_per_s": _summarise(one),
        f"{STREAMS}_tokens_per_s": _summarise(many),
        "ratio": _cut(ratio),
        "gateway_cpu_ms_per_token": _summarise(cpu_ms),
    }


async def measure_first(running: Running, measured: Measured, ours: Child, rounds: int, say: Say) -> dict[str, Any]:
    """Seconds to the first token of a 100-token prompt, beside a prefill through the same shards in one process."""
    through, direct = [], []
    await _stream_together(running.port, [measured.make_body("Go on.", 4)])
    for number in range(rounds):
        say(f"first token, round {number + 1} of {rounds}")
        text = measured.prompts.make(FIRST_TOKENS, place=31 * number)
        await wait_quiet()
        answer = await stream_chat(running.port, measured.make_body(text, 4))
        through.append(answer.first_s)
        await wait_quiet()
        tokens = list(range(1_000, 1_000 + FIRST_TOKENS))
        direct.append(float(ours.call("prefill", prompt=tokens)["seconds"]))
    ratio = statistics.median(through) / statistics.median(direct)
    return {"gateway_s": _summarise(through), "one_process_s": _summarise(direct), "ratio": _cut(ratio)}


async def measure_long(running: Running, measured: Measured, ours: Child, rounds: int, say: Say) -> dict[str, Any]:
    """Seconds to the first token of a prompt of 4,000, beside the same stages one after another in one process."""
    text = measured.prompts.make(LONG_TOKENS)
    chunk = compute_chunk_rows(LONG_TOKENS, 2)
    await _stream_together(running.port, [measured.make_body("Go on.", 4)])
    through, sequential = [], []
    for number in range(rounds):
        say(f"a long prompt, round {number + 1} of {rounds}")
        await wait_quiet()
        answer = await stream_chat(running.port, measured.make_body(text, 4))
        through.append(answer.first_s)
        await wait_quiet()
        tokens = [1_000 + at % 5_000 for at in range(LONG_TOKENS)]
        sequential.append(sum(ours.call("prefill_by_chunks", prompt=tokens, chunk=chunk)["seconds"]))
    ratio = statistics.median(through) / statistics.median(sequential)
    found = {"gateway_s": _summarise(through), "one_after_another_s": _summarise(sequential), "ratio": _cut(ratio)}
    return {"prompt_tokens": LONG_TOKENS, "chunk_rows": chunk, **found}


async def wait_quiet() -> None:
    """Until this machine is nearly idle for a second: what was asked before is verified and paid by then."""
    with trio.move_on_after(QUIET_S_MAX):
        while True:
            before = _read_busy()
            await trio.sleep(2.0)
            busy, total = (now - then for now, then in zip(_read_busy(), before, strict=True))
            if busy < QUIET_SHARE * total:
                return


def _read_busy() -> tuple[int, int]:
    """Ticks of all processors so far: busy ones, and all."""
    ticks = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def read_cpu_s(pid: int) -> float:
    """Processor seconds of a process so far, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@dataclass(frozen=True, slots=True)
class _Together:
    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


async def _stream_together(port: int, bodies: Sequence[dict[str, Any]]) -> _Together:
    """All at once; the clock runs from the first request to the last token, prompts and waiting included."""
    answers: list[Streamed] = []

    async def stream(body: dict[str, Any]) -> None:
        answers.append(await stream_chat(port, body))

    started_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for body in bodies:
            nursery.start_soon(stream, body)
    return _Together(sum(one.tokens for one in answers), trio.current_time() - started_s)


def _repeat(words: Sequence[str], count: int) -> str:
    return " ".join(words[at % len(words)] for at in range(count))


def _summarise(runs: Sequence[float]) -> dict[str, Any]:
    return {"median": _cut(statistics.median(runs)), "min": _cut(min(runs)), "max": _cut(max(runs)), "runs": len(runs)}


def _cut(figure: float) -> float:
    return float(f"{figure:.4g}")
