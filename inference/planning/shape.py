"""What a model's layers weigh: bytes held and read, parameters, arithmetic and KV of each unit. Reads no weights.

A layer's numbers follow from its parts (`Family.list_parts`) and their forms by the layout that an import writes, so
they are those of the stored model to the byte. Memory differs from storage in one thing: FP16 and BF16 matrices that
are not experts' are widened to fp32 when a shard is loaded (inference/model/graph/product.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inference.model.families.family import Decoder, Family
from inference.model.families.registry import get_family
from inference.model.forms import Role
from inference.model.layout import Part, StoredTensor, compute_unit_bytes, place_tensors
from inference.planning.workload import KV_ITEM_BYTES
from proto_specs.types.manifest import Form, Manifest, UnitKind, WireDtype

_FP32_BYTES = 4
_WIDENED = (Form.FP16, Form.BF16)

ChooseForm = Callable[[UnitKind, int, int, Part], Form]
"""The form of part number `place` of a unit: (kind, index, place, part)."""


@dataclass(frozen=True)
class LayerShape:
    """One unit that rows pass: a layer, or the head.

    Every call reads `dense_bytes`; of `experts`, `expert_bytes` each, a row takes `chosen`. `attention_flops` are those
    of one row for one position it sees, of which there are at most `window` (0: all).
    """

    stored_bytes: int
    held_bytes: int
    dense_bytes: int
    expert_bytes: int
    experts: int
    chosen: int
    parameters: int
    active_parameters: int
    attention_flops: int
    kv_bytes: int
    window: int

    def see(self, context: float) -> float:
        """Positions that a row sees of `context` before it."""
        return min(context, self.window) if self.window else context

    def count_read_bytes(self, rows: float, context: float) -> float:
        """Bytes of weights and KV that a call of `rows` rows of one sequence reads.

        Rows choose experts as if by lot: of E experts, c a row, n rows touch E (1 - (1 - c / E)^n) on average.
        """
        touched = self.experts * (1 - (1 - self.chosen / self.experts) ** rows) if self.experts else 0.0
        return self.dense_bytes + touched * self.expert_bytes + self.kv_bytes * self.see(context)

    def count_flops(self, rows: float, context: float) -> float:
        """Floating-point operations of such a call: two for a weight and row, besides attention."""
        return rows * (2 * self.active_parameters + self.attention_flops * self.see(context))


@dataclass(frozen=True)
class ModelShape:
    """A model as a plan sees it. The embedding is looked up in a mapped file: its bytes count, its time does not."""

    name: str
    family: str
    hidden: int
    vocab: int
    context_max: int
    wire_item_bytes: int
    is_tied: bool
    embed_bytes: int
    embed_parameters: int
    layers: tuple[LayerShape, ...]
    head: LayerShape

    @property
    def row_bytes(self) -> int:
        """Bytes of a row at a boundary: what a token sends over every hop."""
        return self.hidden * self.wire_item_bytes

    @property
    def stored_bytes(self) -> int:
        """Bytes of all weight units."""
        return self.embed_bytes + self.head.stored_bytes + sum(one.stored_bytes for one in self.layers)

    @property
    def parameters(self) -> int:
        """All parameters, a tied head counted once."""
        head = self.head.parameters - (self.embed_parameters if self.is_tied else 0)
        return self.embed_parameters + head + sum(one.parameters for one in self.layers)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token is multiplied with."""
        return self.head.active_parameters + sum(one.active_parameters for one in self.layers)

    def count_held_bytes(self, start: int, end: int, positions: int) -> int:
        """Memory that layers [start, end) take with `positions` of KV, the ends of the model included."""
        total = sum(one.held_bytes + one.kv_bytes * positions for one in self.layers[start:end])
        is_first, is_last = start == 0, end == len(self.layers)
        return total + (self.embed_bytes if is_first else 0) + (self.head.held_bytes if is_last else 0)


