"""Layers of writes: what reads see, what rollback forgets, what `changes` reports."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.state.overlay import Overlay
from consensus.state.reader import DictState


def test_reads_fall_through_the_layers() -> None:
    overlay = Overlay(DictState({b"a": b"0", b"b": b"0"}))
    overlay.put(b"a", b"1")
    overlay.begin()
    overlay.delete(b"b")
    overlay.begin()
    overlay.put(b"b", b"2")
    assert [overlay.get(key) for key in (b"a", b"b", b"c")] == [b"1", b"2", None]
    overlay.rollback()
    assert overlay.get(b"b") is None
    overlay.rollback()
    assert overlay.get(b"b") == b"0"
    assert overlay.changes() == ((b"a", b"1"),)


def test_commit_merges_into_the_layer_below() -> None:
    overlay = Overlay(DictState({b"x": b"0"}))
    overlay.begin()
    overlay.put(b"b", b"1")
    overlay.begin()
    overlay.delete(b"x")
    overlay.put(b"a", b"1")
    overlay.commit()
    overlay.commit()
    assert overlay.changes() == ((b"a", b"1"), (b"b", b"1"), (b"x", None))


def test_changes_leave_out_what_ends_as_it_was() -> None:
    overlay = Overlay(DictState({b"a": b"0"}))
    overlay.put(b"a", b"1")
    overlay.put(b"a", b"0")
    overlay.put(b"new", b"1")
    overlay.delete(b"new")
    overlay.delete(b"absent")
    assert overlay.changes() == ()


def test_iteration_is_ordered_over_reader_and_layers() -> None:
    overlay = Overlay(DictState({b"p:1": b"0", b"p:3": b"0", b"q:1": b"0"}))
    overlay.put(b"p:2", b"1")
    overlay.begin()
    overlay.delete(b"p:3")
    overlay.put(b"p:0", b"2")
    assert list(overlay.iterate(b"p:")) == [(b"p:0", b"2"), (b"p:1", b"0"), (b"p:2", b"1")]
    for key, _ in overlay.iterate(b"p:"):
        overlay.delete(key)
    assert list(overlay.iterate(b"p:")) == []


def test_changes_need_closed_layers() -> None:
    overlay = Overlay(DictState())
    overlay.begin()
    with pytest.raises(AssertionError):
        overlay.changes()
    overlay.commit()
    for misuse in (overlay.commit, overlay.rollback):
        with pytest.raises(AssertionError):
            misuse()


class Watched(bytes):
    """A key that counts how often anybody asks what it starts with."""

    asked = 0

    def startswith(self, *args: Any) -> bool:  # type: ignore[override]
        Watched.asked += 1
        return super().startswith(*args)


def test_iteration_costs_what_lies_under_the_prefix_and_not_what_the_block_wrote() -> None:
    """Else a block's writes would make the calls after them cost more than they weigh."""
    overlay = Overlay(DictState())
    for number in range(5_000):
        overlay.put(Watched(b"other:" + number.to_bytes(4, "big")), b"")
    for number in range(3):
        overlay.put(Watched(b"p:" + bytes([number])), b"")
        Watched.asked = 0
        assert len(list(overlay.iterate(b"p:"))) == number + 1
        assert Watched.asked <= number + 2


STEPS = st.sampled_from(["put", "delete", "begin", "commit", "rollback", "iterate"])


@given(st.lists(st.tuples(STEPS, st.binary(max_size=2))))
def test_iteration_is_what_plain_dicts_give(steps: list[tuple[str, bytes]]) -> None:
    """Against a copy of the whole state per layer."""
    base = {b"a": b"0", b"ab": b"0", b"\xff": b"0"}
    overlay, layers = Overlay(DictState(base)), [dict(base)]
    for step, key in steps:
        if step == "put":
            overlay.put(key, b"1")
            layers[-1][key] = b"1"
        elif step == "delete":
            overlay.delete(key)
            layers[-1].pop(key, None)
        elif step == "begin":
            overlay.begin()
            layers.append(dict(layers[-1]))
        elif step == "iterate":
            wanted = sorted((one, value) for one, value in layers[-1].items() if one.startswith(key[:1]))
            assert list(overlay.iterate(key[:1])) == wanted
        elif len(layers) > 1:
            top = layers.pop()
            if step == "commit":
                overlay.commit()
                layers[-1] = top
            else:
                overlay.rollback()
    assert list(overlay.iterate(b"")) == sorted(layers[-1].items())
