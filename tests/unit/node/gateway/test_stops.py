"""Stop strings: what goes out, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.gateway.stops import StopTrimmer, count_overlap


def run(stops: tuple[str, ...], pieces: list[str]) -> tuple[str, str | None]:
    trimmer = StopTrimmer(stops)
    text = "".join(trimmer.push(one) for one in pieces)
    return text + trimmer.finish(), trimmer.found


def test_text_goes_out_as_soon_as_no_stop_string_can_begin_in_it() -> None:
    trimmer = StopTrimmer(("STOP",))
    assert [trimmer.push(one) for one in ("ab", "cST", "A", "S", "TOP", "x")] == ["ab", "c", "STA", "", "", ""]
    assert trimmer.found == "STOP"
    assert trimmer.finish() == ""


def test_the_earliest_counts_and_of_two_at_one_place_the_longer() -> None:
    assert run(("bc", "b", "zz"), ["abcd"]) == ("a", "bc")
    assert run(("c", "b"), ["abc"]) == ("a", "b")


@given(st.lists(st.text("ab", max_size=3), max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_pieces_make_no_difference(pieces: list[str], stops: list[str]) -> None:
    """The text before the first stop string that is complete by then, or all of it."""
    text, found = run(tuple(stops), pieces)
    whole = "".join(pieces)
    assert whole.startswith(text)
    if found is None:
        assert text == whole
        assert not any(one in whole for one in stops)
    else:
        assert whole[len(text) :].startswith(found)


def test_overlap() -> None:
    assert count_overlap("abab", "abc") == 2
    assert count_overlap("abc", "abc") == 0
    assert count_overlap("", "a") == 0
