"""What memory allows: bytes of weights a token reads, and how fast this machine's processor reads them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from benchmarks.inference.lines import ROOT

ARRAY_BYTES = 512 << 20
"""Far beyond any cache."""
TRIES = 5


def measure_bandwidth(threads: int) -> float:
    """Bytes a second that so many threads read together, in a fresh process whose BLAS has no threads of its own."""
    argv = [sys.executable, "-m", __name__, str(threads)]
    single = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(argv, cwd=ROOT, env={**os.environ, **single}, capture_output=True, text=True, check=True)
    return float(done.stdout)


def read_bandwidth(threads: int) -> float:
    """The best of a few tries of three ways to read an array once: a dot product, a maximum, a bitwise or.

    Each is bound by memory where its arithmetic is fast enough, which differs by machine: the fastest is the bound.
    """
    array = np.ones(ARRAY_BYTES // 4, dtype=np.float32)
    parts = np.array_split(array, threads)
    ways = (lambda one: one.dot(one), np.max, lambda one: np.bitwise_or.reduce(one.view(np.uint32)))
    best_s = float("inf")
    for way in ways:
        for _ in range(TRIES):
            workers = [threading.Thread(target=way, args=(one,)) for one in parts]
            started_s = time.perf_counter()
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            best_s = min(best_s, time.perf_counter() - started_s)
    return array.nbytes / best_s


def count_file_bytes(path: Path) -> int:
    """Bytes of a GGUF file's tensors that a token reads: an embedding with a separate head, and experts, in part."""
    reader = gguf.GGUFReader(path)
    has_head = any(one.name == "output.weight" for one in reader.tensors)
    read = 0
    for tensor in reader.tensors:
        size = int(tensor.n_bytes)
        if "_exps." in tensor.name:
            size = size * _read_number(reader, "expert_used_count") // _read_number(reader, "expert_count")
        if not (has_head and tensor.name == "token_embd.weight"):
            read += size
    return read


def compute_share(tokens_per_s: float, bytes_per_token: int, bandwidth: float) -> dict[str, Any]:
    """Bytes a token reads, the rate that memory allows, and the share of it that a measured rate reaches."""
    bound = bandwidth / bytes_per_token
    return {
        "bytes_per_token": bytes_per_token,
        "bound_tokens_per_s": round(bound, 1),
        "share": round(tokens_per_s / bound, 3),
    }


def _read_number(reader: gguf.GGUFReader, name: str) -> int:
    family = reader.fields["general.architecture"].contents()
    return int(reader.fields[f"{family}.{name}"].contents())


if __name__ == "__main__":
    print(read_bandwidth(int(sys.argv[1])))
