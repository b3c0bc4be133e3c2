"""SmolLM3: the plain decoder, of which every fourth layer does not turn queries and keys."""

from __future__ import annotations

from dataclasses import dataclass

from inference.errors import ModelFormatError
from inference.model.checkpoint.source import Checkpoint
from inference.model.families.family import Decoder, Family, Ref
from inference.model.families.llama import find_permuted_gguf
from inference.model.families.plain import LAYERS_MAX, read_plain_gguf, read_plain_hf
from inference.model.families.reading import Stated
from inference.model.families.windows import WindowedDecoder, read_switched_windows
from inference.model.graph.kit import GraphKit
from proto_specs.types.manifest import UnitKind

_INTERVAL = 4
"""The last of so many layers does not turn. GGUF does not state it; llama.cpp knows no other."""


@dataclass(frozen=True)
class SmolDecoder(WindowedDecoder):
    """Bit i of `still_layers` is set where layer i has no rotary embedding."""

    still_layers: int = 0


class SmolLM3(Family):
    """SmolLM3 3B, and what was trained from it."""

    name = "smollm3"
    gguf_kinds = ("smollm3",)
    hf_kinds = ("smollm3",)
    decoder = SmolDecoder

    def read_gguf(self, checkpoint: Checkpoint) -> SmolDecoder:
        """As `Family.read_gguf`."""
        stated = Stated(checkpoint, "smollm3.")
        layers = stated.integer("block_count", most=LAYERS_MAX)
        still = _make_mask(_list_still(layers, _INTERVAL))
        decoder = read_plain_gguf(checkpoint, stated, SmolDecoder, still_layers=still)
        stated.finish()
        return decoder

    def read_hf(self, checkpoint: Checkpoint) -> SmolDecoder:
        """As `Family.read_hf`."""
        defaults = {"rope_theta": 2_000_000.0, "num_key_value_heads": 4, "tie_word_embeddings": True}
        stated = Stated(checkpoint, defaults=defaults)
        for key in ("attention_bias", "mlp_bias"):
            stated.expect(key, False)
        layers = stated.integer("num_hidden_layers", most=LAYERS_MAX)
        still = _read_still(stated, layers)
        decoder = read_plain_hf(
            checkpoint,
            stated,
            SmolDecoder,
            still_layers=_make_mask(still),
            **read_switched_windows(stated, layers, still),
        )
        stated.finish()
        return decoder

    def find_gguf(self, decoder: Decoder, part: str, kind: UnitKind, layer: int) -> Ref:
        """Q and K have their rows interleaved, as GGUF's llama."""
        return find_permuted_gguf(super().find_gguf(decoder, part, kind, layer), decoder, part)

    def build_attention(self, kit: GraphKit, decoder: Decoder, layer: int, normed: str) -> str:
        """As `Family.build_attention`, turned or not."""
        assert isinstance(decoder, SmolDecoder)
        rope = "" if decoder.still_layers >> layer & 1 else "rope"
        packed = kit.linear(normed, "q", "k", "v")
        attended = kit.attend(
            packed, decoder.heads, decoder.kv_heads, decoder.head_dim, rope=rope, window=decoder.get_window(layer)
        )
        return kit.linear(attended, "attn_out")


def _read_still(stated: Stated, layers: int) -> list[int]:
    interval = stated.integer("no_rope_layer_interval", _INTERVAL)
    turned = stated.items("no_rope_layers")  # against its name: 1 for layers that turn
    if turned is None:
        return _list_still(layers, interval)
    if len(turned) < layers or any(isinstance(one, bool) or one not in (0, 1) for one in turned):
        raise ModelFormatError(f"no_rope_layers of {stated.where} does not say 0 or 1 of each of {layers} layers")
    return [place for place, one in enumerate(turned[:layers]) if one == 0]


def _list_still(layers: int, interval: int) -> list[int]:
    return list(range(interval - 1, layers, interval))


def _make_mask(layers: list[int]) -> int:
    return sum(1 << one for one in layers)


FAMILY = SmolLM3()
