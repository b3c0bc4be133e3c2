"""Layers of writes: what reads see, what rollback forgets, what `changes` reports."""

from __future__ import annotations

import pytest

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
