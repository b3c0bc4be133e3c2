"""The table of weights is what its recording gives, the recording is of today's code, and nobody is underpriced.

When one of these fails after a change of a call: `make weights` (benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import get_args

import pytest

from benchmarks.weights import basic, hooks, inference, rig, staking, worlds
from benchmarks.weights.__main__ import make_table_text
from benchmarks.weights.fit import fit_line, round_up
from benchmarks.weights.recording import Recording, load_recording
from benchmarks.weights.render import PATH
from benchmarks.weights.sample import Measurement, Sample
from consensus.runtime import weights
from consensus.runtime import weights_table as table
from genesis.dev import build_dev_spec
from proto_specs.types import calls

SPREAD_MAX = 5
"""The dearest microsecond of work costs at most so many times the cheapest. Calls whose work depends on the state are
priced at its worst, so they pay too much at its best: a verdict as if it was one of 64."""


@pytest.fixture(name="recording", scope="module")
def fixture_recording() -> Recording:
    return load_recording()


def measure_work_ns(one: Measurement, recording: Recording) -> int:
    """What was measured, with the transaction around it, at the measured prices of the state."""
    empty = next(found.sample for found in recording.calls if found.scenario == "an empty transaction")
    time, reads, seeks, rows, writes = (one.sample + empty).parts
    touched = reads * table.READ_NS + seeks * table.SEEK_NS + rows * table.ROW_NS + writes * table.WRITE_NS
    return time + touched + recording.signature_ns + recording.store.commit_ns


def compute_priced(one: Measurement) -> int:
    """The weight of the measured transaction, without that of the calls it holds."""
    costs = table.CALLS[one.call]
    parts = [(1, costs[""]), *((one.size, costs[one.component]) for _ in range(1) if one.component)]
    call_ns = sum(count * price(cost) for count, cost in parts)
    return weights.TRANSACTION_WEIGHT + -(-call_ns // 1_000)


def price(cost: table.Cost) -> int:
    """A cost in ns."""
    prices = (1, table.READ_NS, table.SEEK_NS, table.ROW_NS, table.WRITE_NS)
    return sum(count * each for count, each in zip(cost, prices, strict=True))


def test_the_table_is_what_the_recording_gives(recording: Recording) -> None:
    """A change by hand, or a recording without its table, is told here."""
    assert PATH.read_text("utf-8") == make_table_text(recording)


def test_every_call_is_measured() -> None:
    known = get_args(calls.Call)
    assert [one.__name__ for one in known if not weights.is_measured(one)] == []
    assert table.CALLS.keys() == {one.__name__ for one in known}


def test_no_work_costs_less_than_it_is(recording: Recording) -> None:
    """The attack: whoever finds a call whose microsecond is cheap fills blocks that take longer than their interval."""
    spread = []
    for one in recording.calls:
        if one.call:
            work = Fraction(measure_work_ns(one, recording), 1_000)
            assert compute_priced(one) >= work, f"{one} weighs {compute_priced(one)}, and took {float(work)}"
            spread.append(compute_priced(one) / work)
    assert max(spread) <= SPREAD_MAX * min(spread)


def test_a_block_of_transfers_takes_no_longer_than_it_weighs(recording: Recording) -> None:
    """Measured as a whole, on the large database, with nothing added up: the prices of the parts hold together."""
    transfer = calls.Transfer(bytes(32), 1)
    weight = weights.TRANSACTION_WEIGHT + weights.compute_call_weight(transfer)
    assert recording.store.pair_ns + recording.signature_ns <= weight * 1_000


def test_an_interval_holds_a_full_block_and_an_epochs_end(recording: Recording) -> None:
    """Calls pay for calls: what every block does besides has to fit beside them, at the size that weights assume."""
    params = build_dev_spec().params.system
    interval_us = build_dev_spec().block_interval_ms * 1_000
    assert {one.size for one in recording.hooks} >= {recording.assumed["validators"]}
    for one in recording.hooks:
        beside_us = price(one.sample.parts) // 1_000  # type: ignore[arg-type]
        assert params.block_weight_max + beside_us <= interval_us, one


def test_components_are_those_of_the_scenarios(recording: Recording) -> None:
    for kind in get_args(calls.Call):
        found = {one.component for one in recording.calls if one.call == kind.__name__} - {""}
        assert found == weights.COMPONENTS.get(kind, {}).keys()
    assert recording.assumed == worlds.ASSUMED


@pytest.mark.parametrize("measure", [basic.measure, staking.measure, inference.measure, hooks.measure])
def test_the_recording_is_of_this_code(
    measure: Callable[[], Iterator[Measurement]], recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls touch of the state today what they touched when they were measured; the time is the machine's business."""
    monkeypatch.setattr(rig, "ENOUGH_S", 0.0)
    monkeypatch.setattr(rig, "REPEATS_MIN", 2)
    recorded = {_name(one): one.sample.parts[1:] for one in (*recording.calls, *recording.hooks)}
    for one in measure():
        assert recorded[_name(one)] == one.sample.parts[1:], f"{_name(one)}: run `make weights`"


def test_a_line_is_above_all_its_points() -> None:
    assert fit_line([(0, 10), (10, 30)]) == (10, 2)
    assert fit_line([(1, 1), (2, 4), (3, 9)]) == (0, 4), "a curve from below is covered at its worst"
    assert fit_line([(1, 9), (2, 8)]) == (9, 0), "what falls has no negative price"
    assert fit_line([(4, 7)]) == (7, 0)


@pytest.mark.parametrize(("value", "wanted"), [(0, 0), (7, 7), (99, 99), (101, 105), (996, 1_000), (12_301, 12_500)])
def test_prices_are_rounded_up_by_five_percent_at_most(value: int, wanted: int) -> None:
    assert round_up(value) == wanted


def test_samples_add_up() -> None:
    one = Sample(10, 1, 2, 3, 4)
    assert (one + one).parts == one.multiply(2).parts == (20, 2, 4, 6, 8)
    assert (one - one.multiply(2)).parts == (0, 0, 0, 0, 0)
    assert one.divide(3).parts == (4, 1, 1, 1, 2)


def _name(one: Measurement) -> tuple[str, str, str, int]:
    return one.call, one.scenario, one.component, one.size
