"""What single values look like in bytes, what the codec refuses to be told, and that mistakes of ours are loud."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import pytest

from proto_specs import limits
from proto_specs.codec import (
    I16,
    I32,
    U8,
    U16,
    U32,
    U64,
    Fixed,
    Max,
    UInt,
    decode,
    decode_as,
    encode,
    is_variant,
    record,
    variant,
)
from proto_specs.errors import DecodeError


class Colour(enum.IntEnum):
    """For fields that hold the number of a member."""

    RED = 3


@record
class Pair:
    """Two fields."""

    number: U16
    name: Annotated[str, Max(40)]


@variant(1)
class Ping:
    """A member without fields."""


@variant(0x0407)
class Pong:
    """A member with fields."""

    pair: Pair
    maybe: Pair | None


Message = Ping | Pong

Numbers = Annotated[tuple[U8, ...], Max(20)]


@pytest.mark.parametrize(
    ("as_type", "value", "expected"),
    [
        (U64, 0, "00"),
        (U64, 127, "7f"),
        (U64, 128, "cc80"),
        (U64, 255, "ccff"),
        (U64, 256, "cd0100"),
        (U64, 65_535, "cdffff"),
        (U64, 65_536, "ce00010000"),
        (U64, 2**32 - 1, "ceffffffff"),
        (U64, 2**32, "cf0000000100000000"),
        (U64, 2**64 - 1, "cfffffffffffffffff"),
        (U8, Colour.RED, "03"),
        (I16, 0, "00"),
        (I16, 127, "7f"),
        (I16, 128, "cc80"),
        (I16, 32_767, "cd7fff"),
        (I16, -1, "ff"),
        (I16, -32, "e0"),
        (I16, -33, "d0df"),
        (I16, -128, "d080"),
        (I16, -129, "d1ff7f"),
        (I16, -32_768, "d18000"),
        (I32, -32_769, "d2ffff7fff"),
        (I32, -(2**31), "d280000000"),
        (I32, 2**31 - 1, "ce7fffffff"),
        (I16, Colour.RED, "03"),
        (bool, False, "c2"),
        (bool, True, "c3"),
        (Annotated[bytes, Max(300)], b"", "c400"),
        (Annotated[bytes, Max(300)], b"\xff" * 255, "c4ff" + "ff" * 255),
        (Annotated[bytes, Max(300)], b"\xff" * 256, "c50100" + "ff" * 256),
        (Annotated[bytes, Fixed(2)], b"\x01\x02", "c4020102"),
        (Annotated[bytes, Max(70_000)], bytes(65_536), "c600010000" + "00" * 65_536),
        (Annotated[str, Max(300)], "", "a0"),
        (Annotated[str, Max(300)], "é", "a2c3a9"),
        (Annotated[str, Max(300)], "a" * 31, "bf" + "61" * 31),
        (Annotated[str, Max(300)], "a" * 32, "d920" + "61" * 32),
        (Annotated[str, Max(300)], "a" * 256, "da0100" + "61" * 256),
        (Numbers, (), "90"),
        (Numbers, (1,) * 15, "9f" + "01" * 15),
        (Numbers, (1,) * 16, "dc0010" + "01" * 16),
        (Annotated[tuple[U8, ...], Max(65_536)], (1,) * 65_536, "dd00010000" + "01" * 65_536),
        (Pair, Pair(300, "x"), "92cd012ca178"),
        (Pair | None, None, "c0"),
        (Pair | None, Pair(1, ""), "9201a0"),
        (Ping, Ping(), "90"),
        (Message, Ping(), "9101"),
        (Message, Pong(Pair(1, ""), None), "93cd04079201a0c0"),
        (Message | None, None, "c0"),
        (Message | None, Ping(), "9101"),
        (Ping | None, Ping(), "9101"),
    ],
)
def test_one_value_has_these_bytes(as_type: Any, value: Any, expected: str) -> None:
    assert encode(value, as_type).hex() == expected
    assert decode_as(as_type, bytes.fromhex(expected)) == value


LONG_LIST = Annotated[tuple[U8, ...], Max(65_536)]
LONG_BYTES = Annotated[bytes, Max(70_000)]
LONG_TEXT = Annotated[str, Max(70_000)]


@pytest.mark.parametrize(
    ("as_type", "longer", "shortest"),
    [
        (U64, "cc7f", "7f"),
        (U64, "cd00ff", "ccff"),
        (U64, "ce0000ffff", "cdffff"),
        (U64, "cf00000000ffffffff", "ceffffffff"),
        (I16, "d0e0", "e0"),
        (I16, "d0ff", "ff"),
        (I16, "d1ff80", "d080"),
        (I32, "d2ffff8000", "d18000"),
        (I32, "d3ffffffff80000000", "d280000000"),
        (I16, "cc7f", "7f"),
        (LONG_LIST, "dc000f" + "01" * 15, "9f" + "01" * 15),
        (LONG_LIST, "dd0000ffff" + "01" * 65_535, "dcffff" + "01" * 65_535),
        (LONG_BYTES, "c500ff" + "01" * 255, "c4ff" + "01" * 255),
        (LONG_BYTES, "c60000ffff" + "01" * 65_535, "c5ffff" + "01" * 65_535),
        (LONG_TEXT, "d91f" + "61" * 31, "bf" + "61" * 31),
        (LONG_TEXT, "da00ff" + "61" * 255, "d9ff" + "61" * 255),
        (LONG_TEXT, "db0000ffff" + "61" * 65_535, "daffff" + "61" * 65_535),
    ],
)
def test_the_largest_number_of_each_form_has_no_longer_one(as_type: Any, longer: str, shortest: str) -> None:
    assert encode(decode_as(as_type, bytes.fromhex(shortest)), as_type).hex() == shortest
    with pytest.raises(DecodeError, match="shortest form"):
        decode_as(as_type, bytes.fromhex(longer))


@pytest.mark.parametrize(
    ("as_type", "data", "reason"),
    [
        (U8, "", "ends early"),
        (U8, "cc", "ends early"),
        (U8, "cd01", "ends early"),
        (U8, "cd0100", "256 at byte 0 is no unsigned 8-bit"),
        (U8, "cc05", "5 at byte 0 is not in its shortest form"),
        (U8, "0500", "1 bytes too many"),
        (U8, "c2", "expected an unsigned integer at byte 0, got 0xc2"),
        (U8, "ff", "expected an unsigned integer at byte 0, got 0xff"),
        (I16, "", "ends early"),
        (I16, "d0", "ends early"),
        (I16, "d1ff", "ends early"),
        (I16, "cd8000", "32768 at byte 0 is no signed 16-bit"),
        (I16, "d2ffff7fff", "-32769 at byte 0 is no signed 16-bit"),
        (I32, "ce80000000", "2147483648 at byte 0 is no signed 32-bit"),
        (I32, "d3ffffffff7fffffff", "-2147483649 at byte 0 is no signed 32-bit"),
        (I16, "d005", "5 at byte 0 is not in its shortest form"),
        (I16, "d10100", "256 at byte 0 is not in its shortest form"),
        (I16, "c0", "expected an integer at byte 0, got 0xc0"),
        (I16, "cabf800000", "expected an integer at byte 0, got 0xca"),
        (bool, "00", "expected a boolean"),
        (Annotated[bytes, Max(4)], "c40501", "expected at most 4 bytes, got 5"),
        (Annotated[bytes, Max(4)], "c403ffff", "ends early"),
        (Annotated[bytes, Max(4)], "a0", "expected at most 4 bytes at byte 0, got 0xa0"),
        (Annotated[bytes, Fixed(4)], "c403ffffff", "expected 4 bytes, got 3"),
        (Annotated[str, Max(4)], "a5", "at most 4 bytes of text, got 5"),
        (Annotated[str, Max(4)], "a2c3", "ends early"),
        (Annotated[str, Max(4)], "a1ff", "text at byte 0 is not UTF-8"),
        (Annotated[str, Max(4)], "c400", "expected text"),
        (Numbers, "dc0015", "at most 20 items, got 21"),
        (Numbers, "80", "expected a list"),
        (Pair, "9101", "Pair is a list of 2 fields"),
        (Pair, "93010101", "Pair is a list of 2 fields"),
        (Pair, "dc000201a0", "Pair is a list of 2 fields"),
        (Pair, "", "Pair is a list of 2 fields"),
        (Message, "90", "expected a tag|ends early"),
        (Message, "9102", "unknown tag 2"),
        (Message, "9201c0", "Ping is a list of a tag and 0 fields, not of 2 items"),
        (Message, "91cc01", "shortest form"),
        (Message, "c0", "expected \\[tag, fields"),
        (Message, "01", "expected \\[tag, fields"),
        (Pair | None, "c2", "Pair is a list"),
    ],
)
def test_what_is_wrong_is_named(as_type: Any, data: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode_as(as_type, bytes.fromhex(data))


@pytest.mark.parametrize(
    ("as_type", "value"),
    [
        (U8, 256),
        (U8, -1),
        (U8, True),
        (U8, "1"),
        (U32, 1.0),
        (I16, 32_768),
        (I16, -32_769),
        (I32, 2**31),
        (I32, -(2**31) - 1),
        (I16, False),
        (I32, -1.0),
        (I16, "-1"),
        (bool, 1),
        (Annotated[bytes, Fixed(4)], b"123"),
        (Annotated[bytes, Max(4)], bytearray(4)),
        (Annotated[str, Max(4)], b"123"),
        (Annotated[str, Max(4)], "ééé"),
        (Annotated[str, Max(4)], "\ud800"),
        (Numbers, (1,) * 21),
        (Numbers, [1]),
        (Numbers, (256,)),
    ],
)
def test_a_value_out_of_its_bound_is_not_encoded(as_type: Any, value: Any) -> None:
    with pytest.raises(DecodeError):
        encode(value, as_type)


def test_a_value_of_another_class_is_a_bug_of_the_caller() -> None:
    with pytest.raises(TypeError, match="expected Pair"):
        encode(Ping(), Pair)
    with pytest.raises(TypeError, match="not a member"):
        encode(Pair(1, ""), Message)


def test_input_longer_than_allowed_is_not_read() -> None:
    data = encode(Pair(1, "a" * 20))
    assert decode(Pair, data, len(data)) == Pair(1, "a" * 20)
    with pytest.raises(DecodeError, match="exceed the limit"):
        decode(Pair, data, len(data) - 1)
    with pytest.raises(DecodeError, match=f"limit of {limits.MESSAGE_BYTES_MAX}"):
        decode(Pair, bytes(limits.MESSAGE_BYTES_MAX + 1))


def test_a_refusal_does_not_repeat_the_input() -> None:
    """A message about hostile bytes stays short, whatever they hold."""
    with pytest.raises(DecodeError) as refused:
        decode_as(U8, b"\xc6\x00\x10\x00\x00" + bytes(1 << 20))
    assert len(str(refused.value)) < 100


@pytest.mark.parametrize("as_type", [int, bytes, str, float, list[int], Annotated[float, UInt(8)], dict])
def test_a_type_without_a_bound_has_no_encoding(as_type: Any) -> None:
    with pytest.raises(TypeError, match="canonical encoding"):
        encode(0, as_type)


def test_two_members_of_a_union_with_one_tag_are_a_bug() -> None:
    @variant(1)
    class Other:
        pass

    with pytest.raises(AssertionError, match="share a tag"):
        encode(Ping(), Ping | Other)


def test_a_list_cannot_be_declared_longer_than_the_protocol_allows() -> None:
    with pytest.raises(AssertionError, match="longer than the protocol"):
        encode((), Annotated[tuple[U8, ...], Max(limits.LIST_ITEMS_MAX + 1)])


def test_a_variant_has_a_tag_and_a_record_has_none() -> None:
    assert is_variant(Pong)
    assert not is_variant(Pair)


def test_records_are_frozen_and_take_no_new_fields() -> None:
    pair = Pair(1, "")
    with pytest.raises(AttributeError):
        pair.number = 2  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        pair.other = 2  # type: ignore[attr-defined]
