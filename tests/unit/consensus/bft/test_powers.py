"""Every rule with a threshold, by stake: silent at exactly two thirds or one third, and one more unit fires it.

Heads would pass none of the weighted layouts, floats none of the huge ones: 2^64 - 1 times three is no 53-bit number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from consensus.bft.timeouts import Step
from tests.unit.consensus.bft.driver import Driver, Seen

Words = tuple[Any, ...]
MOST = 2**64 - 1
SEE_A0: tuple[Words, ...] = (("propose", 0, "a0"), ("validate", "a0"))
NIL_STEP: tuple[Words, ...] = (("elapse", Step.PROPOSE, 0),)
NEXT_ROUND: tuple[Words, ...] = (("elapse", Step.PRECOMMIT, 0),)


@dataclass(frozen=True)
class Layout:
    """`short` together are not enough, `tips` makes it enough."""

    name: str
    powers: tuple[int, ...]
    short: tuple[int, ...]
    tips: int


QUORUMS = (
    Layout("equal powers", (1, 1, 1), (0, 1), 2),
    Layout("exactly two thirds", (2, 4, 3), (0, 1), 2),
    Layout("two of three heads, exactly two thirds", (199, 1, 100), (0, 1), 2),
    Layout("one head, one unit short", (200, 100, 1), (0,), 2),
    Layout("three of four heads, a third of the power", (1, 1, 1, 6), (0, 1, 2), 3),
    Layout("huge, exactly two thirds", (MOST, MOST, MOST), (0, 1), 2),
    Layout("huge, a third of a unit short", (MOST, MOST, MOST - 1), (0, 2), 1),
)
THIRDS = (
    Layout("equal powers", (1, 1, 1), (0,), 1),
    Layout("exactly a third", (3, 4, 2), (0,), 2),
    Layout("one head, one unit short", (100, 1, 200), (0,), 1),
    Layout("two of four heads, under a third", (1, 1, 4, 3), (0, 1), 3),
    Layout("huge, exactly a third", (MOST, MOST, MOST), (1,), 2),
    Layout("huge, two thirds of a unit short", (MOST, MOST, MOST - 1), (2,), 0),
)


@dataclass(frozen=True)
class Rule:
    """After `given`, `vote` of those short does nothing; `last` (default: the same) of who tips gives `then`."""

    name: str
    given: tuple[Words, ...]
    vote: Words
    then: Seen
    last: Words | None = None


ON_QUORUM = (
    Rule("L28", (*SEE_A0, *NEXT_ROUND, ("propose", 1, "a0", 0)), ("prevote", 0, "a0"), ("prevote", 1, "a0")),
    Rule("L34", NIL_STEP, ("prevote", 0, None), ("schedule", "prevote", 0, 300), ("prevote", 0, "a0")),
    Rule("L36", SEE_A0, ("prevote", 0, "a0"), ("precommit", 0, "a0")),
    Rule("L44", NIL_STEP, ("prevote", 0, None), ("precommit", 0, None)),
    Rule("L47", (), ("precommit", 0, None), ("schedule", "precommit", 0, 200), ("precommit", 0, "a0")),
    Rule("L49", SEE_A0, ("precommit", 0, "a0"), ("decide", 0, "a0")),
    Rule("L49-old-round", (*SEE_A0, *NEXT_ROUND), ("precommit", 0, "a0"), ("decide", 0, "a0")),
)
ON_THIRD = (
    Rule("L55-prevotes", (), ("prevote", 1, None), ("schedule", "propose", 1, 1500)),
    Rule("L55-precommits", (), ("precommit", 1, None), ("schedule", "propose", 1, 1500)),
    Rule("L55-together", (), ("prevote", 1, None), ("schedule", "propose", 1, 1500), ("precommit", 1, "a1")),
    Rule("L55-distant", (), ("prevote", 90, None), ("schedule", "propose", 90, 46_000), ("precommit", 90, None)),
)


def say(driver: Driver, words: Words, *senders: int) -> list[Seen]:
    """The effects but for building, which is the proposer's business; of a decision, not who signed it."""
    effects = getattr(driver, words[0])(*words[1:], *senders)
    return [one[:3] if one[0] == "decide" else one for one in effects if one[0] != "build"]


@pytest.mark.parametrize(
    ("layout", "rule"),
    [
        pytest.param(layout, rule, id=f"{rule.name}-{layout.name}")
        for layouts, rules in ((QUORUMS, ON_QUORUM), (THIRDS, ON_THIRD))
        for layout in layouts
        for rule in rules
    ],
)
def test_a_threshold_is_passed_by_power_alone(layout: Layout, rule: Rule) -> None:
    driver = Driver(layout.tips, layout.powers)
    driver.start()
    for words in rule.given:
        say(driver, words)
    for _ in range(2):  # nobody counts twice
        assert say(driver, rule.vote, *layout.short) == []
    assert say(driver, rule.last or rule.vote, layout.tips) == [rule.then]


@pytest.mark.parametrize("layout", [pytest.param(one, id=one.name) for one in THIRDS])
def test_a_sender_of_both_kinds_is_no_two_senders(layout: Layout) -> None:
    """Line 55 with both kinds of everyone who is short: were they summed, twice a little less than a third would do."""
    driver = Driver(layout.tips, layout.powers)
    driver.start()
    for kind in ("prevote", "precommit", "prevote"):
        assert say(driver, (kind, 1, None), *layout.short) == []
    assert driver.core.round == 0
    assert say(driver, ("precommit", 1, None), layout.tips) == [("schedule", "propose", 1, 1500)]


@pytest.mark.parametrize("layout", [pytest.param(one, id=one.name) for one in QUORUMS])
def test_a_decision_names_all_who_signed_it(layout: Layout) -> None:
    driver = Driver(None, layout.powers)
    driver.start()
    for words in SEE_A0:
        say(driver, words)
    driver.precommit(0, "a0", *layout.short)
    (decision,) = driver.precommit(0, "a0", layout.tips)
    assert decision == ("decide", 0, "a0", tuple(sorted((*layout.short, layout.tips))))
