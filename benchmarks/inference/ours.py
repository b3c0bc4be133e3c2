"""Our engine as a child process; the only file of this benchmark that knows the engine's classes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inference.lines import serve
from inference.drafting.draft import count_right
from inference.drafting.policy import DRAFT_MAX
from inference.drafting.speculator import Speculator
from inference.engine.engine import ForwardCall, StageEngine, load_session
from inference.engine.rows import Rows, StageOutput
from inference.errors import ModelError
from inference.model.graph.shard import ShardRange
from inference.model.store import ShardStore
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.manifest import UnitKind

_ONE = b"one"


class OurSide:
    """A stored model as a path of shards in this process, whole or cut, and the calls that measure it."""

    def __init__(self) -> None:
        self._path: list[StageEngine] = []
        self._store: ShardStore | None = None
        self._model = b""

    def describe(self) -> dict[str, Any]:
        """Versions of what computes."""
        for name in ("onnxruntime-gpu", "onnxruntime"):
            try:
                return {"onnxruntime": version(name), "numpy": np.__version__}
            except PackageNotFoundError:
                continue
        return {"onnxruntime": "unknown", "numpy": np.__version__}

    def open_store(self, models: str, model: str) -> dict[str, Any]:
        """Choose a stored model (its id in hex) and say what a token costs to read."""
        self._store, self._model = ShardStore(Path(models)), bytes.fromhex(model)
        manifest = self._store.load_manifest(self._model)
        architecture = manifest.architecture
        sizes = {UnitKind(kind): 0 for kind in UnitKind}
        for unit in manifest.units:
            sizes[UnitKind(unit.kind)] += unit.bytes_total
        # An embedding that is not the head too is read by the row.
        embed = sizes[UnitKind.EMBED] if ShardRange(manifest, 0, architecture.layers).decoder.tied_embeddings else 0
        return {
            "name": manifest.name,
            "layers": architecture.layers,
            "context_max": architecture.context_max,
            "weight_bytes_per_token": sizes[UnitKind.LAYER] + sizes[UnitKind.HEAD] + embed,
        }

    def encode(self, text: str) -> list[int]:
        """The model's tokens of a text."""
        # Imported here, for a process that serves layers has no tokenizer, and its memory is measured.
        from inference.model.tokenizer.tokenizer import Tokenizer

        return Tokenizer.load(self._get_store(), self._model).encode(text)

    def load(self, cuts: list[int], positions: int, threads: int, verify: bool) -> dict[str, Any]:
        """Load the layers between neighbours of `cuts`, each as a shard with memory for `positions`; seconds taken."""
        started_s = time.perf_counter()
        for start, end in itertools.pairwise(cuts):
            session = load_session(self._get_store(), self._model, start, end, threads, verify)
            self._path.append(StageEngine(session, positions))
        return {"seconds": time.perf_counter() - started_s}

    def decode(self, prompt: list[int], tokens: int, drafts: bool = False) -> dict[str, Any]:
        """Seconds for `tokens` greedy tokens after a prompt, and the tokens; `drafts` are looked up in the prompt."""
        if drafts:
            return self._decode_drafted(prompt, tokens)
        answer = self.parallel([prompt], tokens)
        return {"seconds": answer["seconds"], "tokens": answer["tokens"][0]}

    def prefill(self, prompt: list[int]) -> dict[str, Any]:
        """Seconds for a prompt in one call, and the token after it."""
        self._open(_ONE, len(prompt))
        started_s = time.perf_counter()
        (token,) = self._extend([_ONE], [prompt], 0)
        seconds = time.perf_counter() - started_s
        self._close(_ONE)
        return {"seconds": seconds, "tokens": [token]}

    def prefill_by_chunks(self, prompt: list[int], chunk: int) -> dict[str, Any]:
        """Seconds that each shard takes for a prompt in calls of `chunk` rows, one shard after another."""
        self._open(_ONE, len(prompt))
        rows: Rows = np.array(prompt, dtype=np.uint32)
        taken_s = []
        for engine in self._path:
            started_s = time.perf_counter()
            outputs: list[StageOutput] = []
            for start in range(0, len(prompt), chunk):
                part = rows[start : start + chunk]
                is_end = engine.shard.is_last and start + chunk >= len(prompt)
                asked = (len(part) - 1,) if is_end else ()
                outputs += self._forward(engine, [ForwardCall(_ONE, start, part, asked)])
            rows = np.concatenate([one.hidden for one in outputs])
            taken_s.append(time.perf_counter() - started_s)
        self._close(_ONE)
        return {"seconds": taken_s}

    def parallel(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        """Seconds for `tokens` greedy tokens of every session after prompts of one length, and the tokens of each."""
        length = len(prompts[0])
        names = [number.to_bytes(2, "big") for number in range(len(prompts))]
        newest = []
        for name, prompt in zip(names, prompts, strict=True):
            self._open(name, length + tokens)
            newest += self._extend([name], [prompt], 0)
        answers: list[list[int]] = [[] for _ in names]
        started_s = time.perf_counter()
        for step in range(tokens):
            newest = self._extend(names, [[one] for one in newest], length + step)
            for answer, token in zip(answers, newest, strict=True):
                answer.append(token)
        seconds = time.perf_counter() - started_s
        for name in names:
            self._close(name)
        return {"seconds": seconds, "tokens": answers}

    def _decode_drafted(self, prompt: list[int], tokens: int) -> dict[str, Any]:
        self._open(_ONE, len(prompt) + tokens + DRAFT_MAX)
        answer = self._extend([_ONE], [prompt], 0)
        speculator = Speculator(len(prompt) + tokens)
        speculator.begin(prompt)
        speculator.observe(answer, None)
        calls, started_s = 0, time.perf_counter()
        while len(answer) <= tokens:
            asked_s = time.perf_counter()
            start = len(prompt) + len(answer) - 1
            draft = speculator.draft(WINDOW_POSITIONS - 1 - start % WINDOW_POSITIONS)
            drawn = self._draw([answer[-1], *draft], start)
            taken = count_right(draft, drawn) + 1
            for engine in self._path:
                engine.truncate(_ONE, start + taken)
            answer += drawn[:taken]
            speculator.observe(drawn[:taken], time.perf_counter() - asked_s)
            calls += 1
        seconds = time.perf_counter() - started_s
        self._close(_ONE)
        counted = len(answer) - 1  # the prompt's own token was there before; the last call may give more than asked
        return {"seconds": seconds * tokens / counted, "tokens": answer[1 : tokens + 1], "calls": calls}

    def _draw(self, tokens: Sequence[int], start: int) -> list[int]:
        """The likeliest token after each of these, from position `start` on."""
        rows: Rows = np.array(tokens, dtype=np.uint32)
        for engine in self._path:
            asked = tuple(range(len(tokens))) if engine.shard.is_last else ()
            (output,) = self._forward(engine, [ForwardCall(_ONE, start, rows, asked)])
            rows = output.hidden
        assert output.logits is not None, "the last shard was asked for logits"
        return [int(one) for one in output.logits.argmax(axis=1)]

    def hold(self, positions: int) -> None:
        """Reserve memory for one request of that length and keep it."""
        self._open(_ONE, positions)

    def extend_rows(self, count: int) -> None:
        """Run `count` rows of random hidden states through the held request: for a shard from the middle."""
        (engine,) = self._path
        hidden = engine.shard.architecture.hidden
        rows = np.random.default_rng(0).standard_normal((count, hidden)).astype(np.float32)
        self._forward(engine, [ForwardCall(_ONE, 0, rows)])

    def _extend(self, names: Sequence[bytes], tokens: Sequence[Sequence[int]], start: int) -> list[int]:
        """Runs each session's tokens from `start` on through the path, in one call a shard; the likeliest next ones."""
        rows: list[Rows] = [np.array(one, dtype=np.uint32) for one in tokens]
        for engine in self._path:
            asked = (len(tokens[0]) - 1,) if engine.shard.is_last else ()
            outputs = self._forward(
                engine, [ForwardCall(name, start, one, asked) for name, one in zip(names, rows, strict=True)]
            )
            rows = [one.hidden for one in outputs]
        return [int(np.argmax(one.logits[0])) for one in outputs if one.logits is not None]

    @staticmethod
    def _forward(engine: StageEngine, calls: Sequence[ForwardCall]) -> list[StageOutput]:
        outputs = []
        for answer in engine.forward_batch(calls):
            if isinstance(answer, ModelError):
                raise answer
            outputs.append(answer)
        return outputs

    def _open(self, name: bytes, positions: int) -> None:
        for engine in self._path:
            engine.open(name, positions)

    def _close(self, name: bytes) -> None:
        for engine in self._path:
            engine.close(name)

    def _get_store(self) -> ShardStore:
        assert self._store is not None, "a store is opened first"
        return self._store


def main() -> None:
    """Serve a parent."""
    side = OurSide()
    calls = (
        side.describe,
        side.open_store,
        side.encode,
        side.load,
        side.decode,
        side.prefill,
        side.prefill_by_chunks,
        side.parallel,
        side.hold,
        side.extend_rows,
    )
    serve(calls, (ModelError,))


if __name__ == "__main__":
    main()
