"""A tiny llama written as a GGUF file, and the same model in plain numpy: the reference of graph and import tests."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from inference.model.tokenizer.byte_alphabet import BYTE_OF_CHAR

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN = 3, 64, 4, 2, 16, 96
CONTEXT = 700
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("h e", "l l", "he ll", "hell o", "Ġ w", "1 2")
TOKENS = (*SPECIALS, *BYTE_OF_CHAR, *(one.replace(" ", "") for one in MERGES))
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'bad' %}{{ raise_exception('no such role') }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

Matrix = NDArray[np.float32]
Weights = dict[str, Matrix]


def make_weights(tied: bool = True, seed: int = 0) -> Weights:
    """Random weights by GGUF name, [out, in], Q and K in rotate-half order (as the numpy reference wants them)."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> Matrix:
        return (generator.standard_normal(shape) * 0.1).astype(np.float32)

    weights = {"token_embd": draw(len(TOKENS), HIDDEN), "output_norm": 1 + draw(HIDDEN)}
    if not tied:
        weights["output"] = draw(len(TOKENS), HIDDEN)
    for layer in range(LAYERS):
        p = f"blk.{layer}."
        weights[f"{p}attn_norm"], weights[f"{p}ffn_norm"] = 1 + draw(HIDDEN), 1 + draw(HIDDEN)
        weights[f"{p}attn_q"] = draw(HEADS * HEAD_DIM, HIDDEN)
        weights[f"{p}attn_k"], weights[f"{p}attn_v"] = draw(KV_HEADS * HEAD_DIM, HIDDEN), draw(KV_HEADS * 16, HIDDEN)
        weights[f"{p}attn_output"] = draw(HIDDEN, HEADS * HEAD_DIM)
        weights[f"{p}ffn_gate"], weights[f"{p}ffn_up"] = draw(FFN, HIDDEN), draw(FFN, HIDDEN)
        weights[f"{p}ffn_down"] = draw(HIDDEN, FFN)
    return weights


def write_gguf(
    path: Path,
    weights: Weights,
    architecture: str = "llama",
    quantised: frozenset[str] = frozenset(),
    extra: dict[str, str | int] | None = None,
) -> Path:
    """The model as a GGUF file, Q and K rows interleaved as that format has them; `quantised` names become Q8_0."""
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(list(TOKENS))
    writer.add_token_types([3] * len(SPECIALS) + [1] * (len(TOKENS) - len(SPECIALS)))
    writer.add_token_merges(list(MERGES))
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for key, value in (extra or {}).items():
        if key == "tokenizer.ggml.pre":
            writer.kv_data[0].pop(key)
        (writer.add_uint32 if isinstance(value, int) else writer.add_string)(key, value)
    for name, weight in weights.items():
        stored = weight
        if name.endswith(("attn_q", "attn_k")):
            stored = interleave(weight)
        if name in quantised:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(stored, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", np.ascontiguousarray(stored))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def interleave(weight: Matrix) -> Matrix:
    """Rows of each head as GGUF has them for this architecture: the two halves in turn."""
    heads = weight.shape[0] // HEAD_DIM
    return np.ascontiguousarray(
        weight.reshape(heads, 2, HEAD_DIM // 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
    )


def compute_reference(weights: Weights, tokens: list[int]) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Residual stream before each layer and after the last ([T,C] each), and logits [T,V]; textbook llama in fp64."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    count = len(tokens)
    x = w["token_embd"][tokens]
    streams = [x]
    angle = np.arange(count)[:, None] * 10_000.0 ** (-np.arange(HEAD_DIM // 2) / (HEAD_DIM // 2))
    mask = np.triu(np.full((count, count), -np.inf), 1)
    for layer in range(LAYERS):
        p = f"blk.{layer}."
        n = _norm(x, w[f"{p}attn_norm"])
        q = _rotate((n @ w[f"{p}attn_q"].T).reshape(count, HEADS, HEAD_DIM), angle)
        k = _rotate((n @ w[f"{p}attn_k"].T).reshape(count, KV_HEADS, HEAD_DIM), angle)
        v = (n @ w[f"{p}attn_v"].T).reshape(count, KV_HEADS, HEAD_DIM)
        k, v = (np.repeat(one, HEADS // KV_HEADS, axis=1) for one in (k, v))
        scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(HEAD_DIM) + mask
        weight = np.exp(scores - scores.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        x = x + np.einsum("hts,shd->thd", weight, v).reshape(count, -1) @ w[f"{p}attn_output"].T
        n = _norm(x, w[f"{p}ffn_norm"])
        gate = n @ w[f"{p}ffn_gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (n @ w[f"{p}ffn_up"].T)) @ w[f"{p}ffn_down"].T
        streams.append(x)
    return streams, _norm(x, w["output_norm"]) @ w.get("output", w["token_embd"]).T


def _norm(x: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-5) * weight


def _rotate(x: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    first, second = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
