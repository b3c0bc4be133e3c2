"""What a worker says of its speed: lone rows and chunks apart, steps of several requests left out."""

from __future__ import annotations

from node.worker.pace import PaceMeter


def test_nothing_measured_is_zero() -> None:
    pace = PaceMeter()
    assert (pace.decode_us, pace.prefill_us) == (0, 0)


def test_lone_rows_and_chunks_are_told_apart() -> None:
    pace = PaceMeter()
    pace.note([1], 0.010)
    pace.note([64], 0.064)
    assert (pace.decode_us, pace.prefill_us) == (10_000, 1_000)


def test_steps_of_several_requests_and_short_pieces_tell_nothing() -> None:
    pace = PaceMeter()
    for counts in ([], [1, 1], [1, 64], [3]):
        pace.note(counts, 5.0)
    assert (pace.decode_us, pace.prefill_us) == (0, 0)


def test_the_average_follows_and_one_outlier_does_not_rule() -> None:
    pace = PaceMeter()
    for _ in range(20):
        pace.note([1], 0.010)
    pace.note([1], 0.110)
    assert pace.decode_us == 30_000
    for _ in range(60):
        pace.note([1], 0.020)
    assert abs(pace.decode_us - 20_000) < 50


def test_a_time_is_at_least_a_microsecond_and_fits_the_wire() -> None:
    pace = PaceMeter()
    pace.note([1], 0.0)
    pace.note([16], 1e9)
    assert pace.decode_us == 1
    assert pace.prefill_us == 2**32 - 1
