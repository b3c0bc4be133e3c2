"""Tiny models of `transformers` with random weights, the stored models imported from them, and ways of running both.

Every family's tests go through here. `Case` says what a family's tiny model is; nothing here knows a family.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from inference.engine.kv_memory import KvCache
from inference.engine.ort import ShardSession
from inference.model import importing
from inference.model.graph.shard import ShardRange
from inference.model.store import ShardStore
from inference.model.text import ModelText
from proto_specs.types.manifest import Manifest, compute_model_id

VOCAB, HIDDEN, CONTEXT = 128, 64, 256
CAPACITY = 128
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A tiny model of a family: its configuration, GGUF's name of the family, "" where it has none.

    `norm_shift` is what the family adds to the norms it stores.
    """

    name: str
    config: Callable[[], PreTrainedConfig]
    gguf: str = ""
    norm_shift: float = 0.0
    tolerance: float = 2e-5

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class StoredModel:
    """A model in a store of its own."""

    manifest: Manifest
    store: ShardStore

    @property
    def layers(self) -> int:
        return self.manifest.architecture.layers

    def load(self, start: int = 0, end: int | None = None) -> ShardSession:
        shard = ShardRange(self.manifest, start, self.layers if end is None else end)
        return ShardSession(shard, self.store.get_directory(compute_model_id(self.manifest)))


def make_model(case: Case, seed: int = 0) -> PreTrainedModel:
    """The case's model with every parameter random, norms and biases too: what is left out shows in the logits."""
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        case.config(), dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name and parameter.dim() == 1
            spread = 0.3 if parameter.dim() == 1 else 1.6 / parameter.shape[-1] ** 0.5
            parameter.normal_(1 - case.norm_shift if is_norm else 0, spread)
        for name, buffer in model.named_buffers():
            if name.endswith("bias"):
                buffer.normal_(0, 0.3)
    model.train(False)
    return model


def save_model(model: PreTrainedModel, path: Path, dtype: torch.dtype = torch.float32) -> Path:
    """The model as a directory of transformers 5, in a dtype that the model keeps afterwards."""
    torch.nn.Module.to(model, dtype)
    model.save_pretrained(path)
    return path


def edit_config(path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """Changes a directory's config.json."""
    file = path / "config.json"
    config = json.loads(file.read_text())
    edit(config)
    file.write_text(json.dumps(config))
    return path


def write_as_transformers_4(config: dict[str, Any]) -> None:
    """Rewrites a configuration, and the one of text in it, in the older spelling."""
    inner = config.get("text_config")
    if inner is not None:
        write_as_transformers_4(inner)
    config["torch_dtype"] = config.pop("dtype", "float32")
    config["transformers_version"] = "4.40.0"
    stated = config.pop("rope_parameters", None)
    if stated is None:
        return
    if "full_attention" in stated:
        config["rope_local_base_freq"] = stated["sliding_attention"]["rope_theta"]
        stated = stated["full_attention"]
    config["rope_theta"] = stated.pop("rope_theta")
    kind = stated.pop("rope_type")
    config["rope_scaling"] = {"type": kind, "rope_type": kind, **stated} if kind != "default" else None


def load_reference(path: Path) -> PreTrainedModel:
    """A directory as transformers reads it, in fp32."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager"
    )
    model.train(False)
    return model


def import_path(path: Path, root: Path) -> StoredModel:
    """Imports a checkpoint that has no tokenizer: families are about weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "read_text", lambda checkpoint, vocab: ModelText(b"{}", "", (2,)))
        manifest = importing.import_model(path, root, lambda done, total: None)
    return StoredModel(manifest, ShardStore(root))


def draw_tokens(count: int, seed: int = 1) -> NDArray[np.uint32]:
    """Random token ids [count]."""
    return np.random.default_rng(seed).integers(0, VOCAB, count).astype(np.uint32)


