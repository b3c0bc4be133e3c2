"""Amounts: exact both ways, whatever people write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.cli.amounts import AMOUNT_MAX, AmountInvalid, format_amount, parse_amount


@pytest.mark.parametrize(
    ("text", "nmyl"),
    [
        ("1", 10**9),
        ("1.5", 1_500_000_000),
        ("1.5MYL", 1_500_000_000),
        (" 1.5 myl ", 1_500_000_000),
        ("0.000000001", 1),
        ("0.1000000000", 10**8),
        ("250nmyl", 250),
        ("1_000", 10**12),
        ("0", 0),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, nmyl: int) -> None:
    assert parse_amount(text) == nmyl


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "+1", "1e5", ".5", "1.", "1,000", "0.0000000001", "1.5nmyl", "99999999999", "1 MYLS", "٣"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(AmountInvalid):
        parse_amount(text)


@given(nmyl=st.integers(0, AMOUNT_MAX))
def test_what_is_shown_can_be_written(nmyl: int) -> None:
    assert parse_amount(format_amount(nmyl).replace(",", "")) == nmyl


def test_how_it_looks() -> None:
    assert [format_amount(one) for one in (0, 1, 10**9, 1_234_567_890_123_456)] == [
        "0 MYL",
        "0.000000001 MYL",
        "1 MYL",
        "1,234,567.890123456 MYL",
    ]
