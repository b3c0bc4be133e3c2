"""Typed storage: keys that sort and never collide, values in canonical encoding."""

from __future__ import annotations

from typing import Annotated

import pytest

from consensus.state.overlay import Overlay
from consensus.state.reader import DictState
from consensus.state.storage import StorageMap, StorageSet, StorageValue
from proto_specs.codec import U8, U32, Fixed, Max
from proto_specs.types.common import Balance

Key4 = Annotated[bytes, Fixed(4)]


def test_values_have_defaults_or_must_be_there() -> None:
    state = Overlay(DictState())
    counter: StorageValue[int] = StorageValue("test.counter", Balance, 7)
    strict: StorageValue[int] = StorageValue("test.strict", Balance)
    assert counter.read(state) == 7
    with pytest.raises(AssertionError):
        strict.read(state)
    counter.write(state, 300)
    assert counter.read(state) == 300
    assert state.changes() == ((b"test.counter:", b"\xcd\x01\x2c"),)


def test_map_keys_sort_by_their_parts() -> None:
    state = Overlay(DictState())
    by_height: StorageMap[int] = StorageMap("test.by_height", (U32, Key4), Balance)
    for height, name in ((256, b"aaaa"), (2, b"zzzz"), (2, b"bbbb")):
        by_height.write(state, height, name, height)
    assert by_height.key(256, b"aaaa") == b"test.by_height:\x00\x00\x01\x00aaaa"
    assert [key for key, _ in by_height.iterate(state)] == [(2, b"bbbb"), (2, b"zzzz"), (256, b"aaaa")]
    assert list(by_height.iterate(state, 2)) == [((2, b"bbbb"), 2), ((2, b"zzzz"), 2)]
    by_height.delete(state, 2, b"bbbb")
    assert by_height.read(state, 2, b"bbbb") is None
    assert by_height.read(state, 2, b"zzzz") == 2


def test_sets_hold_their_members() -> None:
    state = Overlay(DictState())
    members = StorageSet("test.members", (U8, Key4))
    members.add(state, 1, b"aaaa")
    members.add(state, 1, b"aaaa")
    members.add(state, 2, b"bbbb")
    assert members.contains(state, 1, b"aaaa")
    assert not members.contains(state, 2, b"aaaa")
    members.remove(state, 1, b"aaaa")
    assert list(members.iterate(state)) == [(2, b"bbbb")]


def test_keys_of_the_wrong_shape_are_bugs() -> None:
    state = Overlay(DictState())
    members = StorageSet("test.members", (U8, Key4))
    with pytest.raises(AssertionError):
        members.add(state, 1, b"aaa")
    with pytest.raises(AssertionError):
        members.add(state, 1)
    with pytest.raises(TypeError):
        StorageSet("test.loose", (Annotated[bytes, Max(4)],))
    with pytest.raises(AssertionError):
        StorageSet("test:colon", (U8,))
