"""llama.cpp as a child process, through its C interface as `llama_cpp` binds it. Knows nothing of Myelin.

Runs under an interpreter that has `llama_cpp`. Settings are the library's own but for threads, context and sessions:
flash attention as it chooses, KV in fp16, a KV stream for each session.
"""

from __future__ import annotations

import ctypes
import importlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.inference.lines import serve


class PeerRefused(Exception):
    """llama.cpp cannot do what was asked; the text says what."""


class PeerSide:
    """A GGUF file in llama.cpp, and the calls that measure it."""

    def __init__(self) -> None:
        self._lib: Any = importlib.import_module("llama_cpp")
        # Held as long as the library may call it.
        self._silent = self._lib.llama_log_callback(lambda *_: None)
        self._lib.llama_log_set(self._silent, ctypes.c_void_p(0))
        self._lib.llama_backend_init()
        self._model: Any = None
        self._threads = 1
        self._vocab = 0
        self._contexts: dict[tuple[int, int], Any] = {}

    def describe(self) -> dict[str, Any]:
        """Version of the library, and the instruction sets it was built for."""
        system = self._lib.llama_print_system_info().decode(errors="replace").strip(" |")
        return {"llama_cpp": self._lib.__version__, "system": system}

    def load(self, file: str, threads: int) -> dict[str, Any]:
        """Load a file; seconds taken."""
        started_s = time.perf_counter()
        self._model = self._lib.llama_model_load_from_file(file.encode(), self._lib.llama_model_default_params())
        if not self._model:
            raise PeerRefused(f"llama.cpp cannot load {file}")
        self._threads = threads
        self._vocab = self._lib.llama_vocab_n_tokens(self._lib.llama_model_get_vocab(self._model))
        return {"seconds": time.perf_counter() - started_s}

    def decode(self, prompt: list[int], tokens: int) -> dict[str, Any]:
        """Seconds for `tokens` greedy tokens after a prompt, and the tokens."""
        answer = self.parallel([prompt], tokens)
        return {"seconds": answer["seconds"], "tokens": answer["tokens"][0]}

    def prefill(self, prompt: list[int]) -> dict[str, Any]:
        """Seconds for a prompt in one call, and the token after it."""
        context = self._open(len(prompt), 1)
        started_s = time.perf_counter()
        token = self._extend_one(context, 0, prompt)
        return {"seconds": time.perf_counter() - started_s, "tokens": [token]}

    def parallel(self, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
        """Seconds for `tokens` greedy tokens of every session after prompts of one length, and the tokens of each."""
        length, sessions = len(prompts[0]), len(prompts)
        context = self._open(length + tokens, sessions)
        newest = [self._extend_one(context, place, prompt) for place, prompt in enumerate(prompts)]
        answers: list[list[int]] = [[] for _ in prompts]
        batch = self._lib.llama_batch_init(sessions, 0, 1)
        started_s = time.perf_counter()
        for step in range(tokens):
            for place, token in enumerate(newest):
                self._put(batch, place, token, length + step, place, True)
            newest = self._run(context, batch, sessions, range(sessions))
            for answer, token in zip(answers, newest):  # noqa: B905
                answer.append(token)
        seconds = time.perf_counter() - started_s
        self._lib.llama_batch_free(batch)
        return {"seconds": seconds, "tokens": answers}

    def _extend_one(self, context: Any, session: int, tokens: Sequence[int]) -> int:
        """Runs a prompt of one session in one call; the likeliest next token."""
        count = len(tokens)
        batch = self._lib.llama_batch_init(count, 0, 1)
        for place, token in enumerate(tokens):
            self._put(batch, place, token, place, session, place == count - 1)
        (found,) = self._run(context, batch, count, [count - 1])
        self._lib.llama_batch_free(batch)
        return found

    @staticmethod
    def _put(batch: Any, place: int, token: int, position: int, session: int, wants_logits: bool) -> None:
        batch.token[place] = token
        batch.pos[place] = position
        batch.n_seq_id[place] = 1
        batch.seq_id[place][0] = session
        batch.logits[place] = wants_logits

    def _run(self, context: Any, batch: Any, count: int, asked: Sequence[int]) -> list[int]:
        batch.n_tokens = count
        status = self._lib.llama_decode(context, batch)
        if status:
            raise PeerRefused(f"llama_decode of {count} rows returned {status}")
        found = []
        for place in asked:
            logits = np.ctypeslib.as_array(self._lib.llama_get_logits_ith(context, place), (self._vocab,))
            found.append(int(logits.argmax()))
        return found

    def _open(self, positions: int, sessions: int) -> Any:
        """An empty context for so many sessions of that length; made once, so that its memory is touched already."""
        key = (positions, sessions)
        if key not in self._contexts:
            wanted = self._lib.llama_context_default_params()
            wanted.n_ctx = positions * sessions
            wanted.n_seq_max = sessions
            wanted.n_threads = wanted.n_threads_batch = self._threads
            context = self._lib.llama_init_from_model(self._model, wanted)
            if not context:
                raise PeerRefused(f"llama.cpp has no memory for {sessions} sessions of {positions} positions")
            self._contexts[key] = context
        context = self._contexts[key]
        self._lib.llama_memory_clear(self._lib.llama_get_memory(context), False)
        return context


def main() -> None:
    """Serve a parent."""
    side = PeerSide()
    calls = (side.describe, side.load, side.decode, side.prefill, side.parallel)
    serve(calls, (PeerRefused,))


if __name__ == "__main__":
    main()
