"""ONNX Runtime's own CUDA provider over CUDA libraries that compute nothing: which nodes it takes, what it copies.

What a GPU computes is not shown here (test_gpu.py); all that the runtime decides and does on the host is.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from proto_specs.types.manifest import compute_model_id
from tests.actors.cuda_stub import build_stub, find_missing, run_python
from tests.integration.inference.conftest import RealModel
from tests.unit.inference.model.families import reference
from tests.unit.inference.model.families.cases import MAIN, OPTIONS
from tests.unit.inference.model.families.sparse_cases import SPARSE_MAIN, SPARSE_OPTIONS

pytestmark = pytest.mark.skipif(bool(find_missing()), reason=find_missing() or "all is here")

DENSE = [*MAIN, *OPTIONS]
SPARSE = [*SPARSE_MAIN, *SPARSE_OPTIONS]
Entry = tuple[Path, bytes, bool]


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stub(tmp_path_factory.mktemp("stub"))


def probe(stub: Path, entries: Sequence[Entry]) -> tuple[list[dict[str, Any]], str]:
    """What the probe answers of each, and the copies it caused."""
    text = json.dumps([[str(root), model.hex(), is_run] for root, model, is_run in entries])
    done = run_python(stub, "-m", "tests.actors.cuda_probe", given=text, CUDA_STUB_CALLS="1")
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def read_copies(log: str) -> list[dict[str, list[int]]]:
    """The bytes of each copy of each phase of each model that ran."""
    found: list[dict[str, list[int]]] = []
    phase = "end"
    for line in log.splitlines():
        if line in ("prefill", "decode", "together", "end"):
            phase = line
            if phase == "prefill":
                found.append({})
        elif line.startswith("copy ") and phase != "end":
            found[-1].setdefault(phase, []).append(int(line.split()[1]))
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """A tiny model of every family. Those with experts are only loaded: which of them run is computed on the device."""
    entries = []
    for case, is_run in itertools.chain(zip(DENSE, itertools.repeat(True)), zip(SPARSE, itertools.repeat(False))):
        root = tmp_path_factory.mktemp(case.name)
        checkpoint = reference.save_model(reference.make_model(case), root / "checkpoint")
        stored = reference.import_path(checkpoint, root / "models")
        entries.append((root / "models", compute_model_id(stored.manifest), is_run))
    return entries


def test_every_family_is_wholly_on_the_gpu_and_its_memory_stays_there(stub: Path, tiny: list[Entry]) -> None:
    answers, log = probe(stub, tiny)
    for answer in answers:
        assert answer["providers"] == ["CUDAExecutionProvider"]
        assert answer["operators"]["TensorScatter"]
        assert not answer["operators"].get("GroupQueryAttention")
    ran = [answer for answer in answers if answer["runs"]]
    copies = read_copies(log)
    assert len(ran) == len(copies) == len(DENSE)
    for answer, phases in zip(ran, copies, strict=True):
        assert answer["device"] == "cuda"
        assert answer["runs"] == [[40, 64], [40, 64], [1, 128], [1, 64], [1, 64]]
        for phase in ("decode", "together"):
            assert max(phases[phase]) < answer["memory"] / 8, "memory is written in place"


def test_the_real_model_too(stub: Path, real: RealModel) -> None:
    (answer,), log = probe(stub, [(real.store.root, real.model_id, True)])
    assert answer["providers"] == ["CUDAExecutionProvider"]
    assert answer["operators"]["MatMulNBits"] > 100
    (phases,) = read_copies(log)
    assert max(phases["decode"]) < answer["memory"] / 2, "the largest are the logits"


TF32_ON = (
    "import inference.engine.cuda as c; f = c.make_provider_options; "
    "c.make_provider_options = lambda device: f(device) | {'use_tf32': '1'}; "
)


@pytest.mark.parametrize(("change", "is_rounded"), [("", False), (TF32_ON, True)], ids=["ours", "with TF32"])
def test_no_product_may_round_its_inputs(stub: Path, real: RealModel, change: str, is_rounded: bool) -> None:
    """What cuBLAS is told: math mode 3 is TF32, compute types 74, 75 and 77 are fp16, bf16 and TF32 inside."""
    given = json.dumps([[str(real.store.root), real.model_id.hex(), True]])
    code = change + "import tests.actors.cuda_probe as p; p.main()"
    done = run_python(stub, "-c", code, given=given, CUDA_STUB_CALLS="1")
    assert done.returncode == 0, done.stderr[-2000:]
    said = set(done.stderr.splitlines())
    assert bool(said & {"math 3", "compute 74", "compute 75", "compute 77"}) == is_rounded


def test_a_gpu_that_is_not_there_is_named(stub: Path) -> None:
    code = "from inference.engine.ort import require_device as r; from inference.engine.device import Device as D; "
    assert run_python(stub, "-c", code + "r(D.parse('cuda:0'))").returncode == 0
    done = run_python(stub, "-c", code + "r(D.parse('cuda:1'))")
    assert "DeviceError: cuda:1: 1 GPUs are visible here" in done.stderr


def test_the_probe_sees_a_node_on_the_cpu(stub: Path, tiny: list[Entry]) -> None:
    """With the graph for CPUs, whose fused attention has no fp32 kernel, the session is refused."""
    root, model, _ = tiny[0]
    code = (
        "import inference.engine.ort as ort; from inference.model.graph.build import build_graph; "
        "ort.build_graph = lambda shard, _: build_graph(shard); import tests.actors.cuda_probe as p; p.main()"
    )
    done = run_python(stub, "-c", code, given=json.dumps([[str(root), model.hex(), False]]))
    assert done.returncode != 0
    assert "EngineError" in done.stderr
