"""A model's manifest for tests and measurements: valid, of as many layers as asked, of files that nothing has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proto_specs.types.manifest import (
    Architecture,
    ExecutionProfile,
    Manifest,
    ServiceClass,
    Unit,
    UnitKind,
    WireDtype,
)


def build_manifest(layers: int, **fields: Any) -> Manifest:
    """A valid manifest of so many layers, with `fields` in place of its own. Below 256 layers all roots differ."""
    kinds = [(UnitKind.EMBED, 0), *((UnitKind.LAYER, index) for index in range(layers))]
    kinds += [(UnitKind.HEAD, 0), (UnitKind.TOKENIZER, 0), (UnitKind.CHAT_TEMPLATE, 0)]
    manifest = Manifest(
        name="tiny",
        architecture=Architecture("llama", layers, 64, 4, 2, 16, 128, 1000, 4096, "10000", "0.00001", True),
        service_class=ServiceClass.EXACT,
        wire_dtype=WireDtype.FP32,
        eos_tokens=(2,),
        units=tuple(Unit(kind, index, 100, ((kind << 8) + index).to_bytes(2, "big") * 16) for kind, index in kinds),
        profile=ExecutionProfile("fp32", "ort", "cpu", 30_000, 1000),
    )
    return replace(manifest, **fields)
