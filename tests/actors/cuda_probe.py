"""Loads stored models on CUDA and runs them, for whoever stands CUDA's libraries in for real ones (cuda_stub.py).

Standard input: a JSON list of [store, model id in hex, whether it is run]. Standard output: a JSON object for each, a
line. What the stub reports on standard error stands between the lines this writes there.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from inference.engine.device import Device
from inference.engine.engine import load_session
from inference.engine.kv_memory import KvCache
from inference.engine.ort import ShardSession
from inference.model.store import ShardStore

TOKENS = np.arange(40, dtype=np.uint32)
CAPACITY = 200


def main() -> None:
    """Answers each in turn."""
    for root, model, is_run in json.load(sys.stdin):
        store, key = ShardStore(Path(root)), bytes.fromhex(model)
        layers = store.load_manifest(key).architecture.layers
        session = load_session(store, key, 0, layers, verify=False, device=Device.parse("cuda"))
        pieces = [one._session for one in session._pieces]  # noqa: SLF001
        parts = [part for one in pieces for part in one.get_provider_graph_assignment_info()]
        operators = Counter(node.op_type for part in parts for node in part.get_nodes())
        answer = {"providers": sorted({part.ep_name for part in parts}), "operators": operators, "runs": []}
        if is_run:
            answer |= run(session)
        print(json.dumps(answer), flush=True)


def run(session: ShardSession) -> dict[str, object]:
    """A prefill, a step of one sequence, and one of two: the shapes that come out, and how large the memory is."""
    memory = session.make_memory(3, CAPACITY)
    caches = [KvCache(memory, slot) for slot in (0, 2)]
    print("prefill", file=sys.stderr, flush=True)
    shapes = [session.run(kv, TOKENS).hidden.shape for kv in caches]
    print("decode", file=sys.stderr, flush=True)
    logits = session.run(caches[0], TOKENS[:1], (0,)).logits
    print("together", file=sys.stderr, flush=True)
    outputs = session.run_together(caches, [TOKENS[:1], TOKENS[:1]], [True, False])
    print("end", file=sys.stderr, flush=True)
    assert logits is not None
    shapes += [logits.shape, *(one.hidden.shape for one in outputs)]
    whole = next(iter(memory.layers.values()))
    return {"runs": shapes, "memory": whole.tensor_size_in_bytes(), "device": whole.device_name()}


if __name__ == "__main__":
    main()
