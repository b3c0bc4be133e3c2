"""Another engine: the same file in transformers, by its own reader, with the rows after every layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.engine.rows import Hidden, Rows


class TorchLayers:
    """The layers of a llama in a GGUF file, in fp32, on the CPU."""

    def __init__(self, gguf: Path, threads: int = 1) -> None:
        import torch
        import transformers
        from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

        torch.set_num_threads(threads)
        load: Any = load_gguf_checkpoint
        make: Any = transformers.LlamaForCausalLM
        self.model = make(transformers.LlamaConfig(**load(str(gguf))["config"])).eval()
        loaded = load(str(gguf), return_tensors=True, model_to_load=self.model)
        self.model.load_state_dict(loaded["tensors"], strict=False)
        self.model.tie_weights()
        self._layers = list(self.model.model.layers)

    def run(self, start: int, rows: Rows, end: int | None = None) -> list[Hidden]:
        """The rows [P,C] after each layer from `start` to `end`, given token ids [P] (start 0) or rows [P,C]."""
        import torch

        body = self.model.model
        layers = self._layers[start:end]
        body.layers, body.config.num_hidden_layers = torch.nn.ModuleList(layers), len(layers)
        found: list[Hidden] = []

        def watch(module: Any, given: Any, out: Any) -> None:
            found.append((out[0] if isinstance(out, tuple) else out).reshape(len(rows), -1).numpy().copy())

        watching = [one.register_forward_hook(watch) for one in layers]
        try:
            with torch.no_grad():
                given = torch.from_numpy(rows.astype(np.int64) if rows.ndim == 1 else rows.copy())[None]
                body(**{"input_ids" if rows.ndim == 1 else "inputs_embeds": given}, use_cache=False)
        finally:
            for one in watching:
                one.remove()
            body.layers, body.config.num_hidden_layers = torch.nn.ModuleList(self._layers), len(self._layers)
        return found

    @contextmanager
    def change_weights(self, start: int, end: int, change: Callable[[Hidden], Hidden]) -> Iterator[None]:
        """Every matrix of layers [start, end) as `change` makes it, for a while."""
        import torch

        found = [one for layer in self._layers[start:end] for one in layer.parameters() if one.dim() == 2]
        kept = [one.data.clone() for one in found]
        try:
            for one in found:
                one.data.copy_(torch.from_numpy(change(one.data.numpy().copy())))
            yield
        finally:
            for one, before in zip(found, kept, strict=True):
                one.data.copy_(before)

    def compute_logits(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [n,V] of rows after the last layer."""
        import torch

        with torch.no_grad():
            normed = self.model.model.norm(torch.from_numpy(hidden.copy()))
            logits: NDArray[np.float32] = self.model.lm_head(normed).numpy()
        return logits

    def run_range(self, start: int, end: int, rows: Rows) -> tuple[Hidden, Hidden]:
        """What enters layers [start, end) as rows [P,C], and what leaves them."""
        import torch

        if rows.ndim == 1:
            with torch.no_grad():
                entered: Hidden = self.model.model.embed_tokens(torch.from_numpy(rows.astype(np.int64))).numpy()
        else:
            entered = rows.astype(np.float32, copy=False)
        return entered, self.run(start, rows, end)[-1]

    def compute_lead_gradient(self, start: int, rows: Hidden) -> NDArray[np.float64]:
        """Of the sum over positions of how far the runner-up leads the likeliest token, by the rows [P,C] that enter
        layer `start`."""
        import torch

        given = torch.from_numpy(rows.copy()).requires_grad_(True)
        body, layers = self.model.model, self._layers[start:]
        body.layers, body.config.num_hidden_layers = torch.nn.ModuleList(layers), len(layers)
        try:
            logits = self.model(inputs_embeds=given[None], use_cache=False).logits[0]
        finally:
            body.layers, body.config.num_hidden_layers = torch.nn.ModuleList(self._layers), len(self._layers)
        two = logits.topk(2, dim=-1).values
        (two[:, 1] - two[:, 0]).sum().backward()
        assert given.grad is not None, "the rows were asked for it"
        gradient: NDArray[np.float64] = given.grad.numpy().astype(np.float64)
        return gradient
