"""How long the pieces are in which a prompt is computed."""

from __future__ import annotations

import numpy as np
import pytest

from inference.engine.batcher import StageBatcher
from inference.engine.engine import StageEngine
from inference.engine.scheduler import compute_chunk_rows
from inference.engine.wire_dtype import encode_rows
from proto_specs.types.manifest import WireDtype
from tests.unit.inference.conftest import TinyModel
from tests.unit.inference.engine.test_batcher import WIDTH, make_chooser


def test_a_long_prompt_runs_in_long_chunks_while_nobody_decodes(model: TinyModel) -> None:
    session = model.load(1, 3)
    batcher = StageBatcher(StageEngine(session, 10_000))
    rows = np.random.default_rng(3).standard_normal((150, WIDTH)).astype(np.float32)
    prompts, decoder = [b"p" * 32, b"q" * 32], b"d" * 32
    for key in prompts:
        batcher.open(key, 150, 149, make_chooser(session), 128)
    batcher.open(decoder, 20, 3, make_chooser(session), 128)

    def run() -> dict[bytes, int]:
        planned = batcher.plan()
        assert planned is not None
        batcher.run(planned)
        batcher.finish(planned)
        return {work.request_id: work.count for work in planned.step.works}

    batcher.submit(prompts[0], 0, 150, encode_rows(rows, WireDtype.FP32))
    assert run() == {prompts[0]: 128}
    batcher.submit(prompts[1], 0, 150, encode_rows(rows, WireDtype.FP32))
    batcher.submit(decoder, 0, 4, encode_rows(rows[:4], WireDtype.FP32))
    assert [run(), run(), run()] == [{prompts[0]: 22}, {prompts[1]: 64}, {decoder: 4}], "one decodes from now on"
    batcher.submit(decoder, 4, 1, encode_rows(rows[:1], WireDtype.FP32))
    assert run() == {decoder: 1, prompts[1]: 64}


def test_prompts_that_wait_for_each_other_run_in_the_longest_chunks(model: TinyModel) -> None:
    session = model.load(1, 3)
    batcher = StageBatcher(StageEngine(session, 10_000))
    rows = np.random.default_rng(3).standard_normal((100, WIDTH)).astype(np.float32)
    counts = []
    for key in (b"p" * 32, b"q" * 32):
        batcher.open(key, 150, 149, make_chooser(session), 32)
        batcher.submit(key, 0, 100, encode_rows(rows, WireDtype.FP32))
    while (planned := batcher.plan()) is not None:
        batcher.run(planned)
        batcher.finish(planned)
        counts += [work.count for work in planned.step.works]
    assert counts == [100, 32, 32, 36]


@pytest.mark.parametrize(
    ("prompt_tokens", "stages", "rows"), [(4_000, 1, 256), (100, 3, 32), (4_000, 2, 256), (1_000, 3, 96), (1, 64, 32)]
)
def test_chunks_grow_with_the_prompt_and_shrink_with_the_path(prompt_tokens: int, stages: int, rows: int) -> None:
    assert compute_chunk_rows(prompt_tokens, stages) == rows
