"""Decoders whose feed-forward is a mixture of experts, in all layers or in some: what such families have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from inference.errors import ModelFormatError
from inference.model.checkpoint.source import Checkpoint
from inference.model.families.family import Cut, Decoder, Family, Ref
from inference.model.families.plain import read_plain_gguf
from inference.model.families.reading import Stated
from inference.model.families.windows import WindowedDecoder
from inference.model.forms import Role
from inference.model.graph.experts import Routing, build_experts, build_routing
from inference.model.graph.kit import GraphKit
from inference.model.layout import Part
from proto_specs.types.manifest import UnitKind

EXPERTS_MAX = 1024
EXPERTS_MOST = {"experts": EXPERTS_MAX, "expert_ffn": 1 << 18}
"""As `Family.most`."""


@dataclass(frozen=True)
class SparseDecoder(WindowedDecoder):
    """Layers with `experts`, of which a row takes `experts_chosen`, each `expert_ffn` wide.

    Bit i of `dense_layers` is set where layer i has the plain feed-forward, `ffn` wide.
    """

    experts: int = 0
    experts_chosen: int = 0
    expert_ffn: int = 0
    renormalised: bool = True
    dense_layers: int = 0

    def is_sparse(self, layer: int) -> bool:
        """Whether a layer has experts."""
        return not self.dense_layers >> layer & 1


class SparseFamily(Family):
    """The plain decoder with experts chosen by a softmax."""

    decoder = SparseDecoder
    most: ClassVar[Mapping[str, int]] = {**Family.most, **EXPERTS_MOST}
    hf_names: ClassVar[Mapping[str, str]]
    """Names of the router, of an expert's matrices ({} its number), and of them stacked ("gate_up", "down")."""

    def list_layer_parts(self, decoder: Decoder, layer: int) -> tuple[Part, ...]:
        """The plain parts, with a router and stacks of experts in a sparse layer."""
        plain = super().list_layer_parts(decoder, layer)
        return replace_ffn(plain, _get(decoder)) if _get(decoder).is_sparse(layer) else plain

    def check(self, decoder: Decoder) -> None:
        """As `Family.check`; a layer with experts has some, and takes some of them."""
        super().check(decoder)
        check_routing(f"the {self.name} model", _get(decoder))

    def find_gguf(self, decoder: Decoder, part: str, kind: UnitKind, layer: int) -> Ref:
        """Experts are stacked; in old files of Mixtral each has tensors of its own."""
        sparse = _get(decoder)
        if kind is UnitKind.LAYER and sparse.is_sparse(layer) and part in GGUF_EXPERTS:
            names = tuple(f"blk.{layer}.ffn_{part}.{place}.weight" for place in range(sparse.experts))
            apart = Ref(names) if part != "router" else None
            return Ref((f"blk.{layer}.{GGUF_EXPERTS[part]}",), otherwise=apart)
        return super().find_gguf(decoder, part, kind, layer)

    def find_hf(self, decoder: Decoder, part: str, kind: UnitKind, layer: int) -> Ref:
        """Each expert has tensors of its own, or they are stacked, gate over up."""
        if kind is UnitKind.LAYER and _get(decoder).is_sparse(layer) and part in self.hf_names:
            return find_experts(f"model.layers.{layer}.", self.hf_names, part, _get(decoder))
        return super().find_hf(decoder, part, kind, layer)

    def build_ffn(self, kit: GraphKit, decoder: Decoder, layer: int, normed: str) -> str:
        """The mixture of a row's experts in a sparse layer."""
        sparse = _get(decoder)
        if not sparse.is_sparse(layer):
            return super().build_ffn(kit, decoder, layer, normed)
        routing = Routing(sparse.experts, sparse.experts_chosen, sparse.renormalised)
        chosen, weights = build_routing(kit, kit.linear(normed, "router"), routing)
        return build_experts(kit, normed, chosen, weights, sparse.experts)


def read_sparse_gguf(checkpoint: Checkpoint, prefix: str, width: str) -> SparseDecoder:
    """A plain decoder with experts in all layers, from GGUF metadata; `width` is the key of an expert's width."""
    stated = Stated(checkpoint, prefix)
    experts = stated.integer("expert_count", most=EXPERTS_MAX)
    decoder = read_plain_gguf(
        checkpoint,
        stated,
        SparseDecoder,
        experts=experts,
        experts_chosen=stated.integer("expert_used_count", most=experts),
        expert_ffn=stated.integer(width),
    )
    stated.finish()
    return decoder


GGUF_EXPERTS: Mapping[str, str] = {
    "router": "ffn_gate_inp.weight",
    "gate": "ffn_gate_exps.weight",
    "up": "ffn_up_exps.weight",
    "down": "ffn_down_exps.weight",
}
"""GGUF's names of the parts of a sparse layer, after `blk.N.`."""


def replace_ffn(parts: tuple[Part, ...], decoder: SparseDecoder) -> tuple[Part, ...]:
    """Parts of a layer with the plain feed-forward replaced by experts."""
    count, width, hidden = decoder.experts, decoder.expert_ffn, decoder.hidden
    experts = {
        "gate": Part("gate", Role.EXPERTS, (count, width, hidden)),
        "up": Part("up", Role.EXPERTS, (count, width, hidden)),
        "down": Part("down", Role.EXPERTS, (count, hidden, width)),
    }
    router = Part("router", Role.MATRIX, (count, hidden))
    return (*(one for one in parts if one.name not in experts), router, *experts.values())


def find_experts(prefix: str, names: Mapping[str, str], part: str, decoder: SparseDecoder) -> Ref:
    """Where a Hugging Face directory keeps the router, or the stack of all experts' gate, up or down."""
    if part == "router":
        return Ref.of(prefix + names[part])
    width = decoder.expert_ffn
    stacked = {
        "gate": Ref((f"{prefix}{names['stacked_gate_up']}",), cut=Cut(0, width, 2 * width)),
        "up": Ref((f"{prefix}{names['stacked_gate_up']}",), cut=Cut(width, 2 * width, 2 * width)),
        "down": Ref((f"{prefix}{names['stacked_down']}",)),
    }
    each = tuple(prefix + names[part].format(place) for place in range(decoder.experts))
    return Ref(each, otherwise=stacked[part])


def check_routing(where: str, decoder: SparseDecoder) -> None:
    """Raises ModelFormatError where layers with experts have none, or take none or more than there are."""
    if not any(map(decoder.is_sparse, range(decoder.layers))):
        return
    if not (1 <= decoder.experts_chosen <= decoder.experts and decoder.expert_ffn):
        raise ModelFormatError(
            f"{where} takes {decoder.experts_chosen} of {decoder.experts} experts, {decoder.expert_ffn} wide: it is"
            " damaged"
        )


def _get(decoder: Decoder) -> SparseDecoder:
    assert isinstance(decoder, SparseDecoder), "a sparse family reads its own settings"
    return decoder
