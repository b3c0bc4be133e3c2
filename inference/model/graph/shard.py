"""A shard: layers [start, end) of a model, the units it reads and the tensors in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from inference.errors import ModelFormatError
from inference.model.families.family import Decoder, Family
from inference.model.families.registry import get_family
from inference.model.layout import Part, StoredTensor, can_hold, compute_unit_bytes, place_tensors
from proto_specs.types.manifest import Architecture, Form, Manifest, UnitKind


@dataclass(frozen=True)
class ShardRange:
    """Layers [start, end) of a model. Raises ModelFormatError for an empty range or one beyond the model."""

    manifest: Manifest
    start: int
    end: int

    def __post_init__(self) -> None:
        layers = self.architecture.layers
        if not 0 <= self.start < self.end <= layers:
            raise ModelFormatError(f"[{self.start}, {self.end}) is not a range of the model's {layers} layers")

    @property
    def architecture(self) -> Architecture:
        """The model's shape."""
        return self.manifest.architecture

    @cached_property
    def family(self) -> Family:
        """The model's family. Raises ModelFormatError for one that this build does not know."""
        return get_family(self.architecture.family)

    @cached_property
    def decoder(self) -> Decoder:
        """The settings of the family. Raises ModelFormatError for settings it does not know."""
        return self.family.read_architecture(self.architecture)

    @property
    def is_first(self) -> bool:
        """Whether the shard holds the embedding."""
        return self.start == 0

    @property
    def is_last(self) -> bool:
        """Whether the shard holds the final norm and the head."""
        return self.end == self.architecture.layers

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers it computes, in order."""
        return tuple(range(self.start, self.end))

    @property
    def units(self) -> tuple[tuple[UnitKind, int], ...]:
        """The weight units it reads. A last shard with tied embeddings reads EMBED for its head."""
        needs_embed = self.is_first or (self.is_last and self.decoder.tied_embeddings)
        embed = [(UnitKind.EMBED, 0)] if needs_embed else []
        head = [(UnitKind.HEAD, 0)] if self.is_last else []
        return (*embed, *((UnitKind.LAYER, one) for one in range(self.start, self.end)), *head)

    def check(self) -> None:
        """Raises ModelFormatError, with the reason, where this version could not run it from any unit files."""
        for kind, index in self.units:
            self.get_tensors(kind, index)

    def get_parts(self, kind: UnitKind, index: int) -> tuple[Part, ...]:
        """The parts of a weight unit."""
        return self.family.list_parts(self.decoder, kind, index)

    def get_tensors(self, kind: UnitKind, index: int) -> tuple[StoredTensor, ...]:
        """The stored tensors of a weight unit, in the forms that the manifest names.

        Raises ModelFormatError when the manifest does not have one form for each part that can hold it, or another
        length of the unit than they make.
        """
        parts = self.get_parts(kind, index)
        unit = next(one for one in self.manifest.units if (one.kind, one.index) == (kind, index))
        if len(unit.forms) != len(parts):
            raise ModelFormatError(
                f"unit {kind.name.lower()} {index} of {self.manifest.name} names {len(unit.forms)} tensors,"
                f" its family has {len(parts)}: the model was imported by another version"
            )
        for part, form in zip(parts, unit.forms, strict=True):
            if not can_hold(Form(form), part):
                raise ModelFormatError(
                    f"{part.name} of {kind.name.lower()} {index} of {self.manifest.name} cannot be"
                    f" {Form(form).name}: the manifest is damaged"
                )
        tensors = place_tensors(parts, unit.forms)
        if tensors and (size := compute_unit_bytes(tensors)) != unit.bytes_total:
            raise ModelFormatError(
                f"unit {kind.name.lower()} {index} of {self.manifest.name} has {unit.bytes_total} bytes, its tensors"
                f" have {size}: the manifest is damaged"
            )
        return tensors
