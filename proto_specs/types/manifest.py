"""The manifest of a model: its shape, the hashes of its weights, and how strictly its shards are judged."""

from __future__ import annotations

import enum
from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U8, U16, U32, U64, Max, encode, record
from proto_specs.errors import DecodeError
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.common import Hash32

FP32_BYTES = 4
_Text = Annotated[str, Max(limits.PROFILE_TEXT_BYTES_MAX)]


class UnitKind(enum.IntEnum):
    """The content of a storage unit. Workers of layers [s, e) need those LAYER units, and EMBED or HEAD at the ends.

    GOLDEN b is what crosses boundary b of a model cut between all layers when it is given a window of known tokens:
    token ids (b = 0) or fp32 rows, so that whoever holds layers [s, e) can tell from units s and e whether they compute
    right.
    """

    EMBED = 0
    LAYER = 1
    HEAD = 2
    TOKENIZER = 3
    CHAT_TEMPLATE = 4
    GOLDEN = 5


class Form(enum.IntEnum):
    """How a tensor's values are stored and computed with. The form and the bytes give one exact value per weight.

    FP32, FP16, BF16: IEEE values, widened. The others are blocks of 16 or 32 along the input, one fp32 scale each:
    weight = scale x (code - middle), codes of 4 bits (middle 8) or 8 bits (middle 128). Forms in ..._MIN have an fp32
    offset per block, added to the product. F8_B128, of experts alone: floats of 8 bits (e4m3fn) times an fp32 scale for
    every 128 along the input, rounded once. Layout of the bytes: units.md.
    """

    FP32 = 0
    FP16 = 1
    BF16 = 2
    Q4_B32 = 3
    Q4_B32_MIN = 4
    Q4_B16 = 5
    Q4_B16_MIN = 6
    Q8_B32 = 7
    Q8_B32_MIN = 8
    Q8_B16 = 9
    Q8_B16_MIN = 10
    F8_B128 = 11


class WireDtype(enum.IntEnum):
    """Element type of the rows at a boundary. Hidden states are FP32, FP16 or BF16; token ids are TOKEN (uint32)."""

    FP32 = 0
    FP16 = 1
    BF16 = 2
    TOKEN = 3

    @property
    def item_bytes(self) -> int:
        """Bytes of an element."""
        return 2 if self in (WireDtype.FP16, WireDtype.BF16) else 4


TOKEN_BYTES = WireDtype.TOKEN.item_bytes
"""Bytes of a token id on the wire: uint32, little-endian."""


class ServiceClass(enum.IntEnum):
    """EXACT: fp32 activations, weights as published. FAST: int8 activations and the like, weakly checked."""

    EXACT = 0
    FAST = 1


@record
class Setting:
    """One of a family's own numbers or switches: integers and decimals as text, so that no float enters a hash."""

    name: _Text
    value: _Text


@record
class Architecture:
    """Shape of a decoder: what the chain must know of it, and the settings that its family reads, in order of name."""

    family: _Text
    layers: U16
    hidden: U32
    vocab: U32
    context_max: U32
    settings: Annotated[tuple[Setting, ...], Max(limits.MODEL_SETTINGS_MAX)]


@record
class Unit:
    """A stored file: `root` is the Merkle root over its 1 MiB chunks (proto_specs.merkle over chunk bytes).

    `forms` has one `Form` for each tensor of the unit, in the order of its family; kinds without tensors have none.
    """

    kind: U8
    index: U16
    bytes_total: U64
    root: Hash32
    forms: Annotated[tuple[U8, ...], Max(limits.UNIT_TENSORS_MAX)]


@record
class ExecutionProfile:
    """The calibrated thresholds and what they hold for: distances in parts per billion (fingerprint.md).

    `decode_rows` is how many rows a single position runs as: 1, or 2 where bits must equal those of a prefill.
    `golden_ppb` is the most that golden windows may differ from what they should be on a machine that serves.
    """

    precision: _Text
    engine: _Text
    provider: _Text
    threshold_ppb: U64
    token_margin_micro: U32
    decode_rows: U8
    golden_ppb: U64