def make_shape(name: str, family: Family, decoder: Decoder, wire: WireDtype, choose_form: ChooseForm) -> ModelShape:
    """The shape of a decoder whose parts have such forms."""
    (embed,) = family.list_parts(decoder, UnitKind.EMBED, 0)
    embed_tensors = place_tensors([embed], [choose_form(UnitKind.EMBED, 0, 0, embed)])
    head_parts, head_tensors = _place(family, decoder, UnitKind.HEAD, 0, choose_form)
    stored = compute_unit_bytes(head_tensors)
    tensors = (*head_tensors, *(embed_tensors if decoder.tied_embeddings else ()))
    held = sum(map(_count_held, tensors))
    parameters = sum(map(_count_parameters, head_parts)) + (_count_parameters(embed) if decoder.tied_embeddings else 0)
    return ModelShape(
        name=name,
        family=family.name,
        hidden=decoder.hidden,
        vocab=decoder.vocab,
        context_max=decoder.context_max,
        wire_item_bytes=wire.item_bytes,
        is_tied=decoder.tied_embeddings,
        embed_bytes=compute_unit_bytes(embed_tensors),
        embed_parameters=_count_parameters(embed),
        layers=tuple(_make_layer(family, decoder, index, choose_form) for index in range(decoder.layers)),
        head=LayerShape(stored, held, held, 0, 0, 0, parameters, parameters, 0, 0, 0),
    )


def make_manifest_shape(manifest: Manifest) -> ModelShape:
    """The shape of a stored model. Raises ModelFormatError for one that this version does not know."""
    family = get_family(manifest.architecture.family)
    decoder = family.read_architecture(manifest.architecture)
    forms = {(unit.kind, unit.index): unit.forms for unit in manifest.units}

    def choose(kind: UnitKind, index: int, place: int, part: Part) -> Form:
        return Form(forms[kind, index][place])

    return make_shape(manifest.name, family, decoder, WireDtype(manifest.wire_dtype), choose)


def _place(
    family: Family, decoder: Decoder, kind: UnitKind, index: int, choose_form: ChooseForm
) -> tuple[tuple[Part, ...], tuple[StoredTensor, ...]]:
    parts = family.list_parts(decoder, kind, index)
    return parts, place_tensors(parts, [choose_form(kind, index, place, one) for place, one in enumerate(parts)])


def _make_layer(family: Family, decoder: Decoder, index: int, choose_form: ChooseForm) -> LayerShape:
    parts, tensors = _place(family, decoder, UnitKind.LAYER, index, choose_form)
    stacks = [one for one in tensors if one.role is Role.EXPERTS]
    stack_parts = [one for one in parts if one.role is Role.EXPERTS]
    experts = stack_parts[0].shape[0] if stack_parts else 0
    chosen = min(int(getattr(decoder, "experts_chosen", 0)), experts)
    all_experts = sum(map(_count_parameters, stack_parts))
    parameters = sum(map(_count_parameters, parts))
    of_experts = sum(map(_count_held, stacks))
    held = sum(map(_count_held, tensors))
    kv = family.get_kv_shape(decoder, index)
    return LayerShape(
        stored_bytes=compute_unit_bytes(tensors),
        held_bytes=held,
        dense_bytes=held - of_experts,
        expert_bytes=of_experts // experts if experts else 0,
        experts=experts,
        chosen=chosen,
        parameters=parameters,
        active_parameters=parameters - all_experts + (all_experts * chosen // experts if experts else 0),
        attention_flops=2 * decoder.heads * (kv.key_width + (kv.value_width or kv.key_width)),
        kv_bytes=kv.heads * (kv.key_width + kv.value_width) * KV_ITEM_BYTES,
        window=decoder.get_window(index),
    )


def _count_parameters(part: Part) -> int:
    return math.prod(part.shape)


def _count_held(tensor: StoredTensor) -> int:
    """Bytes of a loaded tensor."""
    arrays: Sequence[int] = [one.size for one in tensor.arrays]
    is_widened = tensor.form in _WIDENED and tensor.role is not Role.EXPERTS
    return sum(_count_parameters(one) for one in tensor.parts) * _FP32_BYTES if is_widened else sum(arrays)
