"""The rotary embedding of a config.json, in the spellings of transformers 4 and 5."""

from __future__ import annotations

import json

import pytest

from inference.errors import ModelFormatError
from inference.model.checkpoint.rope_settings import FULL_ATTENTION, SLIDING_ATTENTION, RopeSettings, read_rope

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
YARN = {"factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, RopeSettings(10_000.0, 1.0, None)),
        ({"rope_theta": 100_000}, RopeSettings(100_000.0, 1.0, None)),
        ({"rope_theta": 1e4, "rope_scaling": None}, RopeSettings(1e4, 1.0, None)),
        ({"rope_theta": 1e4, "rope_scaling": {"rope_type": "default"}}, RopeSettings(1e4, 1.0, None)),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [1]}}, RopeSettings(1e4, 1.0, None)),
        (
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
            RopeSettings(5e5, 1.0, {"rope_type": "llama3", **LLAMA3}),
        ),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
            RopeSettings(5e5, 1.0, {"rope_type": "llama3", **LLAMA3}),
        ),
        ({"rope_scaling": {"type": "yarn", **YARN}}, RopeSettings(1e4, 1.0, {"rope_type": "yarn", **YARN})),
        (
            {"rope_scaling": {"type": "su", "short_factor": [1]}, "original_max_position_embeddings": 4096},
            RopeSettings(
                1e4, 1.0, {"rope_type": "longrope", "short_factor": [1], "original_max_position_embeddings": 4096}
            ),
        ),
        ({"partial_rotary_factor": 0.5}, RopeSettings(1e4, 0.5, None)),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.25}},
            RopeSettings(2e4, 0.25, None),
        ),
        ({"rope_theta": 7.0, "rope_parameters": {"rope_type": "default"}}, RopeSettings(7.0, 1.0, None)),
    ],
)
def test_spellings(settings: dict[str, object], wanted: RopeSettings) -> None:
    assert read_rope(settings) == wanted
    assert read_rope(settings, SLIDING_ATTENTION) == wanted


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            }
        },
    ],
)
def test_layer_types_of_their_own(settings: dict[str, object]) -> None:
    assert read_rope(settings, FULL_ATTENTION) == RopeSettings(1e6, 1.0, {"rope_type": "linear", "factor": 8.0})
    assert read_rope(settings, SLIDING_ATTENTION) == RopeSettings(1e4, 1.0, None)


@pytest.mark.parametrize("name", ["LlamaConfig", "Gemma3TextConfig", "DeepseekV3Config", "Qwen2Config"])
def test_both_spellings_of_a_family_agree(name: str) -> None:
    family = getattr(pytest.importorskip("transformers"), name)
    old = {"rope_theta": 123456.0, "max_position_embeddings": 9000, "rope_scaling": {"rope_type": "yarn", **YARN}}
    if name == "Gemma3TextConfig":
        old["rope_local_base_freq"] = 777.0
    new = json.loads(family(**json.loads(json.dumps(old))).to_json_string())
    assert new.keys() & {"rope_parameters", "rope_theta"} == {"rope_parameters"}
    for layer_type in (FULL_ATTENTION, SLIDING_ATTENTION):
        assert read_rope(new, layer_type) == read_rope(old, layer_type)


@pytest.mark.parametrize(
    "settings",
    [
        {"rope_theta": "1e4"},
        {"rope_theta": True},
        {"rope_theta": None},
        {"rope_theta": 0},
        {"rope_theta": -1e4},
        {"rope_theta": float("nan")},
        {"rope_scaling": "yarn"},
        {"rope_scaling": {"rope_type": 3}},
        {"rope_parameters": [1]},
        {"rope_parameters": {"full_attention": 3}},
        {"rope_parameters": {"sliding_attention": {}}},
        {"partial_rotary_factor": 1.5},
    ],
)
def test_wrong_types_are_refused_in_one_line(settings: dict[str, object]) -> None:
    with pytest.raises(ModelFormatError, match="fetch config.json again$") as raised:  # noqa: RUF043
        read_rope(settings)
    assert len(str(raised.value).splitlines()) == 1
