"""The codec over every record of the protocol: one value, one encoding; anything else is a DecodeError and cheap."""

from __future__ import annotations

import dataclasses
import time
import tracemalloc
import typing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_specs.codec import Fixed, Int, Max, UInt, decode_as, encode
from proto_specs.errors import DecodeError
from proto_specs.limits import MESSAGE_BYTES_MAX, OPENING_BYTES_MAX
from tests.property.proto_specs.shapes import TYPES, list_bounded_fields, list_negatives, make_smallest, values_of
from tests.property.proto_specs.spoiling import (
    INTRUDERS,
    MISPLACED,
    NEGATIVE,
    pack,
    replace_by,
    spoil_each,
    unpack,
    write_longer,
)

EVERY_TYPE = pytest.mark.parametrize("name", sorted(TYPES))


def accepts(as_type: Any, data: bytes) -> bool:
    """Whether `data` decodes; when it does, encoding the value must give `data` again."""
    try:
        value = decode_as(as_type, data)
    except DecodeError:
        return False
    assert encode(value, as_type) == data
    return True


def test_no_record_is_left_out() -> None:
    assert {"Transaction", "Block", "Proposal", "Settle", "RevealVerdict", "Manifest", "Opening", "Rows"} <= set(TYPES)
    assert len(TYPES) >= 130


@EVERY_TYPE
@given(data=st.data())
@settings(max_examples=15)
def test_round_trip(name: str, data: st.DataObject) -> None:
    as_type = TYPES[name]
    value = data.draw(values_of(as_type))
    encoded = encode(value, as_type)
    assert decode_as(as_type, encoded) == value
    assert encode(decode_as(as_type, encoded), as_type) == encoded
    assert pack(unpack(encoded)) == encoded, "it is the shortest MessagePack"


@EVERY_TYPE
@given(data=st.data())
@settings(max_examples=4)
def test_every_truncation_and_every_trailing_byte_is_refused(name: str, data: st.DataObject) -> None:
    as_type = TYPES[name]
    encoded = encode(data.draw(values_of(as_type)), as_type)
    for end in range(len(encoded)):
        assert not accepts(as_type, encoded[:end])
    for byte in (0x00, 0x90, 0xC0, 0xC1, data.draw(st.integers(0, 255))):
        assert not accepts(as_type, encoded + bytes([byte]))


@EVERY_TYPE
@given(data=st.data())
@settings(max_examples=4)
def test_no_value_may_be_written_longer_or_be_of_a_kind_that_does_not_exist(name: str, data: st.DataObject) -> None:
    as_type = TYPES[name]
    tree = unpack(encode(data.draw(values_of(as_type)), as_type))
    for spoiled in spoil_each(tree, write_longer):
        assert not accepts(as_type, spoiled)
    for intruder in INTRUDERS.values():
        for spoiled in spoil_each(tree, replace_by(intruder)):
            assert not accepts(as_type, spoiled)


@EVERY_TYPE
@given(data=st.data())
@settings(max_examples=4)
def test_only_what_is_declared_signed_may_be_negative(name: str, data: st.DataObject) -> None:
    as_type = TYPES[name]
    tree = unpack(encode(data.draw(values_of(as_type)), as_type))
    for negative in NEGATIVE.values():
        for spoiled in spoil_each(tree, replace_by(negative)):
            if accepts(as_type, spoiled):
                assert set(list_negatives(decode_as(as_type, spoiled), as_type)) == {Int}


@EVERY_TYPE
@given(data=st.data())
@settings(max_examples=4)
def test_values_in_the_wrong_place_are_refused_or_mean_what_they_say(name: str, data: st.DataObject) -> None:
    as_type = TYPES[name]
    tree = unpack(encode(data.draw(values_of(as_type)), as_type))
    for misplaced in MISPLACED.values():
        for spoiled in spoil_each(tree, replace_by(misplaced)):
            accepts(as_type, spoiled)


@EVERY_TYPE
@given(data=st.data())
@settings(max_examples=25)
def test_mutations_are_refused_or_mean_what_they_say(name: str, data: st.DataObject) -> None:
    as_type = TYPES[name]
    encoded = bytearray(encode(data.draw(values_of(as_type)), as_type))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(encoded)))
        cut = data.draw(st.integers(0, 3))
        encoded[at : at + cut] = data.draw(st.binary(max_size=3))
    accepts(as_type, bytes(encoded))


@EVERY_TYPE
@given(data=st.binary(max_size=64))
@settings(max_examples=15)
def test_garbage_is_refused(name: str, data: bytes) -> None:
    accepts(TYPES[name], data)


