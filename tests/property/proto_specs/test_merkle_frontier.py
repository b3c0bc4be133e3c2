"""The root of a growing list is the root of the list, at every length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proto_specs.merkle import MerkleFrontier, compute_root


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=80))
def test_each_step_gives_the_root_of_what_is_there(items: list[bytes]) -> None:
    frontier = MerkleFrontier()
    for count, item in enumerate(items, 1):
        assert frontier.append(item) == compute_root(items[:count])
