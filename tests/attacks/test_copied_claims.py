"""A lazy verifier computes nothing: it says pass and publishes the projection of the rows that the worker claims."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from consensus.runtime.inference.state import CommitteeMember, Reveal
from consensus.runtime.inference.tally import compute_tally, is_fingerprint_match
from inference.engine.ort import ShardSession
from inference.engine.verify import verify_window
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.fingerprint import compute_delta, compute_projection, compute_scale
from inference.model.graph.shard import ShardRange
from inference.model.importing import import_model
from inference.model.store import ShardStore
from proto_specs.limits import FINGERPRINT_TOLERANCE_PPB
from proto_specs.types.calls import Outcome
from proto_specs.types.manifest import Manifest, WireDtype, compute_model_id
from tests.unit.consensus.runtime.inference.inference_world import build_spec
from tests.unit.inference import tiny

Rows = NDArray[np.float32]
SEED = bytes(range(32))
TOKENS = np.random.default_rng(5).integers(0, 200, 64).astype(np.uint32)


@pytest.fixture(scope="module", name="stored")
def fixture_stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    root = tmp_path_factory.mktemp("copied")
    path = tiny.write_gguf(root / "tiny.gguf", tiny.make_weights(tied=True))
    manifest = import_model(path, root / "models", lambda _done, _total: None, wire_dtype="fp32")
    return manifest, ShardStore(root / "models").get_directory(compute_model_id(manifest))


def run(session: ShardSession, rows: NDArray[np.uint32] | Rows) -> Rows:
    return session.run(session.open_kv(len(rows)), rows).hidden


def publish(stored: tuple[Manifest, Path], dtype: WireDtype, start: int) -> tuple[bytes, bytes]:
    """Fingerprints of an honest verifier and of a lazy one, who even has the true scale, of the window from `start`."""
    manifest, directory = replace(stored[0], wire_dtype=dtype), stored[1]
    entered = run(ShardSession(ShardRange(manifest, 0, 1), directory), TOKENS)
    session = ShardSession(ShardRange(manifest, 1, 2), directory)
    entered = decode_rows(encode_rows(entered, dtype), dtype, entered.shape[1])
    own = run(session, entered)
    claimed = decode_rows(encode_rows(own, dtype), dtype, own.shape[1])
    honest = verify_window(session, entered, start, claimed[start:], manifest.profile, SEED)
    assert honest.distance_ppb == 0, "the claim is right, so the lazy one says what is true"
    scale = compute_scale(compute_delta(own, entered))
    copied = compute_projection(compute_delta(claimed[start:], entered[start:]), scale, SEED)
    return honest.projection, copied


@pytest.mark.parametrize("start", [0, 32])
@pytest.mark.parametrize(("dtype", "apart"), [(WireDtype.BF16, 20), (WireDtype.FP16, 3)])
def test_a_copied_claim_shows_where_the_wire_rounds(
    stored: tuple[Manifest, Path], dtype: WireDtype, apart: int, start: int
) -> None:
    """What the wire rounded off is in no claim, and nobody can guess it: the copy is an outlier by a wide margin."""
    honest, copied = publish(stored, dtype, start)
    assert not is_fingerprint_match(honest, copied, apart * FINGERPRINT_TOLERANCE_PPB)


def test_it_does_not_where_the_wire_carries_all(stored: tuple[Manifest, Path]) -> None:
    """One of the reasons for a rounded wire: here copying would be verifying for nothing."""
    honest, copied = publish(stored, WireDtype.FP32, 0)
    assert is_fingerprint_match(honest, copied)


def test_the_copy_counts_for_nothing_among_honest_ones(stored: tuple[Manifest, Path]) -> None:
    honest, copied = publish(stored, WireDtype.BF16, 0)
    params = build_spec(committee_size=3, fails_min=2).params.inference
    committee = tuple(CommitteeMember(bytes([index]) * 32, 100) for index in range(3))
    prints = zip(committee, (honest, copied, honest), strict=True)
    tally = compute_tally(
        params, committee, {one.verifier: Reveal(Outcome.PASS, 0, 0, fingerprint) for one, fingerprint in prints}
    )
    assert tally.carriers == (committee[0].verifier, committee[2].verifier)


def test_a_majority_of_copies_is_what_it_does_not_stop(stored: tuple[Manifest, Path]) -> None:
    """They agree with each other. Their wrong verdicts need two thirds of a committee drawn by stake, as bribes do."""
    honest, copied = publish(stored, WireDtype.BF16, 0)
    params = build_spec(committee_size=3, fails_min=2).params.inference
    committee = tuple(CommitteeMember(bytes([index]) * 32, 100) for index in range(3))
    prints = zip(committee, (honest, copied, copied), strict=True)
    tally = compute_tally(
        params, committee, {one.verifier: Reveal(Outcome.PASS, 0, 0, fingerprint) for one, fingerprint in prints}
    )
    assert tally.carriers == (committee[1].verifier, committee[2].verifier)
