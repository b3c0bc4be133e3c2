"""Reads a config.json's rotary embedding, in the spellings of transformers 4 and 5. Knows no family and no formula."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from inference.errors import ModelFormatError

FULL_ATTENTION = "full_attention"
SLIDING_ATTENTION = "sliding_attention"
THETA_DEFAULT = 10_000.0
_LAYER_TYPES = {FULL_ATTENTION, SLIDING_ATTENTION}
# What names no scaling; `mrope` splits the dimensions among axes that are equal for text.
_UNSCALED = frozenset({"default", "mrope"})
_TRAINED_LENGTH = "original_max_position_embeddings"
_NEW_NAMES = {"su": "longrope"}
_Settings = Mapping[str, object]


@dataclass(frozen=True)
class RopeSettings:
    """The base, the share of a head's dimensions that turn, and how frequencies are scaled.

    `scaling` is None or has `rope_type` ("linear", "dynamic", "yarn", "longrope", "llama3") and that type's numbers.
    """

    theta: float
    rotary_share: float
    scaling: _Settings | None


def read_rope(settings: _Settings, layer_type: str = FULL_ATTENTION) -> RopeSettings:
    """The rotary embedding of layers of a type (`FULL_ATTENTION` or `SLIDING_ATTENTION`), alike in most families.

    transformers 4 writes `rope_theta`, `rope_scaling` and, for sliding layers of another base, `rope_local_base_freq`,
    which is never scaled; 5 writes `rope_parameters`, for each layer type where they differ. A file may leave out what
    its family has as default: the family passes `{**defaults, **settings}`. Raises ModelFormatError for wrong types.
    """
    found = _get_object(settings, "rope_parameters")
    if found is not None and found.keys() & _LAYER_TYPES:
        found = _get_object(found, layer_type)
        if found is None:
            raise ModelFormatError(f"rope_parameters has nothing for {layer_type}: fetch config.json again")
    elif found is None:
        found = _get_object(settings, "rope_scaling") or {}
        local = settings.get("rope_local_base_freq")
        if layer_type == SLIDING_ATTENTION and local is not None:
            found = {"rope_theta": local}
    theta = found.get("rope_theta", settings.get("rope_theta", THETA_DEFAULT))
    share = found.get("partial_rotary_factor", settings.get("partial_rotary_factor", 1.0))
    share = _check_positive("partial_rotary_factor", share)
    if share > 1:
        raise ModelFormatError(f"partial_rotary_factor is {share}: it is at most 1, fetch config.json again")
    return RopeSettings(_check_positive("rope_theta", theta), share, _read_scaling(found, settings))


def _read_scaling(found: _Settings, settings: _Settings) -> _Settings | None:
    kind = found.get("rope_type", found.get("type", "default"))
    if not isinstance(kind, str):
        raise ModelFormatError(f"the rotary embedding's type is {kind!r:.40}, no name: fetch config.json again")
    if kind in _UNSCALED:
        return None
    left_out = {"type", "rope_theta", "partial_rotary_factor"}
    numbers = {key: value for key, value in found.items() if key not in left_out}
    if _TRAINED_LENGTH in settings:  # where some files of transformers 4 have it
        numbers.setdefault(_TRAINED_LENGTH, settings[_TRAINED_LENGTH])
    return {**numbers, "rope_type": _NEW_NAMES.get(kind, kind)}


def _get_object(settings: _Settings, key: str) -> _Settings | None:
    value = settings.get(key)
    if value is not None and not isinstance(value, dict):
        raise ModelFormatError(f"{key} is {value!r:.40}, no object: fetch config.json again")
    return value


def _check_positive(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ModelFormatError(f"{name} is {value!r:.40}, no positive number: fetch config.json again")
    return float(value)
