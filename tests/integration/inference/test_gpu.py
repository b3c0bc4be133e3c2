"""A GPU against the CPU: the distance at every boundary, and how fast it is. Skipped, with the reason, without one."""

from __future__ import annotations

import time

import numpy as np
import pytest

from inference.engine.device import Device
from inference.engine.engine import load_session
from inference.engine.kv_memory import KvCache
from inference.engine.ort import ShardSession, require_device
from inference.engine.rows import Rows
from inference.engine.verify import verify_window
from inference.errors import DeviceError
from inference.model.graph.shard import ShardRange
from proto_specs.types.manifest import compute_model_id
from tests.integration.inference.conftest import CUTS, RealModel, generate
from tests.unit.inference.model.families import reference
from tests.unit.inference.model.families.cases import MAIN, OPTIONS, WIDE
from tests.unit.inference.model.families.reference import Case, draw_tokens
from tests.unit.inference.model.families.sparse_cases import SPARSE_MAIN, SPARSE_OPTIONS, SPARSE_WIDE

pytestmark = pytest.mark.gpu

GPU = Device.parse("cuda")
SEED = bytes(32)
FAMILY_TOLERANCE = 1e-5
POSITIONS, BATCH, STEPS = 512, 8, 32


@pytest.fixture(scope="module", autouse=True)
def _gpu() -> None:
    try:
        require_device(GPU)
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("case", [*MAIN, *OPTIONS, *WIDE, *SPARSE_MAIN, *SPARSE_OPTIONS, *SPARSE_WIDE], ids=str)
def test_every_family_is_the_same(case: Case, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp(case.name)
    stored = reference.import_path(
        reference.save_model(reference.make_model(case), root / "checkpoint"), root / "models"
    )
    directory = stored.store.get_directory(compute_model_id(stored.manifest))
    ours, theirs = stored.load(), ShardSession(ShardRange(stored.manifest, 0, stored.layers), directory, device=GPU)
    tokens = draw_tokens(60)
    for cuts in ((), (7, 24), tuple(range(1, 60))):
        wanted = reference.compute_logits(ours, tokens, cuts)
        found = reference.compute_distance(reference.compute_logits(theirs, tokens, cuts), wanted)
        print(f"{case.name} in {len(cuts) + 1} calls: {found:.1e}")
        assert found <= FAMILY_TOLERANCE
    sequences = [draw_tokens(count, seed=count) for count in (9, 40, 21)]
    wanted_rows = reference.compute_together(ours, sequences, steps=6)
    for one, other in zip(reference.compute_together(theirs, sequences, steps=6), wanted_rows, strict=True):
        assert reference.compute_distance(one, other) <= FAMILY_TOLERANCE


@pytest.fixture(scope="module")
def gpu_shards(real: RealModel) -> list[ShardSession]:
    return [load_session(real.store, real.model_id, start, end, device=GPU) for start, end in CUTS]


def test_verifiers_on_either_pass_workers_on_the_other(
    real: RealModel, shards: list[ShardSession], gpu_shards: list[ShardSession]
) -> None:
    tokens = np.random.default_rng(3).integers(0, real.manifest.architecture.vocab, POSITIONS).astype(np.uint32)
    rows: Rows = tokens
    for cpu, gpu in zip(shards, gpu_shards, strict=True):
        answers = [one.run(one.open_kv(POSITIONS), rows).hidden for one in (cpu, gpu)]
        for name, judge, claimed in (("CPU judges GPU", cpu, answers[1]), ("GPU judges CPU", gpu, answers[0])):
            found = verify_window(judge, rows, 0, claimed, real.manifest.profile, SEED)
            print(f"layers {cpu.shard.start}-{cpu.shard.end - 1}, {name}: {found.distance_ppb} ppb")
            assert found.ok
        rows = answers[0]


def test_greedy_answers_are_the_same(
    real: RealModel, shards: list[ShardSession], gpu_shards: list[ShardSession]
) -> None:
    prompt = real.ask("Why is the sky blue?")
    assert generate(gpu_shards, prompt, 48) == generate(shards, prompt, 48)


def test_speed(real: RealModel) -> None:
    session = load_session(real.store, real.model_id, 0, real.manifest.architecture.layers, device=GPU)
    memory = session.make_memory(BATCH, POSITIONS)
    caches = [KvCache(memory, slot) for slot in range(BATCH)]
    tokens = np.arange(256, dtype=np.uint32)
    session.run(caches[0], tokens)
    start = time.perf_counter()
    for kv in caches[1:]:
        session.run(kv, tokens)
    print(f"prefill: {256 * (BATCH - 1) / (time.perf_counter() - start):.0f} tok/s")
    for count in (1, BATCH):
        start = time.perf_counter()
        for _ in range(STEPS):
            outputs = session.run_together(caches[:count], [tokens[:1]] * count, [True] * count)
        assert all(one.logits is not None and np.isfinite(one.logits).all() for one in outputs)
        print(f"decode, {count} at once: {STEPS * count / (time.perf_counter() - start):.0f} tok/s")
