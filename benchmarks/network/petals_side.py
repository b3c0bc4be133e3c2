"""A client of Petals as a child process. Runs under an interpreter that has petals; knows nothing of Myelin."""

from __future__ import annotations

import importlib
import os
import time
from typing import Any

from benchmarks.inference.lines import serve

SPARE = 8
"""Positions that Petals wants beyond those it computes."""

_model: list[Any] = []


def describe() -> dict[str, str]:
    """Versions."""
    return {name: importlib.import_module(name).__version__ for name in ("petals", "torch", "transformers", "hivemind")}


def connect(directory: str, prefix: str, peers: list[str]) -> None:
    """Open the model: embeddings and head here, layers at the servers."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)
    petals: Any = importlib.import_module("petals")
    make = petals.AutoDistributedModelForCausalLM.from_pretrained
    _model.append(make(directory, initial_peers=peers, dht_prefix=prefix, torch_dtype=torch.float32))


def decode(prompt: list[int], tokens: int) -> dict[str, Any]:
    """Seconds from the first of `tokens` greedy tokens to the last, seconds to the first, and the tokens."""
    torch: Any = importlib.import_module("torch")
    (model,) = _model
    given: Any = torch.tensor([prompt])
    times_s, answer = [time.perf_counter()], []
    with torch.inference_mode(), model.inference_session(max_length=len(prompt) + tokens + SPARE) as session:
        for _ in range(tokens):
            answer.append(int(model.generate(given, max_new_tokens=1, do_sample=False, session=session)[0, -1]))
            times_s.append(time.perf_counter())
            given = None  # the session goes on from its last token
    return {"seconds": times_s[-1] - times_s[1], "first_s": times_s[1] - times_s[0], "tokens": answer}


def main() -> None:
    """Serve a parent. In a session of its own: Petals forks processes that outlive the one that is killed."""
    os.setsid()
    serve((describe, connect, decode), ())


if __name__ == "__main__":
    main()
