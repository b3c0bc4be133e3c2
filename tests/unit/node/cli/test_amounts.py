"""Amounts: exact both ways, whatever people write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.cli.amounts import AMOUNT_MAX, AmountInvalid, format_myl, parse_amount


@pytest.mark.parametrize(
    ("text", "nmyl"),
    [
        ("1", 10**9),
        ("1.5", 1_500_000_000),
        ("1.5MYL", 1_500_000_000),
        (" 1.5 myl ", 1_500_000_000),
        ("0.000000001", 1),
        ("007.10", 7_100_000_000),
        ("18446744073.709551615", AMOUNT_MAX),
        ("250nmyl", 250),
        ("0250 NMYL", 250),
        ("0", 0),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, nmyl: int) -> None:
    assert parse_amount(text) == nmyl


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *(
            (text, "is no amount")
            for text in ("", "x", "+1", "1e5", ".5", "1.", "1,000", "1_000", "1 MYLS", "٣", "0x1")
        ),
        ("-1", "is negative"),
        ("-0.5MYL", "is negative"),
        ("0.0000000001", "10 digits after the point; at most 9"),
        ("0.1000000000", "10 digits after the point; at most 9"),
        ("12345678901.12345678900000000001", "20 digits after the point"),
        ("1.5nmyl", "1 digits after the point; at most 0"),
        ("18446744073.709551616", "more than there can be"),
        ("9" * 10_000, "more than there can be"),
    ],
)
def test_what_is_no_amount_is_refused_and_told_why(text: str, why: str) -> None:
    with pytest.raises(AmountInvalid, match=why):
        parse_amount(text)


@given(nmyl=st.integers(0, AMOUNT_MAX))
def test_what_is_shown_can_be_written(nmyl: int) -> None:
    assert parse_amount(format_myl(nmyl)) == nmyl
    assert parse_amount(f"{nmyl}nmyl") == nmyl


def test_how_it_looks() -> None:
    assert [format_myl(one) for one in (0, 1, 10**9, 1_234_567_890_123_456)] == [
        "0 MYL",
        "0.000000001 MYL",
        "1 MYL",
        "1234567.890123456 MYL",
    ]
