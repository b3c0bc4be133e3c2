"""Whom a worker counts on: those the chain lists as active who answer, and do not leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from node.client.chain_view import WorkerEntry
from node.worker import surroundings
from node.worker.surroundings import look_around, make_held
from proto_specs.types.probe import WorkerReport
from tests.unit.node.worker.world import MODEL, DictChain, make_chain

OWN = b"o" * 32


def make_report(entry: WorkerEntry, **fields: Any) -> WorkerReport:
    report = WorkerReport(
        bytes(32), bytes(32), entry.worker, "p", MODEL, entry.start, entry.end, 1, 2_001, 300, 50, 100, 0, 0, False
    )
    return replace(report, **fields)


class LookedChain(DictChain):
    async def get_height(self) -> int:
        return 1


def build(**changes: Any) -> tuple[LookedChain, list[WorkerEntry]]:
    made = make_chain()
    chain = LookedChain(made.genesis, workers={key: replace(one, **changes) for key, one in made.workers.items()})
    return chain, list(chain.workers.values())


async def test_the_silent_the_leaving_and_the_inactive_do_not_count() -> None:
    chain, (first, second, third) = build()
    away = replace(first, worker=b"a" * 32, is_active=False)
    chain.workers[away.worker] = away
    asked = []

    async def probe(entry: WorkerEntry) -> WorkerReport | None:
        asked.append(entry.worker)
        reports = {first.worker: make_report(first), second.worker: make_report(second, is_leaving=True)}
        return reports.get(entry.worker)

    seen = await look_around(chain, MODEL, OWN, probe)  # type: ignore[arg-type]
    assert [one.worker for one in seen.held] == [first.worker]
    assert seen.silent == (third.worker,)
    assert {one.worker for one in seen.listed} == {first.worker, second.worker, third.worker} == set(asked)


async def test_oneself_is_no_other() -> None:
    chain, (first, *_) = build()

    async def probe(entry: WorkerEntry) -> WorkerReport | None:
        return make_report(entry)

    seen = await look_around(chain, MODEL, first.worker, probe)  # type: ignore[arg-type]
    assert first.worker not in {one.worker for one in seen.held}
    assert len(seen.held) == 2


async def test_of_many_some_are_asked_and_the_chain_is_believed_of_the_rest(monkeypatch: Any) -> None:
    monkeypatch.setattr(surroundings, "PROBES_MAX", 2)
    chain, _ = build()
    asked = []

    async def probe(entry: WorkerEntry) -> WorkerReport | None:
        asked.append(entry.worker)
        return None

    seen = await look_around(chain, MODEL, OWN, probe)  # type: ignore[arg-type]
    assert len(asked) == 2
    assert len(seen.held) == 1
    assert seen.held[0].worker not in asked


def test_a_steps_time_is_shared_by_its_layers() -> None:
    _, (first, *_) = build()
    held = make_held(first, make_report(first))
    assert (held.start, held.end, held.layer_us, held.kv_positions, held.price) == (0, 2, 1_001, 100, 2)
    assert make_held(first, None).layer_us == make_held(first, None).kv_positions == 0
