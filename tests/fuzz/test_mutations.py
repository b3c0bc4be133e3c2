"""A small share of `make fuzz`, and that it would see: untyped errors, lost money, second encodings, wasted time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest

from consensus.runtime import dispatch
from consensus.runtime.balances import ledger
from consensus.runtime.context import Environment
from node.local_api.methods import table
from proto_specs.codec import decode, decode_as, encode
from proto_specs.types import calls
from proto_specs.types.calls import Call
from proto_specs.types.chain import Block, Transaction
from tests.fuzz import run, targets
from tests.fuzz.mutate import Spoiler, list_spans
from tests.fuzz.scene import Scene
from tests.fuzz.values import Changer
from tests.property.proto_specs.spoiling import pack

SHARE = {"decode": 2_500, "pool": 700, "execute": 1_500, "block": 250, "rpc": 1_200}
SEED = 11


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("fuzz") / "db")
    yield made
    made.close()


@pytest.mark.parametrize("name", sorted(SHARE))
def test_only_typed_refusals(scene: Scene, name: str) -> None:
    report = run.run_chunk(scene, SEED, name, 0, SHARE[name])
    hint = f"python -m tests.fuzz.run --seed {SEED} --replay "
    assert report.findings == [], "\n".join(f"{hint}{place}\n{text}" for place, text in report.findings[:3])
    assert run.judge(report, report.resident_bytes) == []
    assert len(report.outcomes) > 4, report.outcomes


def test_every_call_is_executed(scene: Scene) -> None:
    """The attack reaches the handlers: each call's either did something or refused."""
    report = run.Report()
    for chunk in range(1, 5):
        report.add(run.run_chunk(scene, SEED, "execute", chunk, 600))
    reached = {outcome.split(": ")[1] for outcome in report.outcomes}
    assert {one.__name__ for one in get_args(Call)} - reached == set()


def test_a_chunk_replays(scene: Scene) -> None:
    for name in SHARE:
        first, second = (run.run_chunk(scene, 5, name, 3, 60) for _ in range(2))
        assert first.outcomes == second.outcomes


def test_a_plan_has_every_case_once() -> None:
    planned = list(run.plan(10_007, 500))
    assert sum(count for _, _, count in planned) == 10_007
    assert len({(name, chunk) for name, chunk, _ in planned}) == len(planned)
    assert {name for name, _, _ in planned[: len(run.SHARES)]} == set(run.SHARES)


def find(scene: Scene, name: str, cases: int = 150) -> str:
    """The first finding of a chunk."""
    findings = run.run_chunk(scene, SEED, name, 1, cases).findings
    assert findings, "the fuzz run is blind to this"
    return findings[0][1]


def test_an_untyped_error_is_found(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(env: Environment, signer: bytes, call: Any) -> None:
        raise KeyError(signer)

    monkeypatch.setitem(dispatch.HANDLERS, calls.Transfer, fail)
    assert "KeyError" in find(scene, "execute")


def test_made_money_is_found(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def give(env: Environment, signer: bytes, call: Any) -> None:
        ledger.credit(env.state, signer, 1)

    monkeypatch.setitem(dispatch.HANDLERS, calls.Transfer, give)
    assert "issuance is not the sum of the accounts" in find(scene, "execute")


def test_a_second_encoding_is_found(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "decode_as", lambda as_type, data: decode_as(as_type, data.rstrip(b"\0")))
    assert "not the encoding of what was read" in find(scene, "decode", 2_000)


def test_a_second_valid_child_is_found(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from node.chain import blocks

    monkeypatch.setattr(blocks, "_check_header", lambda head, block, now_ms: None)
    assert "a second valid child" in find(scene, "block", 300)


def test_an_untyped_error_of_a_method_is_found(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(view: Any, params: Any) -> Any:
        """Has a bug."""
        raise ValueError("no ApiError")

    run.run_chunk(scene, SEED, "rpc", 0, 1)  # learns what each method takes by calling it
    monkeypatch.setitem(table.METHODS, "chain_getHeader", replace(table.METHODS["chain_getHeader"], function=fail))
    assert "no ApiError" in find(scene, "rpc", 2_000)


def test_time_and_memory_are_judged() -> None:
    report = run.Report(slowest_s=3.0, slowest="pool/1/2", peak_bytes=1 << 30, peak="rpc/1/3", resident_bytes=1 << 30)
    time_wrong, peak_wrong, growth_wrong = run.judge(report, 1 << 20)
    assert time_wrong == "pool/1/2 took 3.00 s, 2.0 s are allowed"
    assert peak_wrong == "rpc/1/3 took 1024 MiB, 64 MiB are allowed"
    assert growth_wrong == "memory grew from 1 to 1024 MiB"
    assert run.judge(run.Report(), 0) == []


def test_spans_cover_every_value(scene: Scene) -> None:
    for data in scene.spoilers[Transaction].corpus:
        spans = list_spans(data)
        assert (spans[0].start, spans[0].end) == (0, len(data))
        for span in spans[1:]:
            outer = spans[span.parent]
            assert outer.is_list
            assert outer.body <= span.start < span.body <= span.end <= outer.end
    assert [(one.start, one.body, one.end) for one in list_spans(b"\x93\x01\xc4\x02ab\x91\xa1c")] == [
        (0, 1, 9),
        (1, 2, 2),
        (2, 4, 6),
        (6, 7, 9),
        (7, 8, 9),
    ]


def test_most_spoils_differ_from_everything_valid() -> None:
    corpus = [pack([1, 300, b"bytes", "text", [1, [2, None], True]])]
    spoiler, rng = Spoiler(corpus), random.Random(1)
    made = Counter(spoiler.spoil(rng) for _ in range(500))
    assert made[corpus[0]] < 50
    assert len(made) > 250


def test_changed_values_still_encode(scene: Scene) -> None:
    rng = random.Random(2)
    changer = Changer(rng, scene.ids)
    value: Any = scene.next_block
    for _ in range(300):
        value = changer.change(value, Block)
        assert decode(Block, encode(value)) == value
