"""Who is blamed when nothing comes: who is silent, who has rows and computes none; and nobody while tokens come."""

from __future__ import annotations

import pytest

from node.client.stalls import PASS_S_MAX, PING_AFTER_S, SILENT_S, STUCK_S, StallWatch
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.wire import Pong

LOOK_S = 0.1


class Scene:
    """Three stages that answer pings at once, but for those told otherwise, looked at ten times a second."""

    def __init__(self, stages: int = 3) -> None:
        self.now_s = 100.0
        self.watch = StallWatch(self.now_s)
        self.figures = dict.fromkeys(range(stages), (40, 40, 7, 5))
        self.silent: set[int] = set()
        self.pings = 0
        for stage in range(stages):
            self.watch.accept(stage)

    def pass_time(self, seconds: float, moves: bool = False) -> tuple[int, str, float] | None:
        """The stage that is blamed first, what for, and when."""
        began_s = self.now_s
        while self.now_s < began_s + seconds:
            self.now_s += LOOK_S
            if moves:
                self.watch.note_moved(self.now_s)
            for stage in self.watch.list_due(self.now_s):
                self.pings += 1
                if stage not in self.silent:
                    received, computed, steps, pass_ms = self.figures[stage]
                    self.watch.note_pong(stage, Pong(ZERO_HASH, 0, received, computed, steps, pass_ms), self.now_s)
            found = self.watch.find_stalled(self.now_s)
            if found is not None:
                return *found, self.now_s - began_s
        return None


def test_nobody_is_asked_or_blamed_while_tokens_come() -> None:
    scene = Scene()
    scene.silent = {0, 1, 2}
    assert scene.pass_time(60, moves=True) is None
    assert scene.pings == 0


def test_a_silent_stage_is_found_within_two_and_a_half_seconds() -> None:
    for lost in range(3):
        scene = Scene()
        scene.silent = {lost}
        found = scene.pass_time(10)
        assert found is not None
        stage, what, after_s = found
        assert (stage, what) == (lost, "does not answer")
        assert SILENT_S <= after_s <= 2.5


def test_a_stage_that_answers_and_computes_nothing_is_stuck() -> None:
    scene = Scene()
    scene.figures = {0: (41, 41, 9, 5), 1: (41, 40, 8, 5), 2: (40, 40, 8, 5)}
    found = scene.pass_time(10)
    assert found is not None
    assert found[:2] == (1, "computes nothing")
    assert STUCK_S <= found[2] <= STUCK_S + 2 * PING_AFTER_S + LOOK_S


def test_a_stage_to_which_rows_do_not_come_through_takes_none() -> None:
    scene = Scene()
    scene.figures = {0: (41, 41, 9, 5), 1: (40, 40, 8, 5), 2: (40, 40, 8, 5)}
    found = scene.pass_time(10)
    assert found is not None
    assert found[:2] == (1, "takes no rows")


def test_a_slow_pass_is_waited_for_three_times_as_long_and_not_for_ever() -> None:
    for pass_ms, allowed_s in ((2_000, 6.0), (60_000, PASS_S_MAX)):
        scene = Scene()
        scene.figures[1] = (72, 40, 8, pass_ms)
        assert scene.pass_time(allowed_s - 1) is None
        found = scene.pass_time(3)
        assert found is not None
        assert found[0] == 1


def test_a_busy_shard_that_serves_others_meanwhile_is_not_stuck() -> None:
    """Its passes go on: this request's turn comes."""
    scene = Scene()
    for step in range(40):
        scene.figures[1] = (72, 40, 8 + step, 50)
        assert scene.pass_time(1) is None


def test_a_prompt_on_its_way_is_progress_although_nothing_comes_to_the_client() -> None:
    scene = Scene()
    for step in range(40):
        scene.figures = {0: (2_000, 2_000, 60, 50), 1: (2_000, 32 * step, step, 50), 2: (32 * step, 0, step, 50)}
        assert scene.pass_time(1) is None


def test_all_done_and_nothing_to_do_blames_nobody() -> None:
    assert Scene().pass_time(60) is None


def test_a_stage_that_did_not_accept_yet_is_not_watched() -> None:
    watch = StallWatch(0.0)
    assert watch.list_due(10.0) == []
    assert watch.find_stalled(100.0) is None
    watch.note_pong(0, Pong(ZERO_HASH, 0, 0, 0, 0, 0), 100.0)
    assert watch.find_stalled(200.0) is None


def test_what_comes_clears_an_unanswered_ping() -> None:
    scene = Scene()
    scene.silent = {1}
    assert scene.pass_time(1.5) is None
    scene.watch.note_moved(scene.now_s)
    assert scene.pass_time(1.5) is None
    assert scene.pass_time(1.5) is not None


def test_the_next_look_is_soon_and_never_at_once() -> None:
    watch = StallWatch(10.0)
    watch.accept(0)
    assert watch.get_next_look(10.0) == pytest.approx(PING_AFTER_S)
    assert watch.get_next_look(50.0) == 0.05
