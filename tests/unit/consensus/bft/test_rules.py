"""Every rule of the paper's algorithm 1, one case per condition; the ids carry its line numbers.

Four validators of power 1: three are a quorum, two are more than a third. Votes of the core's own validator come in
like all others, so a case leaves out those it does not need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from consensus.bft.timeouts import Step
from tests.unit.consensus.bft.driver import HEIGHT, Driver, Seen

Words = tuple[Any, ...]

TO_ROUND_1: list[Words] = [("prevote", 1, None, 0), ("precommit", 1, None, 1)]
TO_ROUND_2: list[Words] = [("prevote", 2, None, 0), ("precommit", 2, None, 1)]
SEE_A0: list[Words] = [("propose", 0, "a0"), ("validate", "a0")]
LOCK_A0: list[Words] = [*SEE_A0, ("prevote", 0, "a0", 0, 1, 2)]
LOCK_A1: list[Words] = [*TO_ROUND_1, ("propose", 1, "a1"), ("validate", "a1"), ("prevote", 1, "a1", 1, 2, 3)]
NIL_STEP: list[Words] = [("elapse", Step.PROPOSE, 0)]


@dataclass(frozen=True)
class Case:
    """After `given`, the words of `when` must cause exactly the effects `then`. Words are a Driver method and args."""

    name: str
    given: list[Words]
    when: Words
    then: list[Seen]
    own: int | None = 3


START = [
    Case("L14-L21-follower-waits", [], ("start",), [("schedule", "propose", 0, 1000)]),
    Case("L14-L18-proposer-builds", [], ("start",), [("build", 0), ("schedule", "propose", 0, 1000)], own=0),
    Case("observer-never-builds", [], ("start",), [("schedule", "propose", 0, 1000)], own=None),
    Case("no-member-never-builds", [], ("start",), [("schedule", "propose", 0, 1000)], own=8),
]

PROPOSER = [
    Case("L19-built-is-proposed", [], ("built", 0, "a0"), [("propose", 0, "a0", None)], own=0),
    Case("L19-built-twice", [("built", 0, "a0")], ("built", 0, "b0"), [], own=0),
    Case("L19-built-after-timeout", NIL_STEP, ("built", 0, "a0"), [], own=0),
    Case("L19-built-for-round-gone", [("prevote", 1, None, 1, 2)], ("built", 0, "a0"), [], own=0),
    Case("L19-built-by-no-proposer", [], ("built", 0, "a0"), [], own=None),
    Case(
        "L15-L16-valid-value-again",
        [*LOCK_A0, ("precommit", 0, None, 0, 2, 3)],
        ("elapse", Step.PRECOMMIT, 0),
        [("propose", 1, "a0", 0), ("schedule", "propose", 1, 1500)],
        own=1,
    ),
]

NEW_PROPOSAL = [
    Case("L22-asks-validity", [], ("propose", 0, "a0"), [("validate", "a0")]),
    Case("L23-L24-valid", [("propose", 0, "a0")], ("validate", "a0"), [("prevote", 0, "a0")]),
    Case("L23-L26-invalid", [("propose", 0, "a0")], ("validate", "a0", False), [("prevote", 0, None)]),
    Case("L22-validity-unasked", [("validate", "a0")], ("propose", 0, "a0"), [("validate", "a0")]),
    Case(
        "L22-first-answer-stands",
        [*SEE_A0, ("validate", "a0", False), ("prevote", 0, "a0", 0, 1)],
        ("prevote", 0, "a0", 2),
        [("precommit", 0, "a0")],
    ),
    Case("L22-after-timeout", NIL_STEP, ("propose", 0, "a0"), []),
    Case(
        "L22-second-of-a-round-is-no-proposal",
        [("propose", 0, "a0"), ("propose", 0, "b0")],
        ("validate", "a0"),
        [("prevote", 0, "a0")],
    ),
    Case(
        "L22-second-of-a-round-is-not-held",
        [("propose", 0, "a0"), ("propose", 0, "b0"), ("precommit", 0, "b0", 0, 1)],
        ("precommit", 0, "b0", 2),
        [("schedule", "precommit", 0, 200)],
    ),
    Case("L23-L26-locked-on-other", [*LOCK_A0, *TO_ROUND_1], ("propose", 1, "b1"), [("prevote", 1, None)]),
    Case(
        "L23-L24-locked-on-same",
        [*LOCK_A0, ("prevote", 4, None, 0, 1)],
        ("propose", 4, "a0"),
        [("prevote", 4, "a0")],
    ),
    Case(
        "L22-early-proposal-waits-for-its-round",
        [("propose", 1, "a1"), ("prevote", 1, None, 0)],
        ("prevote", 1, None, 1),
        [("schedule", "propose", 1, 1500), ("validate", "a1")],
    ),
]

REPEATED_PROPOSAL = [
    Case("L28-no-polka", [*SEE_A0, *TO_ROUND_1], ("propose", 1, "a0", 0), []),
    Case(
        "L28-two-thirds-are-no-polka",
        [*TO_ROUND_1, ("propose", 1, "a0", 0), ("prevote", 0, "a0", 0)],
        ("prevote", 0, "a0", 1),
        [],
    ),
    Case(
        "L28-polka-then-proposal",
        [*TO_ROUND_1, ("prevote", 0, "a0", 0, 1, 2)],
        ("propose", 1, "a0", 0),
        [("validate", "a0")],
    ),
    Case(
        "L29-L30-unlocked",
        [*TO_ROUND_1, ("propose", 1, "a0", 0), ("prevote", 0, "a0", 0, 1, 2)],
        ("validate", "a0"),
        [("prevote", 1, "a0")],
    ),
    Case(
        "L29-L32-invalid",
        [*TO_ROUND_1, ("propose", 1, "a0", 0), ("prevote", 0, "a0", 0, 1, 2)],
        ("validate", "a0", False),
        [("prevote", 1, None)],
    ),
    Case(
        "L29-L30-polka-newer-than-lock",
        [*LOCK_A0, *TO_ROUND_2, ("prevote", 1, "b1", 0, 1, 2), ("propose", 2, "b1", 1)],
        ("validate", "b1"),
        [("prevote", 2, "b1")],
    ),
    Case(
        "L29-L30-polka-of-the-lock's-round",
        [*LOCK_A0, *TO_ROUND_1],
        ("propose", 1, "a0", 0),
        [("prevote", 1, "a0")],
    ),
    Case(
        "L29-L32-polka-older-than-lock",
        [*LOCK_A1, *TO_ROUND_2, ("prevote", 0, "b0", 0, 1, 2)],
        ("propose", 2, "b0", 0),
        [("prevote", 2, None)],
    ),
    Case(
        "L29-L30-polka-older-but-same-block",
        [*LOCK_A1, *TO_ROUND_2, ("prevote", 0, "a1", 0, 1, 2)],
        ("propose", 2, "a1", 0),
        [("prevote", 2, "a1")],
    ),
    Case(
        "L28-valid-round-not-below-round-is-no-proposal",
        [*TO_ROUND_1, ("propose", 1, "a1", 1)],
        ("propose", 1, "b1"),
        [("two proposals", 1, 1), ("validate", "b1")],
    ),
]

PREVOTES = [
    Case(
        "L34-any-quorum",
        [*NIL_STEP, ("prevote", 0, None, 0), ("prevote", 0, "a0", 1)],
        ("prevote", 0, None, 3),
        [("schedule", "prevote", 0, 300)],
    ),
    Case("L34-two-thirds-are-none", [*NIL_STEP, ("prevote", 0, None, 0)], ("prevote", 0, "a0", 1), []),
    Case(
        "L34-first-time-only",
        [*NIL_STEP, ("prevote", 0, None, 0), ("prevote", 0, "a0", 1, 2)],
        ("prevote", 0, None, 3),
        [],
    ),
    Case("L34-not-while-proposing", [("prevote", 0, None, 0, 1)], ("prevote", 0, "a0", 2), []),
    Case(
        "L34-once-prevoted",
        [("prevote", 0, None, 0, 1), ("prevote", 0, "a0", 2)],
        ("elapse", Step.PROPOSE, 0),
        [("prevote", 0, None), ("schedule", "prevote", 0, 300)],
    ),
    Case(
        "L34-delay-grows",
        [*TO_ROUND_1, ("elapse", Step.PROPOSE, 1), ("prevote", 1, "a1", 1)],
        ("prevote", 1, None, 3),
        [("schedule", "prevote", 1, 330)],
    ),
    Case("L36-L40-polka", [*SEE_A0, ("prevote", 0, "a0", 0, 1)], ("prevote", 0, "a0", 2), [("precommit", 0, "a0")]),
    Case("L36-two-thirds-are-no-polka", [*SEE_A0, ("prevote", 0, "a0", 0)], ("prevote", 0, "a0", 1), []),
    Case(
        "L36-not-before-own-prevote",
        [("propose", 0, "a0"), ("prevote", 0, "a0", 0, 1, 2)],
        ("validate", "a0"),
        [("prevote", 0, "a0"), ("precommit", 0, "a0")],
    ),
    Case(
        "L36-invalid-block",
        [("propose", 0, "a0"), ("prevote", 0, "a0", 0, 1, 2)],
        ("validate", "a0", False),
        [("prevote", 0, None), ("schedule", "prevote", 0, 300)],
    ),
    Case(
        "L36-proposal-after-polka",
        [*NIL_STEP, ("prevote", 0, "a0", 0, 1, 2), ("propose", 0, "a0")],
        ("validate", "a0"),
        [("precommit", 0, "a0")],
    ),
    Case(
        "L36-block-known-from-earlier-round",
        [*SEE_A0, *TO_ROUND_1, ("elapse", Step.PROPOSE, 1), ("prevote", 1, "a0", 1, 2)],
        ("prevote", 1, "a0", 3),
        [("precommit", 1, "a0")],
    ),
    Case(
        "L36-L40-polka-before-own-prevote-locks-after-it",
        [*SEE_A0, *TO_ROUND_1, ("prevote", 1, "a0", 1, 2, 3)],
        ("elapse", Step.PROPOSE, 1),
        [("prevote", 1, None), ("precommit", 1, "a0")],
    ),
    Case(
        "L37-no-second-precommit",
        [*SEE_A0, ("prevote", 0, "a0", 0, 1), ("elapse", Step.PREVOTE, 0)],
        ("prevote", 0, "a0", 2),
        [],
    ),
    Case(
        "L42-polka-after-own-precommit-is-proposed-again",
        [*SEE_A0, ("prevote", 0, "a0", 0, 1), ("elapse", Step.PREVOTE, 0), ("prevote", 0, "a0", 2)],
        ("elapse", Step.PRECOMMIT, 0),
        [("propose", 1, "a0", 0), ("schedule", "propose", 1, 1500)],
        own=1,
    ),
    Case(
        "L42-polka-after-own-precommit-locks-nothing",
        [
            *SEE_A0,
            ("prevote", 0, "a0", 0, 1),
            ("elapse", Step.PREVOTE, 0),
            ("prevote", 0, "a0", 2),
            *TO_ROUND_1,
            ("propose", 1, "b1"),
        ],
        ("validate", "b1"),
        [("prevote", 1, "b1")],
    ),
    Case(
        "L42-polka-of-a-round-gone-by-is-proposed-again",
        [*SEE_A0, *TO_ROUND_1, ("prevote", 0, "a0", 0, 1, 3), ("prevote", 2, None, 0)],
        ("prevote", 2, None, 1),
        [("propose", 2, "a0", 0), ("schedule", "propose", 2, 2000)],
        own=2,
    ),
    Case(
        "L42-older-polka-does-not-replace-newer",
        [*SEE_A0, *LOCK_A1, *TO_ROUND_2, ("prevote", 0, "a0", 0, 1, 2), ("prevote", 3, None, 0)],
        ("prevote", 3, None, 1),
        [("propose", 3, "a1", 1), ("schedule", "propose", 3, 2500)],
    ),
    Case("L44-nil-quorum", [*NIL_STEP, ("prevote", 0, None, 0, 1)], ("prevote", 0, None, 2), [("precommit", 0, None)]),
    Case("L44-not-while-proposing", [("prevote", 0, None, 0, 1)], ("prevote", 0, None, 2), []),
    Case(
        "L44-not-after-precommit", [*LOCK_A0, ("prevote", 0, None, 3, 2)], ("prevote", 0, None, 1), [("evidence", 1, 0)]
    ),
]

PRECOMMITS = [
    Case(
        "L47-any-quorum",
        [("precommit", 0, None, 0), ("precommit", 0, "a0", 1)],
        ("precommit", 0, None, 2),
        [("schedule", "precommit", 0, 200)],
    ),
    Case("L47-two-thirds-are-none", [("precommit", 0, None, 0)], ("precommit", 0, "a0", 1), []),
    Case("L47-first-time-only", [("precommit", 0, None, 0, 1, 2)], ("precommit", 0, None, 3), []),
    Case("L47-of-this-round-only", [*TO_ROUND_1, ("precommit", 0, None, 0, 1)], ("precommit", 0, None, 2), []),
    Case(
        "L49-this-round",
        [*SEE_A0, ("precommit", 0, "a0", 2, 0)],
        ("precommit", 0, "a0", 1),
        [("decide", 0, "a0", (0, 1, 2))],
    ),
    Case("L49-two-thirds-are-none", [*SEE_A0, ("precommit", 0, "a0", 2)], ("precommit", 0, "a0", 1), []),
    Case(
        "L49-earlier-round",
        [*SEE_A0, *TO_ROUND_2, ("precommit", 0, "a0", 0, 1)],
        ("precommit", 0, "a0", 3),
        [("decide", 0, "a0", (0, 1, 3))],
    ),
    Case(
        "L49-later-round-entered-on-the-way",
        [*SEE_A0, ("precommit", 2, "a0", 0, 1)],
        ("precommit", 2, "a0", 3),
        [("decide", 2, "a0", (0, 1, 3))],
    ),
    Case("L49-block-after-quorum", [("precommit", 0, "a0", 0, 1, 2)], ("propose", 0, "a0"), [("validate", "a0")]),
    Case(
        "L49-validity-after-quorum",
        [("precommit", 0, "a0", 0, 1, 2), ("propose", 0, "a0")],
        ("validate", "a0"),
        [("prevote", 0, "a0"), ("decide", 0, "a0", (0, 1, 2))],
    ),
    Case(
        "L49-who-is-late-still-says-what-it-had-to-say",
        [("prevote", 0, "a0", 0, 1, 2), ("precommit", 0, "a0", 0, 1, 2), ("propose", 0, "a0")],
        ("validate", "a0"),
        [("prevote", 0, "a0"), ("precommit", 0, "a0"), ("decide", 0, "a0", (0, 1, 2))],
    ),
    Case(
        "L50-never-an-invalid-block",
        [("precommit", 0, "a0", 0, 1, 2), ("propose", 0, "a0")],
        ("validate", "a0", False),
        [("prevote", 0, None)],
    ),
    Case(
        "L49-second-proposal-of-a-round-with-a-quorum",
        [*SEE_A0, ("precommit", 0, "b0", 0, 1, 2), ("propose", 0, "b0")],
        ("validate", "b0"),
        [("decide", 0, "b0", (0, 1, 2))],
    ),
    Case(
        "L22-second-with-a-quorum-is-still-no-proposal",
        [("propose", 0, "a0"), ("precommit", 0, "b0", 0, 1, 2), ("propose", 0, "b0")],
        ("validate", "a0"),
        [("prevote", 0, "a0")],
    ),
    Case(
        "L54-nothing-after-the-decision",
        [*SEE_A0, ("precommit", 0, "a0", 0, 1, 2)],
        ("elapse", Step.PROPOSE, 0),
        [],
    ),
]

ROUND_SKIP = [
    Case("L55-two-senders", [("prevote", 1, None, 0)], ("prevote", 1, "a1", 1), [("schedule", "propose", 1, 1500)]),
    Case(
        "L55-prevote-and-precommit-together",
        [("prevote", 1, None, 0)],
        ("precommit", 1, None, 1),
        [("schedule", "propose", 1, 1500)],
    ),
    Case("L55-one-sender-counts-once", [("prevote", 1, None, 0)], ("precommit", 1, None, 0), []),
    Case("L55-same-round-only", [("prevote", 1, None, 0)], ("prevote", 2, None, 1), []),
    Case("L55-never-back", [*TO_ROUND_2, ("prevote", 1, None, 0)], ("prevote", 1, None, 1), []),
    Case(
        "L55-beyond-the-window",
        [("prevote", 100, None, 0)],
        ("precommit", 100, None, 1),
        [("schedule", "propose", 100, 51_000)],
    ),
    Case("L55-beyond-the-window-once-per-sender", [("prevote", 100, None, 0)], ("precommit", 100, None, 0), []),
    Case("L55-beyond-the-window-same-round", [("prevote", 100, None, 0)], ("precommit", 101, None, 1), []),
    Case(
        "L55-the-proposer-of-the-round-builds",
        [("prevote", 3, None, 0)],
        ("prevote", 3, None, 1),
        [("build", 3), ("schedule", "propose", 3, 2500)],
    ),
]

TIMEOUTS = [
    Case("L57-L60-prevotes-nil", [], ("elapse", Step.PROPOSE, 0), [("prevote", 0, None)]),
    Case("L58-not-after-prevote", SEE_A0, ("elapse", Step.PROPOSE, 0), []),
    Case("L58-not-of-another-round", TO_ROUND_1, ("elapse", Step.PROPOSE, 0), []),
    Case("L58-not-of-another-height", [], ("elapse", Step.PROPOSE, 0, HEIGHT + 1), []),
    Case("L61-L64-precommits-nil", NIL_STEP, ("elapse", Step.PREVOTE, 0), [("precommit", 0, None)]),
    Case("L62-not-while-proposing", [], ("elapse", Step.PREVOTE, 0), []),
    Case("L62-not-after-precommit", LOCK_A0, ("elapse", Step.PREVOTE, 0), []),
    Case("L65-L67-next-round", [], ("elapse", Step.PRECOMMIT, 0), [("schedule", "propose", 1, 1500)]),
    Case("L66-not-of-another-round", TO_ROUND_1, ("elapse", Step.PRECOMMIT, 0), []),
]

CASES = [*PROPOSER, *NEW_PROPOSAL, *REPEATED_PROPOSAL, *PREVOTES, *PRECOMMITS, *ROUND_SKIP, *TIMEOUTS]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in START])
def test_start(case: Case) -> None:
    assert Driver(case.own).start() == case.then


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_rule(case: Case) -> None:
    driver = Driver(case.own)
    driver.start()
    for words in case.given:
        getattr(driver, words[0])(*words[1:])
    assert getattr(driver, case.when[0])(*case.when[1:]) == case.then