@pytest.mark.parametrize(
    ("cls", "field", "base", "mark"),
    list(list_bounded_fields()),
    ids=[f"{cls.__name__}.{field}" for cls, field, _, _ in list_bounded_fields()],
)
def test_a_field_takes_its_bound_and_not_more(cls: Any, field: str, base: Any, mark: Any) -> None:
    smallest = make_smallest(cls)
    index = [one.name for one in dataclasses.fields(cls)].index(field)
    tree = unpack(encode(smallest))
    for value, is_allowed in _around(base, mark, getattr(smallest, field)):
        tree[index] = _plain(value, base)
        data = pack(tree)
        assert len(data) <= MESSAGE_BYTES_MAX
        assert accepts(cls, data) is is_allowed
        if is_allowed:
            assert encode(replace(smallest, **{field: value})) == data
        else:
            with pytest.raises(DecodeError):
                encode(replace(smallest, **{field: value}))


def _around(base: Any, mark: Any, smallest: Any) -> list[tuple[Any, bool]]:
    match mark:
        case UInt(bits):
            return [((1 << bits) - 1, True), *([(1 << bits, False)] if bits < 64 else [])]
        case Int(bits):
            top = 1 << bits - 1
            return [(top - 1, True), (top, False), (-top, True), (-top - 1, False)]
        case Fixed(length):
            return [(bytes(length), True), (bytes(length - 1), False), (bytes(length + 1), False)]
        case Max(length) if base is bytes:
            return [(bytes(length), True), (bytes(length + 1), False)]
        case Max(length) if base is str:
            text = "a" * (length - 2) + "é"
            return [(text, True), (text + "a", False)]
        case Max(length):
            item = make_smallest(base.__args__[0])
            return [((item,) * length, True), ((item,) * (length + 1), False)]
    raise AssertionError(f"{mark} of {base} around {smallest}")


def _plain(value: Any, base: Any) -> Any:
    """As MessagePack has it; the items of a list are all alike."""
    if not isinstance(value, tuple):
        return value
    item = typing.get_args(base)[0]
    return [unpack(encode(value[0], item))] * len(value)


BOMBS = {
    "a million nested lists": b"\x91" * (1 << 20),
    "a thousand lists of 65535": b"\xdc\xff\xff" * 1_000,
    "a list of 4 thousand million": b"\xdd\xff\xff\xff\xff",
    "nested lists of 4 thousand million": b"\xdd\xff\xff\xff\xff" * 1_000,
    "a million nested maps": b"\x81" * (1 << 20),
    "bytes of 4 GiB": b"\xc6\xff\xff\xff\xff",
    "text of 4 GiB": b"\xdb\xff\xff\xff\xff",
    "4 million empty lists": b"\xdc\x40\x00" + (b"\xdc\x01\x00" + b"\x90" * 256) * 0x4000,
    "7 million zeros": b"\xdc\x00\x70" + (b"\xdc\xff\xff" + bytes(65_535)) * 112,
}
"""None is longer than a message may be."""


@EVERY_TYPE
@pytest.mark.parametrize("bomb", sorted(BOMBS))
def test_a_bomb_builds_nothing_and_takes_no_time(name: str, bomb: str) -> None:
    """In the place of the whole value, of its first field, and of its last."""
    tree = unpack(encode(make_smallest(TYPES[name]), TYPES[name]))
    places = [b""]
    if tree:
        whole = pack(tree)
        places += [whole[:1], whole[: len(whole) - len(pack(tree[-1]))]]
    for place in places:
        _refuse_cheaply(TYPES[name], place + BOMBS[bomb])


def _refuse_cheaply(as_type: Any, data: bytes, max_bytes: int = MESSAGE_BYTES_MAX) -> None:
    tracemalloc.start()
    started_s = time.process_time()
    try:
        with pytest.raises(DecodeError):
            decode_as(as_type, data, max_bytes)
        took_s, peak = time.process_time() - started_s, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024
    assert took_s < 1.0


def test_a_hostile_opening_of_megabytes_is_refused_at_its_first_wrong_byte() -> None:
    """An opening may be of 512 MiB, and comes from the very worker that would like its verifier to be busy."""
    opening = make_smallest(TYPES["Opening"])
    tree = unpack(encode(opening))
    whole = pack(tree)
    payloads = whole[: len(whole) - sum(len(pack(one)) for one in tree[3:])]
    flood = b"\xdc\x10\x00" + b"\xdc\x04\x00" * 4_096 + b"\x90" * (4 << 20)
    for place in (b"\x98", payloads):
        _refuse_cheaply(TYPES["Opening"], place + flood, OPENING_BYTES_MAX)


BAD_TEXT = {
    "a lone continuation": b"\x80",
    "a cut sequence": b"\xe2\x82",
    "an overlong slash": b"\xc0\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "never used": b"\xff",
}


@pytest.mark.parametrize("bad", sorted(BAD_TEXT))
def test_text_is_utf_8(bad: str) -> None:
    text = BAD_TEXT[bad]
    head = encode(TYPES["Failed"](bytes(32), 1, ""), TYPES["Frame"])[:-2]
    tail = b"\xc0"  # no stage was lost
    assert accepts(TYPES["Frame"], head + b"\xa3abc" + tail)
    assert not accepts(TYPES["Frame"], head + bytes([0xA0 + len(text)]) + text + tail)
