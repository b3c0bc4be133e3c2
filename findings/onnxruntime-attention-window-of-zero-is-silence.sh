#!/usr/bin/env bash
# onnxruntime 1.31.1, CPU: GroupQueryAttention with local_window_size=0 answers zeros, without an error. "No window" is
# -1, the default. Configurations of models say 0 or null for it, and a model built with their 0 runs: every layer only adds
# nothing for its attention, so that its texts are fluent nonsense. The window counts the position itself: 1 is its own
# value alone, and Hugging Face's sliding_window of W is W here, not W - 1 as the operator's description of "left" suggests.
# Seen with onnxruntime 1.31.1 and onnx 1.23.2 on Python 3.11:
#   window -1: all positions
#   window 0: zeros
#   window 1: its own value
#   window 4 of 4 positions: all positions
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2
"$folder/venv/bin/python" - <<'PY' | tee "$folder/seen"
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

POSITIONS, HEADS, WIDTH = 4, 2, 16
SHAPE = [1, POSITIONS, HEADS * WIDTH]
random = np.random.default_rng(0)
query, key, value = (random.standard_normal(SHAPE).astype(np.float32) for _ in range(3))


def attend(window: int) -> np.ndarray:
    inputs = ["query", "key", "value", "", "", "last", "total"]
    node = helper.make_node(
        "GroupQueryAttention", inputs, ["y", "present_key", "present_value"], domain="com.microsoft",
        num_heads=HEADS, kv_num_heads=HEADS, local_window_size=window,
    )
    graph = helper.make_graph(
        [node],
        "attention",
        [
            *(helper.make_tensor_value_info(one, TensorProto.FLOAT, SHAPE) for one in inputs[:3]),
            helper.make_tensor_value_info("last", TensorProto.INT32, [1]),
            helper.make_tensor_value_info("total", TensorProto.INT32, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    lengths = {"last": np.array([POSITIONS - 1], np.int32), "total": np.array(POSITIONS, np.int32)}
    return session.run(["y"], {"query": query, "key": key, "value": value, **lengths})[0]


def compute_plainly() -> np.ndarray:
    split = [one.reshape(POSITIONS, HEADS, WIDTH).swapaxes(0, 1) for one in (query, key, value)]
    scores = split[0] @ split[1].swapaxes(1, 2) / np.sqrt(WIDTH)
    scores[:, ~np.tri(POSITIONS, dtype=bool)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True) @ split[2]).swapaxes(0, 1).reshape(SHAPE)


def describe(rows: np.ndarray) -> str:
    known = {"zeros": np.zeros(SHAPE), "its own value": value, "all positions": compute_plainly()}
    return next((name for name, wanted in known.items() if np.allclose(rows, wanted, atol=1e-5)), "something else")


for window, text in ((-1, "-1"), (0, "0"), (1, "1"), (POSITIONS, f"{POSITIONS} of {POSITIONS} positions")):
    print(f"window {text}: {describe(attend(window))}")
PY
diff "$folder/seen" - <<'SEEN'
window -1: all positions
window 0: zeros
window 1: its own value
window 4 of 4 positions: all positions
SEEN
echo "as stated"
