"""A model's manifest for tests and measurements: valid, of as many layers as asked, of files that nothing has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proto_specs.types.manifest import (
    Architecture,
    ExecutionProfile,
    Manifest,
    ServiceClass,
    Setting,
    Unit,
    UnitKind,
    WireDtype,
)


def make_architecture(layers: int, hidden: int = 64, vocab: int = 1000, context_max: int = 4096) -> Architecture:
    """A llama of 4 heads for 2 of keys and values, with its embeddings tied."""
    settings = {
        "ffn": "128",
        "head_dim": "16",
        "heads": "4",
        "kv_heads": "2",
        "norm_epsilon": "1e-05",
        "rope_theta": "10000.0",
        "tied_embeddings": "true",
    }
    pairs = tuple(Setting(name, value) for name, value in settings.items())
    return Architecture("llama", layers, hidden, vocab, context_max, pairs)


def build_manifest(layers: int, **fields: Any) -> Manifest:
    """A valid manifest of so many layers, with `fields` in place of its own. Below 256 layers all roots differ."""
    kinds = [(UnitKind.EMBED, 0), *((UnitKind.LAYER, index) for index in range(layers))]
    kinds += [(UnitKind.HEAD, 0), (UnitKind.TOKENIZER, 0), (UnitKind.CHAT_TEMPLATE, 0)]
    manifest = Manifest(
        name="tiny",
        architecture=make_architecture(layers),
        service_class=ServiceClass.EXACT,
        wire_dtype=WireDtype.FP32,
        eos_tokens=(2,),
        units=tuple(Unit(kind, index, 100, ((kind << 8) + index).to_bytes(2, "big") * 16, ()) for kind, index in kinds),
        profile=ExecutionProfile("fp32", "ort", "cpu", 30_000, 1000, 1, 4_000),
        ranges=(),
        thresholds=(),
    )
    return replace(manifest, **fields)