@record
class Manifest:
    """A model as the chain knows it; its id is the hash of these bytes.

    `ranges` says for the boundary after each layer how large the values of its rows may be: an honest one's are far
    below. A model that was imported without being run has no ranges and no golden units. `thresholds` says, for the
    boundary after each layer, how far in parts per billion an honest shard that ends there may be off; a model that was
    not calibrated at length has none, and the profile's `threshold_ppb` holds everywhere.
    """

    name: Annotated[str, Max(limits.MODEL_NAME_BYTES_MAX)]
    architecture: Architecture
    service_class: U8
    wire_dtype: U8
    eos_tokens: Annotated[tuple[U32, ...], Max(limits.EOS_TOKENS_MAX)]
    units: Annotated[tuple[Unit, ...], Max(limits.MODEL_UNITS_MAX)]
    profile: ExecutionProfile
    ranges: Annotated[tuple[U32, ...], Max(limits.MODEL_LAYERS_MAX)]
    thresholds: Annotated[tuple[U64, ...], Max(limits.MODEL_LAYERS_MAX)]

    def get_threshold(self, end: int) -> int:
        """How far, in parts per billion, the rows of a shard [start, end) may be off."""
        return self.thresholds[end - 1] if self.thresholds else self.profile.threshold_ppb


def compute_model_id(manifest: Manifest) -> bytes:
    """The 32-byte model id."""
    return hash_tagged(Tag.MANIFEST, encode(manifest))


def validate_manifest(manifest: Manifest) -> None:
    """Raises DecodeError unless every layer has one unit, in order, and a window's hidden states fit a frame."""
    if not manifest.name.isprintable():
        raise DecodeError("a model's name has no control characters: terminals obey them")
    layers = manifest.architecture.layers
    if not 1 <= layers <= limits.MODEL_LAYERS_MAX:
        raise DecodeError(f"a model has 1 to {limits.MODEL_LAYERS_MAX} layers, not {layers}")
    hidden_max = limits.PAYLOAD_BYTES_MAX // (limits.WINDOW_POSITIONS * FP32_BYTES)
    if not 1 <= manifest.architecture.hidden <= hidden_max:
        raise DecodeError(f"hidden states are 1 to {hidden_max} wide, not {manifest.architecture.hidden}")
    if manifest.service_class not in tuple(ServiceClass):
        raise DecodeError(f"unknown service class {manifest.service_class}")
    if manifest.wire_dtype not in (WireDtype.FP32, WireDtype.FP16, WireDtype.BF16):
        raise DecodeError(f"hidden states cannot have wire dtype {manifest.wire_dtype}")
    wanted = [(UnitKind.EMBED, 0), *((UnitKind.LAYER, index) for index in range(layers)), (UnitKind.HEAD, 0)]
    wanted += [(UnitKind.TOKENIZER, 0), (UnitKind.CHAT_TEMPLATE, 0)]
    if manifest.ranges:
        wanted += [(UnitKind.GOLDEN, index) for index in range(layers + 1)]
    if [(unit.kind, unit.index) for unit in manifest.units] != wanted:
        raise DecodeError("units must be: embed, every layer in order, head, tokenizer, chat template, golden windows")
    if manifest.ranges and (len(manifest.ranges) != layers or 0 in manifest.ranges):
        raise DecodeError("a model that was calibrated has a range, above zero, for each layer")
    if not manifest.eos_tokens or any(token >= manifest.architecture.vocab for token in manifest.eos_tokens):
        raise DecodeError("a model names at least one end-of-sequence token of its vocabulary")
    names = [one.name for one in manifest.architecture.settings]
    if names != sorted(set(names)):
        raise DecodeError("the settings of an architecture are in order of name, each once")
    if any(form not in tuple(Form) for unit in manifest.units for form in unit.forms):
        raise DecodeError("a tensor has a form that is unknown")
    if manifest.profile.decode_rows not in (1, 2):
        raise DecodeError(f"a position runs as one row or two, not as {manifest.profile.decode_rows}")
    if manifest.thresholds and len(manifest.thresholds) != layers:
        raise DecodeError(f"a model has a threshold for each of its {layers} layers or none")
    if 0 in (manifest.profile.threshold_ppb, *manifest.thresholds):
        raise DecodeError("a threshold of zero would accuse honest workers")
