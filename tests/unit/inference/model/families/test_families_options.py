"""What checkpoints say beside a plain model: options that are refused, tensors that say nothing new, images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    SiglipVisionConfig,
)

from inference.errors import ModelFormatError
from inference.model.checkpoint.opening import open_checkpoint
from inference.model.families.gemma3 import FAMILY as GEMMA
from tests.unit.inference.model.families import reference
from tests.unit.inference.model.families.cases import MAIN, OPTIONS, WINDOW
from tests.unit.inference.model.families.reference import Case, compute_distance, draw_tokens

CASES = {one.name: one for one in (*MAIN, *OPTIONS)}
TOKENS = draw_tokens(40)
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}


def _save(case: Case, path: Path) -> Path:
    return reference.save_model(reference.make_model(case), path)


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        *((case.name, {"scale_of_something": 2.0}, "scale_of_something") for case in MAIN),
        *((case.name, {"hidden_act": "relu"}, "hidden_act") for case in MAIN),
        *((case.name, {"partial_rotary_factor": 0.5}, "partial_rotary_factor|rotary embedding of") for case in MAIN),
        *((case.name, {"num_hidden_layers": 10**9}, "num_hidden_layers") for case in MAIN),
        *((case.name, {"head_dim": 24}, "24 wide") for case in MAIN),
        ("llama", {"attention_bias": True}, "attention_bias"),
        ("llama", {"mlp_bias": True}, "mlp_bias"),
        ("llama", {"sliding_window": WINDOW}, "sliding_window"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "'dynamic'"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}}, "factor"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0, "x": 1}}, "'x'"),
        ("mistral", {"layer_types": ["full_attention"] * 3}, "layer_types"),
        ("qwen2", {"rope_parameters": {**YARN, "attention_factor": 2.0}}, "attention_factor"),
        ("qwen2", {"rope_parameters": {**YARN, "truncate": False}}, "truncate"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 3}, "use_sliding_window"),
        ("qwen2-windows", {"layer_types": ["full_attention"] * 2}, "layer_types"),
        ("qwen3-windows", {"layer_types": ["chunked_attention"] * 3}, "layer_types"),
        ("qwen3", {"attention_bias": True}, "attention_bias"),
        ("smollm3", {"no_rope_layers": [1, 1]}, "no_rope_layers"),
        ("smollm3", {"no_rope_layers": [1, 1, 1, 2, 0]}, "no_rope_layers"),
        ("gemma3", {"attention_bias": True}, "attention_bias"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma3", {"hidden_activation": "silu"}, "hidden_activation"),
        ("gemma3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "kind of layer"),
    ],
)
def test_options_that_are_not_computed_are_refused(
    name: str, settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = reference.edit_config(_save(CASES[name], tmp_path / "hf"), lambda config: config.update(settings))
    with pytest.raises(ModelFormatError, match=reason) as refusal:
        reference.import_path(path, tmp_path / "models")
    assert "\n" not in str(refusal.value)
    assert not list((tmp_path / "models").glob("*/*.bin"))


@pytest.mark.parametrize("case", MAIN, ids=str)
def test_tensors_that_repeat_what_is_known_are_passed_over(case: Case, tmp_path: Path) -> None:
    path = _save(case, tmp_path / "hf")
    plain = reference.import_path(path, tmp_path / "plain").manifest
    file = path / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    is_tied = plain.architecture.family == "gemma3"
    if is_tied:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, file)
    assert reference.import_path(path, tmp_path / "more").manifest == plain
    if is_tied:
        tensors["lm_head.weight"][5, 3] += 1
        save_file(tensors, file)
        with pytest.raises(ModelFormatError, match=r"lm_head\.weight .* differs"):
            reference.import_path(path, tmp_path / "differing")


@pytest.mark.parametrize("is_renamed", [False, True], ids=["old-names", "new-names"])
def test_the_language_model_of_multimodal_gemma_3(is_renamed: bool, tmp_path: Path) -> None:
    case = CASES["gemma3"]
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    config = Gemma3Config(text_config=case.config().to_dict(), vision_config=vision.to_dict(), mm_tokens_per_image=4)
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config)
    path = reference.save_model(model, tmp_path / "hf")
    if is_renamed:
        file = path / "model.safetensors"
        prefix = "language_model.model."
        renamed = {
            f"model.language_model.{name.removeprefix(prefix)}" if name.startswith(prefix) else f"model.{name}": tensor
            for name, tensor in load_file(file).items()
        }
        save_file(renamed, file, metadata={"format": "pt"})
    whole = AutoModelForImageTextToText.from_pretrained(path, attn_implementation="eager")
    session = reference.import_path(path, tmp_path / "models").load()
    wanted = reference.compute_reference(whole, TOKENS)
    assert compute_distance(reference.compute_logits(session, TOKENS), wanted) <= case.tolerance


def test_gemma_3_has_the_defaults_of_transformers(tmp_path: Path) -> None:
    """Published multimodal files state a handful of the language model's settings."""
    path = _save(CASES["gemma3"], tmp_path / "hf")
    short = {"model_type": "gemma3_text", "num_hidden_layers": 7, "sliding_window": WINDOW, "hidden_size": 2560}
    stated = {
        "model_type": "gemma3",
        "vision_config": {},
        "text_config": {**short, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
    }
    (path / "config.json").write_text(json.dumps(stated))
    decoder = GEMMA.read_hf(open_checkpoint(path))
    config = AutoConfig.from_pretrained(path).text_config
    assert (decoder.vocab, decoder.hidden, decoder.ffn) == (config.vocab_size, 2560, config.intermediate_size)
    assert (decoder.heads, decoder.kv_heads) == (config.num_attention_heads, config.num_key_value_heads)
    assert (decoder.head_dim, decoder.context_max) == (config.head_dim, config.max_position_embeddings)
    assert decoder.tied_embeddings == config.tie_word_embeddings
    assert float(decoder.query_scale) == config.query_pre_attn_scalar
    assert float(decoder.norm_epsilon) == pytest.approx(config.rms_norm_eps, rel=1e-6)
    ropes = config.rope_parameters
    assert float(decoder.rope_theta) == ropes["full_attention"]["rope_theta"]
    assert float(decoder.rope_theta_local) == ropes["sliding_attention"]["rope_theta"]
    assert decoder.rope_scaling == "linear 8"
    windowed = [place for place, kind in enumerate(config.layer_types) if kind == "sliding_attention"]
    assert [layer for layer in range(7) if decoder.get_window(layer)] == windowed
