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

STREAMS = 32
STREAM_TOKENS = 64
FIRST_TOKENS = 100
LONG_TOKENS = 4_000
CHUNK_ROWS = 32
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


async def measure_streams(running: Running, model: str, prompts: Prompts, rounds: int, say: Say) -> dict[str, Any]:
    """Tokens a second of one stream and of 32 at once, in alternating rounds; every answer must be whole."""
    texts = [prompts.make(48, place=17 * at) for at in range(STREAMS)]
    await _stream_together(running.port, model, texts[:1], 8)
    one, many, cpu_ms = [], [], []
    for number in range(rounds):
        say(f"streams, round {number + 1} of {rounds}")
        alone = await _stream_together(running.port, model, texts[number % STREAMS :][:1], STREAM_TOKENS)
        one.append(alone.rate)
        before_s = read_cpu_s(running.gateway_pid)
        together = await _stream_together(running.port, model, texts, STREAM_TOKENS)
        many.append(together.rate)
        cpu_ms.append(1_000 * (read_cpu_s(running.gateway_pid) - before_s) / together.tokens)
    ratio = statistics.median(many) / statistics.median(one)
    return {
        "one_tokens_per_s": _summarise(one),
        f"{STREAMS}_tokens_per_s": _summarise(many),
        "ratio": _cut(ratio),
        "gateway_cpu_ms_per_token": _summarise(cpu_ms),
    }


async def measure_first(
    running: Running, model: str, prompts: Prompts, ours: Child, rounds: int, say: Say
) -> dict[str, Any]:
    """Seconds to the first token of a 100-token prompt, beside a prefill through the same shards in one process."""
    through, direct, longest = [], [], 0.0
    for number in range(rounds):
        say(f"first token, round {number + 1} of {rounds}")
        text = prompts.make(FIRST_TOKENS, place=31 * number)
        answer = await stream_chat(running.port, _make_body(model, text, 4))
        through.append(answer.first_s)
        longest = max(longest, answer.first_s)
        tokens = list(range(1_000, 1_000 + FIRST_TOKENS))
        direct.append(float(ours.call("prefill", prompt=tokens)["seconds"]))
    ratio = statistics.median(through) / statistics.median(direct)
    return {"gateway_s": _summarise(through), "one_process_s": _summarise(direct), "ratio": _cut(ratio)}


async def measure_long(
    running: Running, model: str, prompts: Prompts, ours: Child, rounds: int, say: Say
) -> dict[str, Any]:
    """Seconds to the first token of a prompt of 4,000, beside the same stages one after another in one process."""
    text = prompts.make(LONG_TOKENS)
    through, sequential = [], []
    for number in range(rounds):
        say(f"a long prompt, round {number + 1} of {rounds}")
        answer = await stream_chat(running.port, _make_body(model, text, 4))
        through.append(answer.first_s)
        tokens = [1_000 + at % 5_000 for at in range(LONG_TOKENS)]
        sequential.append(sum(ours.call("prefill_by_chunks", prompt=tokens, chunk=CHUNK_ROWS)["seconds"]))
    ratio = statistics.median(through) / statistics.median(sequential)
    return {"gateway_s": _summarise(through), "one_after_another_s": _summarise(sequential), "ratio": _cut(ratio)}


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


async def _stream_together(port: int, model: str, texts: Sequence[str], tokens: int) -> _Together:
    """All at once; the clock runs from the first request to the last token, prompts and waiting included."""
    answers: list[Streamed] = []

    async def stream(text: str) -> None:
        answers.append(await stream_chat(port, _make_body(model, text, tokens)))

    started_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for text in texts:
            nursery.start_soon(stream, text)
    return _Together(sum(one.tokens for one in answers), trio.current_time() - started_s)


def _make_body(model: str, text: str, tokens: int) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": tokens, **GREEDY}
    return {**body, "logit_bias": {"0": -100, "2": -100}}


def _repeat(words: Sequence[str], count: int) -> str:
    return " ".join(words[at % len(words)] for at in range(count))


def _summarise(runs: Sequence[float]) -> dict[str, Any]:
    return {"median": _cut(statistics.median(runs)), "min": _cut(min(runs)), "max": _cut(max(runs)), "runs": len(runs)}


def _cut(figure: float) -> float:
    return float(f"{figure:.4g}")
