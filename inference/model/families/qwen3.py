"""Qwen 3, dense: the plain decoder with a norm of each head's queries and keys."""

from __future__ import annotations

from inference.model.checkpoint.source import Checkpoint
from inference.model.families.family import Decoder, Family
from inference.model.families.heads import attend_normed, list_head_norms
from inference.model.families.plain import read_bare_gguf, read_plain_hf
from inference.model.families.reading import Stated
from inference.model.families.windows import WindowedDecoder, read_upper_windows
from inference.model.graph.kit import GraphKit
from inference.model.layout import Part


class Qwen3(Family):
    """Qwen 3 from 0.6B to 32B, and what was trained from them."""

    name = "qwen3"
    gguf_kinds = ("qwen3",)
    hf_kinds = ("qwen3",)
    decoder = WindowedDecoder

    def read_gguf(self, checkpoint: Checkpoint) -> WindowedDecoder:
        """As `Family.read_gguf`. This format knows no windows for it."""
        return read_bare_gguf(checkpoint, "qwen3.", WindowedDecoder)

    def read_hf(self, checkpoint: Checkpoint) -> WindowedDecoder:
        """As `Family.read_hf`."""
        stated = Stated(checkpoint, defaults={"head_dim": 128})
        stated.expect("attention_bias", False)
        decoder = read_plain_hf(checkpoint, stated, WindowedDecoder, **read_upper_windows(stated))
        stated.finish()
        return decoder

    def list_layer_parts(self, decoder: Decoder, layer: int) -> tuple[Part, ...]:
        """The plain parts, and the norms of a head's queries and keys."""
        return (*super().list_layer_parts(decoder, layer), *list_head_norms(decoder))

    def build_attention(self, kit: GraphKit, decoder: Decoder, layer: int, normed: str) -> str:
        """As `Family.build_attention`, with normed heads."""
        return kit.linear(attend_normed(kit, decoder, layer, normed), "attn_out")


FAMILY = Qwen3()
