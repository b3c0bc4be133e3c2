"""Mixtral: Mistral's decoder with experts in every layer. Its GGUF files call it llama, with experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from inference.model.checkpoint.source import Checkpoint
from inference.model.families.family import Decoder, Ref
from inference.model.families.llama import count_gguf_experts, find_permuted_gguf
from inference.model.families.plain import LAYERS_MAX, read_plain_hf
from inference.model.families.reading import Stated
from inference.model.families.sparse import EXPERTS_MAX, SparseDecoder, SparseFamily, check_routing, read_sparse_gguf
from inference.model.families.windows import make_windows
from proto_specs.types.manifest import UnitKind


class Mixtral(SparseFamily):
    """Mixtral 8x7B and 8x22B, and merges of their shape."""

    name = "mixtral"
    gguf_kinds = ("llama",)
    hf_kinds = ("mixtral",)
    hf_names: ClassVar[Mapping[str, str]] = {
        "router": "block_sparse_moe.gate.weight",
        "gate": "block_sparse_moe.experts.{}.w1.weight",
        "up": "block_sparse_moe.experts.{}.w3.weight",
        "down": "block_sparse_moe.experts.{}.w2.weight",
        "stacked_gate_up": "mlp.experts.gate_up_proj",
        "stacked_down": "mlp.experts.down_proj",
    }

    def is_reader(self, checkpoint: Checkpoint) -> bool:
        """GGUF's llama is this family where it has experts."""
        return super().is_reader(checkpoint) and (not checkpoint.is_gguf or count_gguf_experts(checkpoint) > 0)

    def read_gguf(self, checkpoint: Checkpoint) -> SparseDecoder:
        """As `Family.read_gguf`."""
        return read_sparse_gguf(checkpoint, "llama.", "feed_forward_length")

    def read_hf(self, checkpoint: Checkpoint) -> SparseDecoder:
        """As `Family.read_hf`."""
        stated = Stated(checkpoint, defaults={"rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_key_value_heads": 8})
        layers = stated.integer("num_hidden_layers", most=LAYERS_MAX)
        decoder = read_plain_hf(
            checkpoint,
            stated,
            SparseDecoder,
            experts=stated.integer("num_local_experts", 8, most=EXPERTS_MAX),
            experts_chosen=stated.integer("num_experts_per_tok", 2, most=EXPERTS_MAX),
            expert_ffn=stated.integer("intermediate_size"),
            **make_windows(stated.integer("sliding_window", 0, least=0), range(layers)),
        )
        check_routing(stated.where, decoder)
        stated.finish()
        return decoder

    def find_gguf(self, decoder: Decoder, part: str, kind: UnitKind, layer: int) -> Ref:
        """Q and K have their rows interleaved, as all of GGUF's llama."""
        return find_permuted_gguf(super().find_gguf(decoder, part, kind, layer), decoder, part)


FAMILY = Mixtral()
