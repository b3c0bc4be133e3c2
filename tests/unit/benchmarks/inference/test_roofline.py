"""Bytes that a token reads are the file's tensors, without an embedding that is read by the row; reading has a rate."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.inference.roofline import compute_share, count_file_bytes
from tests.unit.inference import tiny


def count_weights(weights: tiny.Weights) -> int:
    return sum(one.nbytes for one in weights.values())


def test_a_tied_embedding_is_read_whole_as_the_head(tmp_path: Path) -> None:
    weights = tiny.make_weights(tied=True)
    assert count_file_bytes(tiny.write_gguf(tmp_path / "tied.gguf", weights)) == count_weights(weights)


def test_an_embedding_beside_a_head_is_not_counted(tmp_path: Path) -> None:
    weights = tiny.make_weights(tied=False)
    counted = count_file_bytes(tiny.write_gguf(tmp_path / "untied.gguf", weights))
    assert counted == count_weights(weights) - weights["token_embd"].nbytes


def test_the_share_is_of_what_memory_allows() -> None:
    assert compute_share(50.0, 100_000_000, 20e9) == pytest.approx(
        {"bytes_per_token": 100_000_000, "bound_tokens_per_s": 200.0, "share": 0.25}
    )
