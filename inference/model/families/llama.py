"""Llama 1-3 and SmolLM: the plain decoder, with Llama 3's stretched rotary embedding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from inference.errors import ModelFormatError
from inference.model.checkpoint.source import Checkpoint
from inference.model.families.family import Decoder, Family, Ref
from inference.model.families.plain import read_plain_gguf, read_plain_hf
from inference.model.families.reading import Stated
from inference.model.families.rope import RopeScaling, make_rotary
from proto_specs.types.manifest import UnitKind

ROPE_FACTORS = "rope_freqs.weight"
_KNOWN_STRETCHES = (32.0, 8.0)
"""The factors of published Llama 3.1 and 3.2 models; both have low 1, high 4 and an original context of 8192."""


class Llama(Family):
    """Llama, SmolLM and what else has exactly their graph."""

    name = "llama"
    gguf_kinds = ("llama",)
    hf_kinds = ("llama",)

    def is_reader(self, checkpoint: Checkpoint) -> bool:
        """Experts make a GGUF file another family's (Mixtral)."""
        return super().is_reader(checkpoint) and not (checkpoint.is_gguf and count_gguf_experts(checkpoint))

    def read_gguf(self, checkpoint: Checkpoint) -> Decoder:
        """As `Family.read_gguf`."""
        stated = Stated(checkpoint, "llama.")
        stated.expect("expert_count", 0)
        stated.skip("expert_used_count")
        decoder = read_plain_gguf(checkpoint, stated, self.decoder, scaling=_find_stretch(checkpoint))
        stated.finish()
        return decoder

    def read_hf(self, checkpoint: Checkpoint) -> Decoder:
        """As `Family.read_hf`."""
        stated = Stated(checkpoint)
        for key in ("attention_bias", "mlp_bias"):
            stated.expect(key, False)
        decoder = read_plain_hf(checkpoint, stated, self.decoder)
        stated.finish()
        return decoder

    def find_gguf(self, decoder: Decoder, part: str, kind: UnitKind, layer: int) -> Ref:
        """Q and K have their rows interleaved in this architecture of GGUF."""
        return find_permuted_gguf(super().find_gguf(decoder, part, kind, layer), decoder, part)

    def list_ignored(self, decoder: Decoder, checkpoint: Checkpoint) -> frozenset[str]:
        """GGUF's table of rotary factors, which the settings state."""
        return super().list_ignored(decoder, checkpoint) | ({ROPE_FACTORS} & checkpoint.names())


def find_permuted_gguf(ref: Ref, decoder: Decoder, part: str) -> Ref:
    """A part of GGUF's llama architecture, whose Q and K have their rows interleaved."""
    return replace(ref, interleaved_heads={"q": decoder.heads, "k": decoder.kv_heads}.get(part, 0))


def count_gguf_experts(checkpoint: Checkpoint) -> int:
    """Experts of a GGUF file of the llama architecture, 0 of a dense one."""
    count = checkpoint.settings.get("llama.expert_count", 0)
    return count if isinstance(count, int) else 0


def _find_stretch(checkpoint: Checkpoint) -> RopeScaling | None:
    """The scaling that a GGUF file's table of rotary factors stands for: Llama 3.1 has it as a tensor alone."""
    if ROPE_FACTORS not in checkpoint.names():
        return None
    factors = checkpoint.read(ROPE_FACTORS).astype(np.float64)
    theta, dims = float(checkpoint.settings.get("llama.rope.freq_base", 10_000.0)), 2 * len(factors)  # type: ignore[arg-type]
    plain = make_rotary(theta, dims, None).frequencies
    for factor in _KNOWN_STRETCHES:
        scaling = RopeScaling("llama3", (factor, 1.0, 4.0, 8192.0))
        if np.allclose(plain / factors, make_rotary(theta, dims, scaling).frequencies, rtol=1e-5):
            return scaling
    raise ModelFormatError(f"{ROPE_FACTORS} of {checkpoint.path.name} is no stretch of Llama 3: not supported")


FAMILY = Llama()
