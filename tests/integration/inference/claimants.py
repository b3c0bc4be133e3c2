"""Who may claim a shard's rows: honest engines and the cheats that differ least from them. Knows no distances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.engine.ort import ShardSession
from inference.model.graph.shard import ShardRange

Rows = NDArray[np.float32]
Inputs = NDArray[np.uint32] | Rows
CHANGED_POSITION = 5
NOISE_SHARE = 1e-3
INT8_LEVELS = 127


class TorchModel:
    """The same file in transformers, by its own reader, cut into layer ranges."""

    def __init__(self, gguf: Path) -> None:
        import transformers
        from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

        config = transformers.LlamaConfig(**load_gguf_checkpoint(str(gguf))["config"])
        self._whole: Any = transformers.LlamaForCausalLM(config).eval()
        loaded = load_gguf_checkpoint(str(gguf), return_tensors=True, model_to_load=self._whole)
        assert self._whole.load_state_dict(loaded["tensors"], strict=False).missing_keys == ["lm_head.weight"]
        self._whole.tie_weights()
        self._layers = list(self._whole.model.layers)

    def compute_logits(self, tokens: NDArray[np.uint32]) -> Rows:
        """Logits [n,V] of every position."""
        import torch

        with torch.no_grad():
            logits: Rows = (
                self._whole(torch.from_numpy(tokens.astype(np.int64))[None], use_cache=False).logits[0].numpy()
            )
        return logits

    def run(self, start: int, end: int, rows: Inputs) -> Rows:
        """Rows of layers [start, end), before the final norm."""
        import torch

        body = self._whole.model
        body.layers, body.config.num_hidden_layers = torch.nn.ModuleList(self._layers[start:end]), end - start
        found: list[Rows] = []
        watching = body.norm.register_forward_pre_hook(lambda module, given: found.append(given[0][0].numpy()))
        try:
            with torch.no_grad():
                given = torch.from_numpy(rows.astype(np.int64) if rows.ndim == 1 else rows)[None]
                body(**{"input_ids" if rows.ndim == 1 else "inputs_embeds": given}, use_cache=False)
        finally:
            watching.remove()
            body.layers, body.config.num_hidden_layers = torch.nn.ModuleList(self._layers), len(self._layers)
        return found[0]

    def run_with_int8_kv(self, start: int, end: int, rows: Inputs) -> Rows:
        """As `run`, keys and values rounded to 8 bits per position and head."""
        watching = [
            projection.register_forward_hook(lambda module, given, out: _round_heads(out))
            for layer in self._layers[start:end]
            for projection in (layer.self_attn.k_proj, layer.self_attn.v_proj)
        ]
        try:
            return self.run(start, end, rows)
        finally:
            for one in watching:
                one.remove()


def _round_heads(rows: Any) -> Any:
    heads = rows.reshape(*rows.shape[:2], -1, 64)
    step = heads.abs().amax(dim=-1, keepdim=True) / INT8_LEVELS
    return ((heads / step).round() * step).reshape(rows.shape)


def run_all(session: ShardSession, rows: Inputs) -> Rows:
    """One prefill."""
    return session.run(session.open_kv(len(rows)), rows).hidden


def run_one_by_one(shard: ShardRange, directory: Path, rows: Inputs) -> Rows:
    """Every position decoded in a call of its own."""
    session = ShardSession(shard, directory)
    kv = session.open_kv(len(rows))
    return np.concatenate([session.run(kv, rows[one : one + 1]).hidden for one in range(len(rows))])


def change_one_row(session: ShardSession, rows: Inputs) -> Rows:
    """Another token (or row) entered at CHANGED_POSITION."""
    changed = rows.copy()
    changed[CHANGED_POSITION] = changed[CHANGED_POSITION + 1]
    return run_all(session, changed)


def add_noise(session: ShardSession, rows: Inputs) -> Rows:
    """Honest work, every element of its delta off by 0.1 % of itself, Gaussian."""
    output = session.run(session.open_kv(len(rows)), rows)
    entered = rows if output.embedded is None else output.embedded
    noise = np.random.default_rng(11).standard_normal(output.hidden.shape)
    return (output.hidden + (output.hidden - entered) * noise * NOISE_SHARE).astype(np.float32)
