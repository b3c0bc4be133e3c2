"""Where each tensor lies inside a unit file: a pure function of the architecture, shared by import and graph.

All tensors are little-endian fp32, row-major, each starting at a multiple of ALIGNMENT_BYTES (zero padding between),
so that a runtime can map them. Matrices are stored [in, out], ready for `rows @ matrix`; vocabulary tables are [V, C].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from proto_specs.types.manifest import Architecture, UnitKind

ALIGNMENT_BYTES = 4096
ITEM_BYTES = 4


@dataclass(frozen=True)
class TensorSlot:
    """One tensor of a unit: `offset` and `size` in bytes."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the tensor, padding excluded."""
        return ITEM_BYTES * math.prod(self.shape)


def compute_slots(architecture: Architecture, kind: UnitKind) -> tuple[TensorSlot, ...]:
    """The tensors of a unit of `kind`, in file order; kinds that hold no tensor have none.

    With tied embeddings HEAD holds the final norm alone and the last shard reads its matrix from EMBED.
    """
    hidden, ffn, vocab = architecture.hidden, architecture.ffn, architecture.vocab
    attention = architecture.heads * architecture.head_dim
    packed = attention + 2 * architecture.kv_heads * architecture.head_dim
    shapes: dict[UnitKind, dict[str, tuple[int, ...]]] = {
        UnitKind.EMBED: {"embed": (vocab, hidden)},
        UnitKind.LAYER: {
            "attn_norm": (hidden,),
            "qkv": (hidden, packed),
            "attn_out": (attention, hidden),
            "ffn_norm": (hidden,),
            "gate": (hidden, ffn),
            "up": (hidden, ffn),
            "down": (ffn, hidden),
        },
        UnitKind.HEAD: {"norm": (hidden,)},
    }
    if not architecture.tied_embeddings:
        shapes[UnitKind.HEAD]["head"] = (vocab, hidden)
    return _place(shapes.get(kind, {}))


def _place(shapes: dict[str, tuple[int, ...]]) -> tuple[TensorSlot, ...]:
    slots: list[TensorSlot] = []
    offset = 0
    for name, shape in shapes.items():
        slot = TensorSlot(name, shape, offset)
        slots.append(slot)
        offset += -(-slot.size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return tuple(slots)


def compute_unit_bytes(slots: tuple[TensorSlot, ...]) -> int:
    """Size of the unit file: it ends with its last tensor, without trailing padding."""
    return slots[-1].offset + slots[-1].size if slots else 0


def compute_file_name(kind: UnitKind, index: int) -> str:
    """Name of a unit's file inside its model's directory."""
    names = {
        UnitKind.EMBED: "embed.bin",
        UnitKind.LAYER: f"layer-{index:03d}.bin",
        UnitKind.HEAD: "head.bin",
        UnitKind.TOKENIZER: "tokenizer.json",
        UnitKind.CHAT_TEMPLATE: "chat_template.jinja",
    }
    return names[kind]
