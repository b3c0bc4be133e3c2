"""Sliding windows: which layers have one and how wide it is, as config.json says it in several families."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from inference.errors import ModelFormatError
from inference.model.checkpoint.rope_settings import FULL_ATTENTION, SLIDING_ATTENTION
from inference.model.families.family import Decoder
from inference.model.families.plain import LAYERS_MAX
from inference.model.families.reading import Stated

_UPPER_FROM = 28
"""`max_window_layers` where a config leaves it out."""


@dataclass(frozen=True)
class WindowedDecoder(Decoder):
    """A decoder of which some layers see the last `window` positions only, their own included.

    Bit i of `window_layers` is set where layer i does: a manifest's settings are short texts.
    """

    window: int = 0
    window_layers: int = 0

    def get_window(self, layer: int) -> int:
        """Positions that a layer sees, 0 for all."""
        return self.window if self.window_layers >> layer & 1 else 0


def make_windows(window: int, layers: Iterable[int]) -> dict[str, Any]:
    """The settings of a decoder whose `layers` have a window: none at all where there are none."""
    mask = sum(1 << one for one in layers)
    return {"window": window, "window_layers": mask} if window and mask else {}


def read_layer_types(stated: Stated, layers: int, default: Iterable[int]) -> list[int]:
    """The layers that `layer_types` of a config calls sliding, `default` where it is absent.

    Raises ModelFormatError for a list of another length, and for another kind of attention.
    """
    kinds = stated.items("layer_types")
    if kinds is None:
        return list(default)
    known = {FULL_ATTENTION, SLIDING_ATTENTION}
    if len(kinds) != layers or any(not isinstance(one, str) or one not in known for one in kinds):
        raise ModelFormatError(f"layer_types of {stated.where} does not say full or sliding of each of {layers} layers")
    return [place for place, one in enumerate(kinds) if one == SLIDING_ATTENTION]


def read_upper_windows(stated: Stated) -> dict[str, Any]:
    """The windows of a config, switched on by `use_sliding_window` for the layers from `max_window_layers` on."""
    layers = stated.integer("num_hidden_layers", most=LAYERS_MAX)
    first = stated.integer("max_window_layers", _UPPER_FROM, least=0)
    return read_switched_windows(stated, layers, range(first, layers))


def read_switched_windows(stated: Stated, layers: int, default: Iterable[int]) -> dict[str, Any]:
    """The windows of a config in which `use_sliding_window` switches them on; `default` layers have them then."""
    is_on = stated.flag("use_sliding_window", False)
    windowed = read_layer_types(stated, layers, default if is_on else ())
    if windowed and not is_on:
        raise ModelFormatError(f"{stated.where} has sliding layers and use_sliding_window off: not supported")
    if not is_on:
        stated.skip("sliding_window")
        return {}
    return make_windows(stated.integer("sliding_window", 0, least=0), windowed)
