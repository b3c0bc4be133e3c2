"""A worker answers what the beacon drew, once, between its requests; the verifier tells who computed it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from consensus.runtime.inference.state import Challenge
from inference.decoding.source import ChooserSource
from inference.engine.engine import StageEngine
from inference.engine.ort import ShardSession
from inference.errors import KvExhaustedError
from node.verifier.judge import Judge
from node.worker.audits import AuditDesk, AuditedShard
from node.worker.compute import ComputeLoop
from proto_specs.codec import decode
from proto_specs.ed25519 import SigningKey
from proto_specs.limits import MIB
from proto_specs.types.audit import AuditAnswer, is_audit_answer
from proto_specs.types.calls import Outcome
from tests.actors.cheating import load_doctored
from tests.actors.doctor import Cheat
from tests.unit.inference.conftest import TinyModel, model

__all__ = ["model"]

KEY = SigningKey.from_seed(bytes(32))
SEED = bytes(range(32))


def make_subject(number: int) -> bytes:
    return hashlib.sha256(bytes([number])).digest()


@dataclass
class DrawnAudits:
    """An `AuditChain` on which the test draws."""

    model: bytes
    subjects: list[bytes] = field(default_factory=list)

    async def list_open_audits(self, worker: bytes) -> list[tuple[bytes, Challenge]]:
        assert worker == KEY.public_key
        times = (1, 20, 40, 30_000)
        return [
            (one, Challenge(one, 0, 0, worker, self.model, bytes(32), *times, (), 0, 0, None, 0, ()))
            for one in self.subjects
        ]


@dataclass
class Bench:
    model: TinyModel
    session: ShardSession
    directory: Path
    chain: DrawnAudits
    compute: ComputeLoop

    def make_desk(self) -> AuditDesk:
        shard = self.session.shard
        audited = AuditedShard(self.model.store, self.model.model_id, self.model.manifest, shard.start, shard.end, KEY)
        return AuditDesk(self.directory / "audits", audited, self.chain, self.compute)

    def judge(self, data: bytes) -> Any:
        answer = decode(AuditAnswer, data, MIB)
        return Judge(self.model.store).judge_audit(answer, self.model.model_id, self.model.manifest, SEED)


def make_bench(model: TinyModel, session: ShardSession, directory: Path, kv_positions: int = 256) -> Bench:
    engine = StageEngine(session, kv_positions)
    choosers = ChooserSource(model.store, model.model_id, model.manifest)
    return Bench(model, session, directory, DrawnAudits(model.model_id), ComputeLoop(engine, choosers))


@pytest.mark.parametrize("layers", [(0, 3), (0, 1), (1, 2), (1, 3)])
async def test_what_an_honest_worker_computed_passes(model: TinyModel, tmp_path: Path, layers: tuple[int, int]) -> None:
    bench = make_bench(model, model.load(*layers), tmp_path)
    desk = bench.make_desk()
    bench.chain.subjects = [make_subject(one) for one in range(3)]
    assert desk.find(make_subject(0)) is None
    await desk.run_once()
    for subject in bench.chain.subjects:
        data = desk.find(subject)
        assert data is not None
        answer = decode(AuditAnswer, data, MIB)
        assert is_audit_answer(answer, subject, model.manifest, KEY.public_key)
        assert not is_audit_answer(answer, make_subject(9), model.manifest, KEY.public_key)
        assert not is_audit_answer(answer, subject, model.manifest, bytes(32))
        verdict = bench.judge(data)
        assert verdict.outcome is Outcome.PASS
        assert any(verdict.fingerprint)


@pytest.mark.parametrize("kind", [Cheat.QUANTISE, Cheat.PERTURB, Cheat.SKIP])
@pytest.mark.parametrize("layers", [(0, 2), (1, 3)])
async def test_what_a_cheat_computed_fails(
    model: TinyModel, tmp_path: Path, kind: Cheat, layers: tuple[int, int]
) -> None:
    cheat = load_doctored(model.directory, tmp_path / "doctored", model.cut(*layers), kind)
    bench = make_bench(model, cheat, tmp_path)
    bench.chain.subjects = [make_subject(1)]
    desk = bench.make_desk()
    await desk.run_once()
    verdict = bench.judge(desk.find(make_subject(1)) or b"")
    assert verdict.outcome is Outcome.FAIL
    assert verdict.distance_ppb > 10 * model.manifest.profile.threshold_ppb


async def test_the_answer_to_one_audit_is_none_to_another_nor_of_other_layers(model: TinyModel, tmp_path: Path) -> None:
    bench = make_bench(model, model.load(1, 2), tmp_path)
    desk = bench.make_desk()
    bench.chain.subjects = [make_subject(1)]
    await desk.run_once()
    answer = decode(AuditAnswer, desk.find(make_subject(1)) or b"", MIB)
    judge = Judge(model.store)
    other = replace(answer, leaf=replace(answer.leaf, request=make_subject(2)))
    assert judge.judge_audit(other, model.model_id, model.manifest, SEED).outcome is Outcome.FAIL
    elsewhere = replace(answer, start=1, end=3)
    assert judge.judge_audit(elsewhere, model.model_id, model.manifest, SEED).outcome is Outcome.FAIL
    broken = replace(answer, payload=answer.payload[:-4])
    assert judge.judge_audit(broken, model.model_id, model.manifest, SEED).outcome is Outcome.FAIL


async def test_an_answer_is_signed_once_and_forgotten_when_the_audit_is(model: TinyModel, tmp_path: Path) -> None:
    bench = make_bench(model, model.load(1, 2), tmp_path)
    bench.chain.subjects = [make_subject(1)]
    await bench.make_desk().run_once()
    first = bench.make_desk().find(make_subject(1))
    cheat = load_doctored(model.directory, tmp_path / "doctored", model.cut(1, 2), Cheat.SKIP)
    again = make_bench(model, cheat, tmp_path)
    again.chain.subjects = [make_subject(1)]
    await again.make_desk().run_once()
    assert again.make_desk().find(make_subject(1)) == first, "two leaves of one slot would convict it"
    again.chain.subjects = []
    await again.make_desk().run_once()
    assert again.make_desk().find(make_subject(1)) is None
    assert not list((tmp_path / "audits").iterdir())


async def test_a_worker_whose_memory_is_promised_answers_all_the_same(model: TinyModel, tmp_path: Path) -> None:
    """Requests hold all of its KV memory; an audit has 32 positions of its own, for one pass."""
    bench = make_bench(model, model.load(1, 2), tmp_path, 32)
    engine = bench.compute._engine  # noqa: SLF001
    for number in range(4):
        engine.open(bytes([number]) * 32, 32)
    with pytest.raises(KvExhaustedError):
        engine.open(bytes([9]) * 32, 32)
    bench.chain.subjects = [make_subject(1)]
    await bench.make_desk().run_once()
    assert bench.judge(bench.make_desk().find(make_subject(1)) or b"").outcome is Outcome.PASS
    assert engine.budget.free == 32
