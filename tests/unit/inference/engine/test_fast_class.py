"""The fast class: int8 activations where weights are quantised, told from cheats coarsely, and never by mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.engine.ort import ShardSession
from inference.engine.verify import verify_window
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.errors import ModelFormatError
from inference.model.graph.shard import ShardRange
from inference.model.importing import import_model
from inference.model.store import ShardStore
from proto_specs.types.manifest import Manifest, ServiceClass, WireDtype, compute_model_id
from tests.unit.inference import tiny

TOKENS = np.random.default_rng(8).integers(0, 200, 64).astype(np.uint32)
MATRICES = frozenset(
    f"blk.{layer}.{name}"
    for layer in range(tiny.LAYERS)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
)


def _load(root: Path, service_class: ServiceClass) -> tuple[Manifest, Path]:
    path = tiny.write_gguf(root / "q.gguf", tiny.make_weights(), quantised=MATRICES | {"token_embd"})
    manifest = import_model(path, root / "models", lambda done, total: None, service_class=service_class)
    return manifest, ShardStore(root / "models").get_directory(compute_model_id(manifest))


def test_it_rounds_activations_and_its_profile_allows_for_that(tmp_path: Path) -> None:
    exact, exact_directory = _load(tmp_path, ServiceClass.EXACT)
    fast, directory = _load(tmp_path, ServiceClass.FAST)
    assert compute_model_id(exact) != compute_model_id(fast)
    quick = ShardSession(ShardRange(fast, 0, 3), directory)
    slow = ShardSession(ShardRange(exact, 0, 3), exact_directory)
    found, wanted = (one.run(one.open_kv(64), TOKENS, (63,)) for one in (quick, slow))
    apart = np.abs(found.hidden - wanted.hidden).max() / np.abs(wanted.hidden).max()
    assert 1e-4 < apart < 0.1
    rows = [quick.run(kv, TOKENS[at : at + 1]).hidden for kv in [quick.open_kv(64)] for at in range(64)]
    claimed = decode_rows(encode_rows(np.concatenate(rows)[32:], WireDtype.BF16), WireDtype.BF16, tiny.HIDDEN)
    result = verify_window(quick, TOKENS, 32, claimed, fast.profile, bytes(32))
    assert result.ok
    assert verify_window(quick, TOKENS, 32, np.zeros_like(claimed), fast.profile, bytes(32)).ok is False


def test_a_model_without_quantised_weights_is_not_taken(tmp_path: Path) -> None:
    path = tiny.write_gguf(tmp_path / "p.gguf", tiny.make_weights())
    with pytest.raises(ModelFormatError, match="no quantised weights"):
        import_model(path, tmp_path / "models", lambda done, total: None, service_class=ServiceClass.FAST)
    assert not list((tmp_path / "models").glob("*/manifest.msgpack"))
