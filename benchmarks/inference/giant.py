"""A model of 671 billion weights on a small machine: DeepSeek-V3's true sizes, read, imported and run layer by layer.

`python -m benchmarks.inference.giant FOLDER` writes synthetic checkpoints there, in sparse files:
 - all 61 layers, full of holes: they are opened and planned as an import does;
 - two layers, a dense one and one of experts (with a small vocabulary): they are imported, and the layer of experts
   computes a window of 32 rows.
Each step is a process of its own, whose peaks of memory are told: all of it, and what is not a page of a file. FOLDER
needs 20 GB. All matrices but most experts hold random numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

CONFIG: Mapping[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "attention_bias": False,
    "first_k_dense_replace": 3,
    "hidden_act": "silu",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 0,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {"fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]},
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 4,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "v_head_dim": 128,
    "vocab_size": 129280,
}
SMALL = {"num_hidden_layers": 2, "first_k_dense_replace": 1, "vocab_size": 4096}
WINDOW_ROWS = 32
RANDOM_EXPERTS = 16
BLOCK = 128
_POOL_BYTES = 1 << 24
_ITEM_BYTES = {"F8_E4M3": 1, "BF16": 2, "F32": 4}
_NAN_BITS = 127
_SAMPLE_S = 0.01


@dataclass(frozen=True)
class Tensor:
    """A tensor of a checkpoint, with random numbers in it or a hole."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_random: bool = True

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]


def list_layer(config: Mapping[str, Any], layer: int) -> Iterator[Tensor]:
    """The tensors of a layer, as they are published."""
    hidden, heads, rank, queries = (
        config[key] for key in ("hidden_size", "num_attention_heads", "kv_lora_rank", "q_lora_rank")
    )
    nope, rope, value = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
    at = f"model.layers.{layer}."
    for name, width in (("input_layernorm", hidden), ("post_attention_layernorm", hidden)):
        yield Tensor(f"{at}{name}.weight", "BF16", (width,))
    for name, width in (("q_a_layernorm", queries), ("kv_a_layernorm", rank)):
        yield Tensor(f"{at}self_attn.{name}.weight", "BF16", (width,))
    shapes = {
        "q_a_proj": (queries, hidden),
        "q_b_proj": (heads * (nope + rope), queries),
        "kv_a_proj_with_mqa": (rank + rope, hidden),
        "kv_b_proj": (heads * (nope + value), rank),
        "o_proj": (hidden, heads * value),
    }
    for name, shape in shapes.items():
        yield from _list_fp8(f"{at}self_attn.{name}.weight", shape)
    if layer < config["first_k_dense_replace"]:
        yield from _list_ffn(f"{at}mlp.", hidden, config["intermediate_size"])
        return
    experts, width = config["n_routed_experts"], config["moe_intermediate_size"]
    yield Tensor(f"{at}mlp.gate.weight", "BF16", (experts, hidden))
    yield Tensor(f"{at}mlp.gate.e_score_correction_bias", "F32", (experts,), is_random=False)
    yield from _list_ffn(f"{at}mlp.shared_experts.", hidden, width * config["n_shared_experts"])
    for expert in range(experts):
        yield from _list_ffn(f"{at}mlp.experts.{expert}.", hidden, width, expert < RANDOM_EXPERTS)


