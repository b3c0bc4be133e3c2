"""Writes a model of `transformers` as llama.cpp's converter would: with its names, rows and norms.

Independent of the product's own tables: names come from `gguf.get_tensor_name_map`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray
from transformers import PreTrainedModel

Values = NDArray[np.float32]
ChooseKind = Callable[[str], Kind]
"""The type of a matrix, by its name in GGUF."""

_EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts")
_PERMUTED = ("llama", "smollm3")
"""Architectures whose converter interleaves the two halves of each head's q and k."""


def write_gguf(
    model: PreTrainedModel, architecture: str, path: Path, norm_shift: float = 0.0, choose: ChooseKind | None = None
) -> Path:
    """The model as a GGUF file. Matrices take the type that `choose` says, F32 without it.

    What a file of that type holds is put back into the model, which is then the reference for the file.
    """
    config = model.config
    writer = gguf.GGUFWriter(str(path), architecture)
    _write_settings(writer, config, architecture)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    state = model.state_dict()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    for name, tensor in split_stacks(state, config):
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert target is not None, f"llama.cpp has no name for {name}"
        values: Values = tensor.float().numpy()
        if name.endswith("norm.weight"):
            writer.add_tensor(target, values + np.float32(norm_shift))
            continue
        is_permuted = architecture in _PERMUTED and name.endswith(("q_proj.weight", "k_proj.weight"))
        stored = _swap(values, 2, head_dim // 2) if is_permuted else values
        kind = choose(target) if choose and values.ndim > 1 and "_inp." not in target else Kind.F32
        if kind is Kind.F32:
            writer.add_tensor(target, np.ascontiguousarray(stored))
            continue
        raw = quantize(np.ascontiguousarray(stored), kind)
        writer.add_tensor(target, raw, raw_dtype=kind)
        held = gguf.quants.dequantize(raw, kind).reshape(stored.shape)
        tensor.copy_(torch.from_numpy(_swap(held, head_dim // 2, 2) if is_permuted else held))
    if config.rope_parameters.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", _compute_llama3_factors(config.rope_parameters, head_dim))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def split_stacks(state: Mapping[str, torch.Tensor], config: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a model as the converter names them: stacks of experts apart, latent attention's heads apart."""
    for name, tensor in state.items():
        if name.endswith("experts.gate_up_proj"):
            stem = name.removesuffix("gate_up_proj")
            gate, up = tensor.chunk(2, dim=1)
            yield from ((f"{stem}gate_proj.weight", gate), (f"{stem}up_proj.weight", up))
        elif name.endswith("experts.down_proj"):
            yield f"{name}.weight", tensor
        elif name.endswith("kv_b_proj.weight"):
            stem = name.removesuffix("kv_b_proj.weight")
            widths = (config.qk_nope_head_dim, config.v_head_dim)
            keys, values = tensor.view(config.num_attention_heads, sum(widths), -1).split(widths, dim=1)  # type: ignore[no-untyped-call]
            yield from ((f"{stem}k_b_proj.weight", keys.transpose(1, 2)), (f"{stem}v_b_proj.weight", values))
        else:
            yield name.replace("gate.e_score_correction_bias", "gate.e_score_correction.bias"), tensor


def quantize(values: Values, kind: Kind) -> NDArray[Any]:
    """Rows in a type. Q6_K, which gguf reads and does not write, gets random codes with the values' spread."""
    if kind is not Kind.Q6_K:
        return gguf.quants.quantize(values, kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    if values.ndim > 2:
        return quantize(values.reshape(-1, values.shape[-1]), kind).reshape(*values.shape[:-1], -1)
    rows, columns = values.shape
    generator = np.random.default_rng(rows * columns)
    raw = generator.integers(0, 256, (rows, columns // block, size)).astype(np.uint8)
    spread = np.abs(values).max() / 32 / 128
    raw[..., -2:] = np.full((rows, columns // block, 1), spread, np.float16).view(np.uint8)
    return raw.reshape(rows, -1)


def _swap(rows: Values, outer: int, inner: int) -> Values:
    """The rows of each head, [outer, inner], with the two axes changed."""
    return rows.reshape(-1, outer, inner, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def _compute_llama3_factors(rope: dict[str, float], head_dim: int) -> Values:
    """What each frequency is divided by: all that a GGUF file says of Llama 3's scaling."""
    factors = []
    for place in range(head_dim // 2):
        turns = rope["original_max_position_embeddings"] * rope["rope_theta"] ** (-2 * place / head_dim) / (2 * np.pi)
        if turns > rope["high_freq_factor"]:
            factors.append(1.0)
        elif turns < rope["low_freq_factor"]:
            factors.append(rope["factor"])
        else:
            smooth = (turns - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


def _write_settings(writer: gguf.GGUFWriter, config: Any, architecture: str) -> None:
    """The metadata that convert_hf_to_gguf writes of these families."""
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(1 if architecture == "deepseek2" else config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(0)
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    head_dim = getattr(config, "head_dim", None)
    _write_experts(writer, config)
    if architecture == "deepseek2":
        head_dim = config.qk_rope_head_dim
        _write_latents(writer, config)
    elif head_dim is not None:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if architecture == "gemma3":
        writer.add_sliding_window(config.sliding_window)
        if config.final_logit_softcapping:
            writer.add_final_logit_softcapping(config.final_logit_softcapping)
    else:
        writer.add_rope_dimension_count(head_dim or config.hidden_size // config.num_attention_heads)
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if rope.get("mscale_all_dim"):
            writer.add_rope_scaling_yarn_log_mul(0.1 * rope["mscale_all_dim"])


def _write_experts(writer: gguf.GGUFWriter, config: Any) -> None:
    count = next((value for key in _EXPERT_COUNTS if (value := getattr(config, key, None)) is not None), None)
    if count is None:
        return
    writer.add_expert_count(count)
    writer.add_expert_used_count(config.num_experts_per_tok)
    width = getattr(config, "moe_intermediate_size", None)
    if width is not None:
        writer.add_expert_feed_forward_length(width)


def _write_latents(writer: gguf.GGUFWriter, config: Any) -> None:
    """What the converter writes of DeepSeek V2 and V3: of keys and values, the latent's widths and the heads' own."""
    rank, rope = config.kv_lora_rank, config.qk_rope_head_dim
    writer.add_key_length(rank + rope)
    writer.add_value_length(rank)
    writer.add_key_length_mla(config.qk_nope_head_dim + rope)
    writer.add_value_length_mla(config.v_head_dim)
    writer.add_kv_lora_rank(rank)
    if config.q_lora_rank:
        writer.add_q_lora_rank(config.q_lora_rank)
    writer.add_leading_dense_block_count(config.first_k_dense_replace)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    if config.n_group and config.topk_group:
        writer.add_expert_group_count(config.n_group)
        writer.add_expert_group_used_count(config.topk_group)
    if config.model_type == "deepseek_v3":
        writer.add_expert_weights_norm(config.norm_topk_prob)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
