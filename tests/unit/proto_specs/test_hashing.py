"""Hashes of one kind can never be taken for those of another."""

from __future__ import annotations

import hashlib

from proto_specs.codec import encode
from proto_specs.hashing import Tag, hash_record, hash_tagged
from proto_specs.types.calls import Transfer


def test_every_tag_is_its_own() -> None:
    """An enum member with the value of another would silently be that other."""
    assert len(Tag) == len(Tag.__members__)
    for name, tag in Tag.__members__.items():
        assert tag.value == b"myelin/" + name.lower().replace("_", "-").encode()


def test_what_is_hashed_is_length_tag_payload() -> None:
    expected = hashlib.blake2b(b"\x0bmyelin/bodypayload", digest_size=32).digest()
    assert hash_tagged(Tag.BODY, b"payload") == expected


def test_no_tag_with_a_payload_equals_a_longer_tag() -> None:
    """`extrinsic` with the payload `-sign...` is not `extrinsic-sign`: the length byte differs."""
    assert Tag.EXTRINSIC_SIGN.value.startswith(Tag.EXTRINSIC.value)
    rest = Tag.EXTRINSIC_SIGN.value.removeprefix(Tag.EXTRINSIC.value)
    assert hash_tagged(Tag.EXTRINSIC, rest + b"x") != hash_tagged(Tag.EXTRINSIC_SIGN, b"x")
    heads = [bytes([len(one.value)]) + one.value for one in Tag]
    assert not any(one != other and one.startswith(other) for one in heads for other in heads)


def test_a_record_is_hashed_by_its_canonical_bytes() -> None:
    call = Transfer(bytes(32), 1)
    assert hash_record(Tag.EXTRINSIC, call) == hash_tagged(Tag.EXTRINSIC, encode(call))
