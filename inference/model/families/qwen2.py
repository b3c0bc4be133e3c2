"""Qwen 2 and 2.5, dense: the plain decoder with biases of q, k and v."""

from __future__ import annotations

from inference.model.checkpoint.source import Checkpoint
from inference.model.families.family import Decoder, Family
from inference.model.families.plain import read_bare_gguf, read_plain_hf
from inference.model.families.reading import Stated
from inference.model.families.windows import WindowedDecoder, read_upper_windows
from inference.model.forms import Role
from inference.model.graph.kit import GraphKit
from inference.model.layout import Part


class Qwen2(Family):
    """Qwen 2, Qwen 2.5, QwQ and what was trained from them."""

    name = "qwen2"
    gguf_kinds = ("qwen2",)
    hf_kinds = ("qwen2",)
    decoder = WindowedDecoder

    def read_gguf(self, checkpoint: Checkpoint) -> WindowedDecoder:
        """As `Family.read_gguf`. This format knows no windows for it."""
        return read_bare_gguf(checkpoint, "qwen2.", WindowedDecoder)

    def read_hf(self, checkpoint: Checkpoint) -> WindowedDecoder:
        """As `Family.read_hf`."""
        stated = Stated(checkpoint)
        decoder = read_plain_hf(checkpoint, stated, WindowedDecoder, **read_upper_windows(stated))
        stated.finish()
        return decoder

    def list_layer_parts(self, decoder: Decoder, layer: int) -> tuple[Part, ...]:
        """The plain parts and the biases, which lie together as q, k and v do."""
        widths = {"q": decoder.heads, "k": decoder.kv_heads, "v": decoder.kv_heads}
        biases = [
            Part(f"{name}_bias", Role.VECTOR, (heads * decoder.head_dim,), "bias") for name, heads in widths.items()
        ]
        return (*super().list_layer_parts(decoder, layer), *biases)

    def build_attention(self, kit: GraphKit, decoder: Decoder, layer: int, normed: str) -> str:
        """As `Family.build_attention`, with biases."""
        packed = kit.add(kit.linear(normed, "q", "k", "v"), kit.vector("q_bias"))  # the vector of all three
        window = decoder.get_window(layer)
        attended = kit.attend(packed, decoder.heads, decoder.kv_heads, decoder.head_dim, window=window)
        return kit.linear(attended, "attn_out")


FAMILY = Qwen2()