def write_checkpoint(folder: Path, config: Mapping[str, Any], with_numbers: bool) -> int:
    """Writes a checkpoint, a file for each layer; returns the bytes that it holds, holes included."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    outer = [Tensor(f"{name}.weight", "BF16", (vocab, hidden)) for name in ("model.embed_tokens", "lm_head")]
    files = {f"layer-{one}.safetensors": list(list_layer(config, one)) for one in range(config["num_hidden_layers"])}
    files["outer.safetensors"] = [*outer, Tensor("model.norm.weight", "BF16", (hidden,))]
    for name, tensors in files.items():
        _write_file(folder / name, tensors, with_numbers)
    index = {tensor.name: name for name, tensors in files.items() for tensor in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return sum(tensor.size for tensors in files.values() for tensor in tensors)


def plan_whole(folder: Path) -> dict[str, Any]:
    """Opens a checkpoint and finds the place and form of every part, as an import does before it writes."""
    from inference.model.checkpoint.opening import open_checkpoint
    from inference.model.families.registry import find_family
    from inference.model.unit_writer import check_part, choose_form
    from proto_specs.types.manifest import UnitKind

    started = time.perf_counter()
    checkpoint = open_checkpoint(folder)
    family = find_family(checkpoint)
    decoder = family.read_hf(checkpoint)
    count = 0
    for layer in range(decoder.layers):
        for part in family.list_parts(decoder, UnitKind.LAYER, layer):
            ref = family.find_hf(decoder, part.name, UnitKind.LAYER, layer)
            check_part(checkpoint, ref, part)
            choose_form(checkpoint, ref, part)
            count += len(ref.names)
    return {"tensors": count, "seconds": time.perf_counter() - started}


def import_small(folder: Path, store: Path) -> dict[str, Any]:
    """Imports two layers; the peaks of writing the weights are apart from those of computing the golden windows."""
    from inference.model import importing
    from inference.model.text import ModelText

    started, written = time.perf_counter(), 0.0
    while_writing: dict[str, int] = {}

    def progress(done: int, total: int) -> None:
        nonlocal written, while_writing
        if not while_writing and done >= total:
            written, while_writing = time.perf_counter() - started, dict(PEAKS)

    with mock.patch.object(importing, "read_text", return_value=ModelText(b"{}", "", (1,))):
        manifest = importing.import_model(folder, store, progress)
    sizes = [one.bytes_total for one in manifest.units]
    return {
        "bytes": sum(sizes),
        "seconds_written": written,
        "seconds": time.perf_counter() - started,
        "mib_while_writing": while_writing,
    }


def run_experts(store: Path, threads: int) -> dict[str, Any]:
    """Computes a window of rows through the layer of experts, twice, and then a single row."""
    from inference.engine.ort import ShardSession
    from inference.model.graph.shard import ShardRange
    from inference.model.store import ShardStore

    shards = ShardStore(store)
    (model,) = shards.list_models()
    shard = ShardRange(shards.load_manifest(model), 1, 2)
    rows = np.random.default_rng(0).standard_normal((WINDOW_ROWS, shard.architecture.hidden)).astype(np.float32)
    started = time.perf_counter()
    session = ShardSession(shard, shards.get_directory(model), threads)
    timings = {"load_s": time.perf_counter() - started}
    outputs = []
    for name, count in (("window_cold_s", WINDOW_ROWS), ("window_s", WINDOW_ROWS), ("row_s", 1)):
        kv = session.open_kv(WINDOW_ROWS)
        started = time.perf_counter()
        outputs.append(session.run(kv, rows[:count]).hidden[0])
        timings[name] = time.perf_counter() - started
    delta = outputs[1] - rows[0]
    assert np.isfinite(delta).all(), "the layer computes numbers"
    return {
        **timings,
        "threads": threads,
        "row_alone": float(np.abs(outputs[2] - outputs[1]).max() / np.abs(delta).max()),
    }


PEAKS: dict[str, int] = {}
"""MiB that this process had at most: all that is resident, and without pages of files."""


def watch_memory() -> None:
    """Keeps PEAKS until the process ends."""
    while True:
        lines = Path("/proc/self/status").read_text().splitlines()
        found = {
            line.split(":")[0]: int(line.split()[1]) >> 10 for line in lines if line.startswith(("VmRSS", "RssAnon"))
        }
        for name, value in found.items():
            PEAKS[name] = max(PEAKS.get(name, 0), value)
        time.sleep(_SAMPLE_S)


def main() -> None:
    """Runs every step in a process of its own, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--step", choices=["write", "plan", "import", "run"])
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "write": lambda: {
            "whole_bytes": write_checkpoint(folder / "whole", CONFIG, with_numbers=False),
            "small_bytes": write_checkpoint(folder / "small", {**CONFIG, **SMALL}, with_numbers=True),
        },
        "plan": lambda: plan_whole(folder / "whole"),
        "import": lambda: import_small(folder / "small", folder / "store"),
        "run": lambda: run_experts(folder / "store", arguments.threads),
    }
    if arguments.step:
        threading.Thread(target=watch_memory, daemon=True).start()
        print(json.dumps({arguments.step: {**steps[arguments.step](), "mib": PEAKS}}), flush=True)
        return
    for step in steps:
        command = [sys.executable, "-m", "benchmarks.inference.giant", str(folder), "--step", step]
        subprocess.run([*command, "--threads", str(arguments.threads)], check=True)


def _list_ffn(at: str, hidden: int, width: int, is_random: bool = True) -> Iterator[Tensor]:
    for name, shape in (("gate", (width, hidden)), ("up", (width, hidden)), ("down", (hidden, width))):
        yield from _list_fp8(f"{at}{name}_proj.weight", shape, is_random)


def _list_fp8(name: str, shape: tuple[int, int], is_random: bool = True) -> Iterator[Tensor]:
    yield Tensor(name, "F8_E4M3", shape, is_random)
    yield Tensor(f"{name}_scale_inv", "F32", (-(-shape[0] // BLOCK), -(-shape[1] // BLOCK)))


def _write_file(path: Path, tensors: list[Tensor], with_numbers: bool) -> None:
    header: dict[str, Any] = {}
    end = 0
    for one in tensors:
        header[one.name] = {"dtype": one.dtype, "shape": one.shape, "data_offsets": [end, end + one.size]}
        end += one.size
    text = json.dumps(header).encode()
    pool = _make_pool()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        start = file.tell()
        file.truncate(start + end)
        for one in tensors if with_numbers else ():
            if one.is_random:
                file.seek(start + header[one.name]["data_offsets"][0])
                _write_numbers(file, one, pool)


def _make_pool() -> np.ndarray[Any, np.dtype[np.uint8]]:
    codes = np.random.default_rng(0).integers(0, 256, _POOL_BYTES, dtype=np.uint8)
    codes[codes & _NAN_BITS == _NAN_BITS] = 0
    return codes


def _write_numbers(file: Any, tensor: Tensor, pool: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    count = math.prod(tensor.shape)
    if tensor.dtype == "F8_E4M3":
        for start in range(0, count, _POOL_BYTES):
            file.write(pool[: min(_POOL_BYTES, count - start)].data)
    elif tensor.dtype == "F32":
        file.write(np.random.default_rng(count).uniform(1e-4, 2e-4, count).astype("<f4").tobytes())
    else:
        spread = 0.0 if len(tensor.shape) == 1 else 0.02
        values = np.random.default_rng(count).standard_normal(count).astype(np.float32) * spread
        values += len(tensor.shape) == 1
        file.write((values.view("<u4") >> 16).astype("<u2").tobytes())


if __name__ == "__main__":
    main()
