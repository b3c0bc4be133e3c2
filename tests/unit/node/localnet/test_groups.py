"""Partitions as text."""

from __future__ import annotations

import pytest

from node.localnet.errors import LocalnetError
from node.localnet.groups import format_groups, is_connected, parse_groups

NAMES = ("alice", "bob", "charlie", "dave")


@pytest.mark.parametrize(
    "arguments",
    [["alice,bob", "charlie,dave"], ["alice,bob | charlie,dave"], ["alice,bob", "|", "charlie,dave"], ["alice,bob"]],
)
def test_two_groups_in_every_spelling(arguments: list[str]) -> None:
    assert parse_groups(arguments, NAMES) == (("alice", "bob"), ("charlie", "dave"))


def test_names_left_out_are_one_more_group() -> None:
    groups = parse_groups(["bob"], NAMES)
    assert groups == (("bob",), ("alice", "charlie", "dave"))
    assert format_groups(groups) == "bob | alice,charlie,dave"
    assert is_connected(groups, "alice", "dave")
    assert not is_connected(groups, "alice", "bob")
    assert is_connected((), "alice", "bob")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["alice,eve"], "no validator is called eve"),
        (["alice", "alice,bob"], "alice cannot be in two groups"),
        (["alice,alice"], "alice cannot be in two groups"),
        (["alice,bob,charlie,dave"], "at least two groups"),
        ([","], "at least two groups"),
    ],
)
def test_what_makes_no_partition_is_refused(arguments: list[str], reason: str) -> None:
    with pytest.raises(LocalnetError, match=reason):
        parse_groups(arguments, NAMES)
