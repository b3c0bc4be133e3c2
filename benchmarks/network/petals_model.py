"""Writes the sample model as Petals reads it: a Hugging Face directory, fp32, with a config of transformers 4.34."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

from inference.model.fetch import SMOLLM2, cache_dir, fetch_sample

CONFIG = "config.json"
WEIGHTS = "pytorch_model.bin"
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_sample(directory: Path) -> None:
    """Write the sample model (arch llama, tied embeddings) once."""
    if (directory / CONFIG).exists():
        return
    import torch

    reader = GGUFReader(fetch_sample(SMOLLM2, cache_dir(), lambda _done, _total: None))
    kept = {name.removeprefix("llama."): field.contents() for name, field in reader.fields.items()}
    heads, kv_heads = int(kept["attention.head_count"]), int(kept["attention.head_count_kv"])
    weights: dict[str, Any] = {}
    for tensor in reader.tensors:
        values = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        stem, _, _ = tensor.name.rpartition(".weight")
        if stem.endswith(("attn_q", "attn_k")):  # GGUF pairs rotary halves: undone
            count = heads if stem.endswith("attn_q") else kv_heads
            values = values.reshape(count, -1, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        weights[_name(stem)] = torch.from_numpy(values)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    directory.mkdir(parents=True, exist_ok=True)
    torch.save(weights, directory / WEIGHTS)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": int(kept["embedding_length"]),
        "intermediate_size": int(kept["feed_forward_length"]),
        "max_position_embeddings": int(kept["context_length"]),
        "num_attention_heads": heads,
        "num_hidden_layers": int(kept["block_count"]),
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": float(kept["attention.layer_norm_rms_epsilon"]),
        "rope_theta": float(kept["rope.freq_base"]),
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "vocab_size": len(weights["model.embed_tokens.weight"]),
    }
    (directory / CONFIG).write_text(json.dumps(config, indent=2), "utf-8")


def _name(stem: str) -> str:
    if stem == "token_embd":
        return "model.embed_tokens.weight"
    if stem == "output_norm":
        return "model.norm.weight"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[part]}.weight"
