"""Drafts are as long as pays: never much worse than none, near the best fixed length, and soon so after a change."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from inference.drafting.costs import DECAY, CallCosts
from inference.drafting.draft import Draft
from inference.drafting.policy import DRAFT_MAX, DraftPolicy

GRADE_PRIORS = (0.25, 0.5, 0.8, 0.97)
CALLS = 400


@dataclass(frozen=True)
class Truth:
    """How a path behaves: seconds of a single call, of any draft on top, of each row; noise, as a share of a call."""

    single_s: float
    base_s: float
    row_s: float
    noise: float = 0.0

    def compute(self, drafted: int) -> float:
        return self.single_s + (self.base_s + self.row_s * drafted if drafted else 0.0)

    def expect_tokens(self, chance: float, drafted: int) -> float:
        return sum(chance**at for at in range(drafted + 1))

    def find_best_rate(self, chance: float) -> float:
        return max(self.expect_tokens(chance, k) / self.compute(k) for k in range(DRAFT_MAX + 1))


def make_truths(base_max: float, row_max: float) -> st.SearchStrategy[Truth]:
    return st.builds(
        lambda single_s, base, row, noise: Truth(single_s, base * single_s, row * single_s, noise),
        st.floats(1e-3, 2.0),
        st.floats(0.0, base_max),
        st.floats(0.001, row_max),
        st.sampled_from((0.0, 0.1, 0.3)),
    )


TRUTHS = make_truths(2.0, 0.5)
PAYING = make_truths(1.0, 0.1)
"""Where a draft that is right most of the time pays."""


class Run:
    """A request whose drafted tokens are right with one chance, whatever their grade."""

    def __init__(self, truth: Truth, grade: int, seed: int) -> None:
        self.truth, self.grade = truth, grade
        self.policy, self.costs = DraftPolicy(GRADE_PRIORS), CallCosts()
        self.chance_of = random.Random(seed)
        self.tokens, self.seconds = 0, 0.0
        self.drafted: list[int] = []

    def call(self, chance: float) -> None:
        right = 0
        while right < DRAFT_MAX and self.chance_of.random() < chance:
            right += 1
        drawn = [0] * right + [1]
        draft = Draft((0,) * DRAFT_MAX, (self.grade,) * DRAFT_MAX)
        count = self.policy.choose(draft, self.costs)
        came = drawn[: count + 1]
        self.policy.observe(draft, came)
        seconds = self.truth.compute(count)
        self.costs.observe(count, seconds * (1 + self.truth.noise * self.chance_of.expovariate(1)))
        self.tokens += len(came)
        self.seconds += seconds
        self.drafted.append(count)


@given(TRUTHS, st.sampled_from(range(len(GRADE_PRIORS))), st.floats(0.0, 0.999), st.integers(0, 1 << 20))
@settings(
    deadline=None, derandomize=True
)  # the bounds are of chance: what is drawn anew each time would pass most times
def test_drafts_cost_little_where_they_do_not_pay_and_pay_where_they_can(
    truth: Truth, grade: int, chance: float, seed: int
) -> None:
    run = Run(truth, grade, seed)
    for _ in range(CALLS):
        run.call(chance)
    learning_s = 2 * truth.compute(DRAFT_MAX)
    rate = run.tokens / (run.seconds - min(learning_s, run.seconds / 2))
    assert rate >= 0.8 / truth.single_s
    assert rate >= 0.65 * truth.find_best_rate(chance)


@given(PAYING, st.integers(0, 1 << 20))
@settings(deadline=None, derandomize=True)
def test_a_draft_that_was_always_right_and_is_no_more_is_given_up_within_few_calls(truth: Truth, seed: int) -> None:
    run = Run(truth, 3, seed)
    for _ in range(40):
        run.call(1.0)
    assert max(run.drafted[-3:]) > 3, "it pays"
    for _ in range(12):
        run.call(0.0)
    assert truth.compute(min(run.drafted[-3:])) <= 2.5 * truth.compute(0)
    for _ in range(60):
        run.call(0.0)
    assert truth.compute(run.drafted[-1]) <= 1.1 * truth.compute(0)
    for _ in range(30):
        run.call(1.0)
    assert max(run.drafted[-3:]) > 3, "and it comes back"


def test_what_costs_too_much_is_tried_again_rarely() -> None:
    """Rows that were dear may have become cheap: now and then a draft finds out."""
    run = Run(Truth(1.0, 40.0, 0.1), 3, 0)
    for _ in range(600):
        run.call(0.95)
    tries = [at for at, count in enumerate(run.drafted) if count]
    assert 2 <= len(tries) <= 12
    run.truth = Truth(1.0, 0.1, 0.01)
    for _ in range(600):
        run.call(0.95)
    assert sum(map(bool, run.drafted[-100:])) == 100


@given(TRUTHS, st.integers(0, 1 << 20))
def test_costs_are_learnt_from_few_calls(truth: Truth, seed: int) -> None:
    costs, chance = CallCosts(), random.Random(seed)
    assert costs.compute(0) == 1.0, "before the first call all is told in calls"
    for _ in range(12):
        for count in (0, chance.randint(1, 15), chance.randint(16, 31)):
            costs.observe(count, truth.compute(count))
    for count in (0, 1, 8, 31):
        assert abs(costs.compute(count) - truth.compute(count)) <= 0.2 * truth.compute(count)
    assert costs.compute_slope() >= 0
    assert 0.9 < DECAY < 1


def test_a_call_that_stood_still_is_no_measure() -> None:
    costs = CallCosts()
    for _ in range(20):
        costs.observe(0, 0.1)
    costs.observe(0, 60.0)
    assert costs.compute(0) < 0.16
    for _ in range(3):
        costs.observe(8, 0.2)
    costs.observe(8, 60.0)
    assert costs.compute(8) < 0.4
