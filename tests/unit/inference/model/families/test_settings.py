"""Settings of manifests, which strangers write: read back as they were written, refused where they are absurd."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import ModelFormatError
from inference.model.families.deepseek import FAMILY as DEEPSEEK
from inference.model.families.deepseek_settings import DeepseekDecoder
from inference.model.families.family import Decoder, Family
from inference.model.families.gemma3 import FAMILY as GEMMA
from inference.model.families.gemma3 import GemmaDecoder
from inference.model.families.llama import FAMILY as LLAMA
from inference.model.families.registry import get_family, list_families
from proto_specs.types.manifest import Architecture, Setting

PLAIN = Decoder(
    layers=3,
    hidden=64,
    vocab=128,
    context_max=256,
    heads=4,
    kv_heads=2,
    head_dim=16,
    ffn=96,
    rope_theta="10000.0",
    norm_epsilon="1e-05",
    tied_embeddings=False,
)
DEEPSEEK_PLAIN = DeepseekDecoder(
    **dataclasses.asdict(dataclasses.replace(PLAIN, kv_heads=1, head_dim=48)),
    experts=8,
    experts_chosen=3,
    expert_ffn=32,
    kv_rank=32,
    nope_dims=24,
    rope_dims=16,
    value_dims=20,
    shared_ffn=32,
    groups=4,
    groups_chosen=2,
)
GEMMA_PLAIN = GemmaDecoder(**dataclasses.asdict(PLAIN), window=8, window_layers=3, logit_cap="30.0")


def _change(architecture: Architecture, **settings: str) -> Architecture:
    values = {one.name: one.value for one in architecture.settings} | settings
    return dataclasses.replace(architecture, settings=tuple(Setting(*one) for one in sorted(values.items())))


def test_a_manifest_says_what_the_decoder_was() -> None:
    assert LLAMA.read_architecture(LLAMA.write_architecture(PLAIN)) == PLAIN
    assert GEMMA.read_architecture(GEMMA.write_architecture(GEMMA_PLAIN)) == GEMMA_PLAIN


def test_a_manifest_says_what_experts_and_latents_there_are() -> None:
    assert DEEPSEEK.read_architecture(DEEPSEEK.write_architecture(DEEPSEEK_PLAIN)) == DEEPSEEK_PLAIN


def test_defaults_are_left_out_of_manifests() -> None:
    names = {one.name for one in GEMMA.write_architecture(GEMMA_PLAIN).settings}
    assert {"window", "window_layers", "logit_cap"} <= names
    assert not {"rope_theta_local", "query_scale", "rope_scaling"} & names


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("heads", "0"),
        ("heads", "-4"),
        ("heads", "4.0"),
        ("heads", "1" * 60),
        ("kv_heads", "3"),
        ("head_dim", "99999999999"),
        ("head_dim", "65536"),
        ("heads", "65536"),
        ("ffn", "16777216"),
        ("rope_theta", "1e300"),
        ("norm_epsilon", "1e39"),
        ("window", "-1"),
        ("window_layers", "-1"),
        ("rope_theta", "fast"),
        ("rope_theta", "-1.0"),
        ("rope_theta", "nan"),
        ("norm_epsilon", ""),
        ("query_scale", "inf"),
        ("tied_embeddings", "yes"),
        ("rope_scaling", "linear"),
        ("rope_scaling", "linear 0"),
        ("rope_scaling", "linear nan"),
        ("rope_scaling", "bent 1"),
        ("rope_scaling", "llama3 0 1 4 8192"),
        ("rope_scaling", "yarn 4 0 1 64 0 0"),
        ("rope_scaling", "yarn 4 32 1 -64 0 0"),
        ("shade", "blue"),
    ],
)
def test_settings_that_nothing_can_have_are_refused(name: str, value: str) -> None:
    with pytest.raises(ModelFormatError) as refusal:
        GEMMA.read_architecture(_change(GEMMA.write_architecture(GEMMA_PLAIN), **{name: value}))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("experts", "65536"),
        ("experts", "2"),
        ("experts_chosen", "0"),
        ("expert_ffn", "0"),
        ("expert_ffn", "16777216"),
        ("head_dim", "64"),
        ("kv_rank", "0"),
        ("kv_heads", "2"),
        ("rope_dims", "15"),
        ("groups", "0"),
        ("groups", "3"),
        ("groups_chosen", "0"),
        ("groups_chosen", "9"),
        ("value_dims", "0"),
        ("shared_ffn", "16777216"),
    ],
)
def test_experts_and_latents_that_cannot_be_are_refused(name: str, value: str) -> None:
    with pytest.raises(ModelFormatError) as refusal:
        DEEPSEEK.read_architecture(_change(DEEPSEEK.write_architecture(DEEPSEEK_PLAIN), **{name: value}))
    assert "\n" not in str(refusal.value)


def test_yarn_with_a_base_of_one_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="cannot be computed"):
        LLAMA.check(dataclasses.replace(PLAIN, rope_theta="1.0", rope_scaling="yarn 4 32 1 64 0 0"))


def test_a_lacking_setting_is_named() -> None:
    architecture = LLAMA.write_architecture(PLAIN)
    rest = tuple(one for one in architecture.settings if one.name != "ffn")
    with pytest.raises(ModelFormatError, match="lacks ffn"):
        LLAMA.read_architecture(dataclasses.replace(architecture, settings=rest))


@given(
    family=st.sampled_from(list_families()),
    name=st.sampled_from([one.name for one in dataclasses.fields(Decoder)]),
    value=st.text(max_size=12) | st.integers().map(str) | st.floats().map(str),
)
def test_no_setting_breaks_the_reader(family: Family, name: str, value: str) -> None:
    architecture = _change(LLAMA.write_architecture(PLAIN), **{name: value})
    with contextlib.suppress(ModelFormatError):
        decoder = family.read_architecture(architecture)
        family.check(decoder)
        assert family.read_architecture(family.write_architecture(decoder)) == decoder


def test_a_family_without_a_format_says_which_it_has() -> None:
    """No file comes so far, since the registry asks for the kind first."""
    family = get_family("mistral")
    with pytest.raises(ModelFormatError, match="mistral models are not read from GGUF"):
        family.read_gguf(None)  # type: ignore[arg-type]