def compute_reference(model: PreTrainedModel, tokens: NDArray[np.uint32]) -> Logits:
    """Logits [T, V] of transformers."""
    with torch.no_grad():
        logits: Logits = model(torch.from_numpy(tokens.astype(np.int64))[None], use_cache=False).logits[0].numpy()
    return logits


def compute_logits(session: ShardSession, tokens: NDArray[np.uint32], cuts: Sequence[int] = ()) -> Logits:
    """Logits [T, V] of a whole model, the sequence cut into calls before the positions `cuts`."""
    kv = session.open_kv(CAPACITY)
    return np.concatenate([_answer(session, kv, piece) for piece in np.split(tokens, list(cuts))])


def compute_stepwise(session: ShardSession, tokens: NDArray[np.uint32]) -> Logits:
    """Logits [T, V], a position a call."""
    return compute_logits(session, tokens, range(1, len(tokens)))


def compute_drafted(
    session: ShardSession, tokens: NDArray[np.uint32], wrong: NDArray[np.uint32], cuts: Sequence[int]
) -> Logits:
    """Logits [T, V] by pieces as `compute_logits`, with `wrong` tokens run behind each piece and taken back."""
    kv = session.open_kv(CAPACITY)
    answers = []
    for piece in np.split(tokens, list(cuts)):
        end = kv.length + len(piece)
        answers.append(_answer(session, kv, np.concatenate([piece, wrong]))[: len(piece)])
        kv.truncate(end)
    return np.concatenate(answers)


def compute_in_shards(model: StoredModel, tokens: NDArray[np.uint32], cuts: Sequence[int]) -> Logits:
    """Logits [T, V] of the model cut into shards before the layers `cuts`."""
    rows: NDArray[Any] = tokens
    bounds = [0, *cuts, model.layers]
    for start, end in itertools.pairwise(bounds):
        session = model.load(start, end)
        asked = tuple(range(len(tokens))) if end == model.layers else ()
        output = session.run(session.open_kv(CAPACITY), rows, asked)
        rows = output.hidden
    assert output.logits is not None
    return output.logits


def compute_together(session: ShardSession, sequences: Sequence[NDArray[np.uint32]], steps: int) -> list[Logits]:
    """The last `steps` logits of each sequence: their starts alone, then all of them together, a row a call."""
    memory = session.make_memory(len(sequences), CAPACITY)
    caches = [KvCache(memory, slot) for slot in range(len(sequences))]
    for kv, tokens in zip(caches, sequences, strict=True):
        session.run(kv, tokens[:-steps])
    answers: list[list[Logits]] = [[] for _ in sequences]
    for step in range(steps, 0, -1):
        rows = [tokens[len(tokens) - step :][:1] for tokens in sequences]
        for place, output in enumerate(session.run_together(caches, rows, [True] * len(rows))):
            assert output.logits is not None
            answers[place].append(output.logits)
    return [np.concatenate(one) for one in answers]


def generate_greedy(session: ShardSession, prompt: NDArray[np.uint32], count: int) -> NDArray[np.uint32]:
    """Prompt and `count` tokens more, the likeliest each time."""
    kv = session.open_kv(CAPACITY)
    tokens = list(prompt)
    rows = prompt
    for _ in range(count):
        logits = session.run(kv, rows, (len(rows) - 1,)).logits
        assert logits is not None
        rows = np.array([logits[0].argmax()], np.uint32)
        tokens.append(rows[0])
    return np.array(tokens, np.uint32)


def compute_distance(logits: Logits, reference: Logits) -> float:
    """The largest difference, relative to the largest logit."""
    assert logits.shape == reference.shape
    return float(np.abs(logits - reference).max() / np.abs(reference).max())


def _answer(session: ShardSession, kv: KvCache, tokens: NDArray[np.uint32]) -> Logits:
    logits = session.run(kv, tokens, tuple(range(len(tokens)))).logits
    assert logits is not None
    return logits
