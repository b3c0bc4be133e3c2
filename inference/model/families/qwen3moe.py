"""Qwen 3 with experts: its dense decoder's attention, and experts in most layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from inference.errors import ModelFormatError
from inference.model.checkpoint.source import Checkpoint
from inference.model.families.family import Decoder
from inference.model.families.heads import attend_normed, list_head_norms
from inference.model.families.plain import LAYERS_MAX, read_plain_hf
from inference.model.families.reading import Stated
from inference.model.families.sparse import EXPERTS_MAX, SparseDecoder, SparseFamily, check_routing, read_sparse_gguf
from inference.model.families.windows import make_windows
from inference.model.graph.kit import GraphKit
from inference.model.layout import Part


class Qwen3Moe(SparseFamily):
    """Qwen 3 30B-A3B, 235B-A22B, Coder, and what was trained from them."""

    name = "qwen3moe"
    gguf_kinds = ("qwen3moe",)
    hf_kinds = ("qwen3_moe",)
    hf_names: ClassVar[Mapping[str, str]] = {
        "router": "mlp.gate.weight",
        "gate": "mlp.experts.{}.gate_proj.weight",
        "up": "mlp.experts.{}.up_proj.weight",
        "down": "mlp.experts.{}.down_proj.weight",
        "stacked_gate_up": "mlp.experts.gate_up_proj",
        "stacked_down": "mlp.experts.down_proj",
    }

    def read_gguf(self, checkpoint: Checkpoint) -> SparseDecoder:
        """As `Family.read_gguf`. The format can say neither of raw weights nor of dense layers: no file has them."""
        return read_sparse_gguf(checkpoint, "qwen3moe.", "expert_feed_forward_length")

    def read_hf(self, checkpoint: Checkpoint) -> SparseDecoder:
        """As `Family.read_hf`."""
        stated = Stated(checkpoint, defaults={"num_key_value_heads": 4})
        stated.expect("attention_bias", False)
        layers = stated.integer("num_hidden_layers", most=LAYERS_MAX)
        is_windowed = stated.flag("use_sliding_window", False)
        window = stated.integer("sliding_window", 4096, least=0) if is_windowed else 0
        stated.skip("sliding_window")
        decoder = read_plain_hf(
            checkpoint,
            stated,
            SparseDecoder,
            experts=stated.integer("num_experts", stated.values.get("num_local_experts", 128), most=EXPERTS_MAX),
            experts_chosen=stated.integer("num_experts_per_tok", 8, most=EXPERTS_MAX),
            expert_ffn=stated.integer("moe_intermediate_size", 768),
            renormalised=stated.flag("norm_topk_prob", False),
            dense_layers=_read_dense_layers(stated, layers),
            **make_windows(window, range(layers)),
        )
        stated.skip("num_local_experts")
        check_routing(stated.where, decoder)
        stated.finish()
        return decoder

    def list_layer_parts(self, decoder: Decoder, layer: int) -> tuple[Part, ...]:
        """As `SparseFamily`'s, and the norms of a head's queries and keys."""
        return (*super().list_layer_parts(decoder, layer), *list_head_norms(decoder))

    def build_attention(self, kit: GraphKit, decoder: Decoder, layer: int, normed: str) -> str:
        """As `Family.build_attention`, with normed heads."""
        return kit.linear(attend_normed(kit, decoder, layer, normed), "attn_out")


def _read_dense_layers(stated: Stated, layers: int) -> int:
    """The mask of layers without experts: those listed, and those between steps. Raises ModelFormatError."""
    step = stated.integer("decoder_sparse_step", 1)
    listed = stated.items("mlp_only_layers") or []
    if any(type(one) is not int for one in listed):
        raise ModelFormatError(f"mlp_only_layers of {stated.where} is {listed!r:.80}, no list of layers")
    dense = [layer for layer in range(layers) if layer in listed or (layer + 1) % step]
    return sum(1 << layer for layer in dense)


FAMILY = Qwen3Moe()
