"""Parameters: by place or name, every wrong one refused by name."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.local_api.methods.params import SUBMITTED_BYTES_MAX, Params
from node.local_api.wire.errors import INVALID_PARAMS, ApiError
from proto_specs.ss58 import encode_address

PREFIX = 42
ACCOUNT = bytes(range(32))
HASH = "0x" + ACCOUNT.hex()


def test_by_place_and_by_name() -> None:
    for raw in ([HASH, "0x0102", 7], {"key": "0x0102", "block": 7, "hash": HASH}):
        params = Params(raw, PREFIX)
        assert params.take_hash("hash") == ACCOUNT
        assert params.take_key("key") == b"\1\2"
        assert params.take_optional_block("block") == 7
        params.finish()


def test_what_is_left_over_is_refused() -> None:
    for raw, said in [([1, 2], "2 parameters"), ({"blokc": 1}, "blokc")]:
        params = Params(raw, PREFIX)
        params.take_optional_block("block")
        with pytest.raises(ApiError, match=said) as refused:
            params.finish()
        assert refused.value.code == INVALID_PARAMS


def test_optional_ones_may_be_absent_or_null() -> None:
    for raw in ([], [None, None], {}, {"block": None}):
        params = Params(raw, PREFIX)
        assert params.take_optional_block("block") is None
        assert params.take_optional_key("start") is None
        params.finish()


def test_an_account_is_an_address_of_this_chain_or_hex() -> None:
    for text in (encode_address(ACCOUNT, PREFIX), HASH):
        assert Params([text], PREFIX).take_account("account") == ACCOUNT
    with pytest.raises(ApiError, match="another chain"):
        Params([encode_address(ACCOUNT, 7)], PREFIX).take_account("account")


BAD_HEX: list[Any] = [
    "",
    "0",
    "0x",
    "0x0",
    HASH[2:],
    HASH + "00",
    HASH[:-2],
    "0x" + "zz" * 32,
    "0x" + "0 " * 32,
    1,
    None,
]


@pytest.mark.parametrize("value", [*BAD_HEX, [], {}, True, 1.5])
def test_a_hash_is_32_bytes(value: Any) -> None:
    with pytest.raises(ApiError, match="hash has to be a 32-byte hash"):
        Params([value], PREFIX).take_hash("hash")


@pytest.mark.parametrize("value", [-1, 1 << 63, True, 1.0, "1", "0x00", [], {}])
def test_a_block_is_a_height_or_a_hash(value: Any) -> None:
    with pytest.raises(ApiError, match="block has to be"):
        Params([value], PREFIX).take_optional_block("block")


def test_sizes_are_bounded() -> None:
    Params(["0x" + "00" * 256], PREFIX).take_key("key")
    with pytest.raises(ApiError):
        Params(["0x" + "00" * 257], PREFIX).take_key("key")
    with pytest.raises(ApiError):
        Params(["0x" + "00" * (SUBMITTED_BYTES_MAX + 1)], PREFIX).take_extrinsic("extrinsic")
    with pytest.raises(ApiError):
        Params(["0x"], PREFIX).take_extrinsic("extrinsic")


def test_blocks_are_one_or_a_bounded_list() -> None:
    assert Params([], PREFIX).take_blocks("block", 2) is None
    assert Params([7], PREFIX).take_blocks("block", 2) == 7
    assert Params([[7, "0x" + "01" * 32]], PREFIX).take_blocks("block", 2) == [7, b"\1" * 32]
    for wrong in ([[1, 2, 3]], [[True]], [[[1]]], ["x"]):
        with pytest.raises(ApiError, match="block has to be"):
            Params(list(wrong), PREFIX).take_blocks("block", 2)


@pytest.mark.parametrize("value", [None, 0, 9, -1, True, 1.0, "1"])
def test_a_count_is_within_its_bounds(value: Any) -> None:
    assert [Params([one], PREFIX).take_count("count", 8) for one in (1, 8)] == [1, 8]
    with pytest.raises(ApiError, match="count has to be a number from 1 to 8"):
        Params([value], PREFIX).take_count("count", 8)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(value=JSON)
def test_any_json_is_taken_or_refused(value: Any) -> None:
    for take in ("take_hash", "take_key", "take_optional_key", "take_extrinsic", "take_account", "take_optional_block"):
        params = Params([value], PREFIX)
        with contextlib.suppress(ApiError):
            getattr(params, take)("it")
