"""The planner against runs: what it foretells of ten paths from a machine's own times, and what these paths did.

The machine's times are measured without the paths: of an engine alone, and of paths whose layers compute nothing on
links of no delay. They become a fleet file, as a user would write one, with the delays and rates that links have.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from benchmarks.inference.lines import Child, start_child
from benchmarks.network.client import Answered
from benchmarks.network.delays import LinkSpeed, OpenPath, open_path
from benchmarks.network.parts import Measured
from inference.model.store import ShardStore
from inference.planning.fleet_text import parse_fleet
from inference.planning.plan import make_fixed_plan
from inference.planning.shape import ModelShape, make_manifest_shape
from inference.planning.workload import PlanWorkload

SHORT, LONG = 40, 400
OWN_ROWS = (32, 256)
"""Rows of the two calls that tell what a call costs and what each of its rows."""
OWN_TOKENS = 24
EMPTY_TOKENS = 96
EMPTY_STAGES = 3
SLOW_MS = 50.0
TOKENS, SLOW_TOKENS = 48, 16
WITHIN = 0.15
LEAST_S = 1e-4
"""Of many rows more than of few: a fleet states no row that takes nothing."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class PathCase:
    """A path to foretell: where its stages meet, in thirtieths of the layers, its links, and a prompt's length."""

    cuts: tuple[int, ...]
    delay_ms: float
    rate_mbit: float | None
    prompt_tokens: int

    @property
    def name(self) -> str:
        """The case in words."""
        shares = "+".join(str(end - start) for start, end in itertools.pairwise(self.cuts))
        rate = "no rate" if self.rate_mbit is None else f"{self.rate_mbit:g} Mbit/s"
        return f"{shares} of 30, {self.delay_ms:g} ms, {rate}, prompt of {self.prompt_tokens}"

    @property
    def tokens(self) -> int:
        """Tokens of an answer: fewer where each takes long."""
        return SLOW_TOKENS if self.delay_ms >= SLOW_MS else TOKENS

    def cut(self, layers: int) -> list[int]:
        """The layers at which its stages meet."""
        return [layers * one // 30 for one in self.cuts]


CASES = (
    PathCase((0, 30), 0, None, SHORT),
    PathCase((0, 30), 50, 100, LONG),
    PathCase((0, 18, 30), 0, None, LONG),
    PathCase((0, 12, 30), 5, None, SHORT),
    PathCase((0, 18, 30), 5, 100, LONG),
    PathCase((0, 12, 30), 100, None, SHORT),
    PathCase((0, 16, 24, 30), 0, 100, SHORT),
    PathCase((0, 16, 24, 30), 5, 100, SHORT),
    PathCase((0, 16, 24, 30), 50, None, LONG),
    PathCase((0, 16, 24, 30), 100, 100, SHORT),
)


@dataclass(frozen=True)
class OwnTimes:
    """A machine's own times in microseconds, named as in a fleet file."""

    decode_us_per_layer: float
    prefill_us_per_layer: float
    call_us_per_layer: float
    head_us: float
    stage_us: float
    hop_us: float
    open_us: float


@dataclass(frozen=True)
class Spoken:
    """What an answer did, or was foretold to: tokens a second after the first, and seconds until that."""

    tokens_per_s: float
    first_token_s: float


Medians = TypeVar("Medians", OwnTimes, Spoken)


class Bench:
    """Running parts that tell the machine's own times: an engine alone, and paths of 1 and 3 stages without layers."""

    def __init__(self, measured: Measured, alone: Child, one: OpenPath, many: OpenPath, half: int, rest: int) -> None:
        self._prompts = measured.prompts[:1]
        self._alone, self._one, self._many = alone, one, many
        self._half, self._rest = half, rest

    def measure(self) -> OwnTimes:
        """The times of now. What noise makes less than nothing is nothing."""
        first_s, last_s = self._alone.call("time_decode", tokens=OWN_TOKENS)
        few_s, many_s = (self._alone.call("time_chunk", rows=rows) for rows in OWN_ROWS)
        return compute_own_times(
            (first_s, last_s), (self._half, self._rest), (few_s, many_s), self._ask(self._one), self._ask(self._many)
        )

    def _ask(self, path: OpenPath) -> Spoken:
        (answer,) = path.client.ask(self._prompts, EMPTY_TOKENS)
        return read_answer(answer)


def compute_own_times(
    decode_s: tuple[float, float],
    layers: tuple[int, int],
    chunks_s: tuple[float, float],
    one: Spoken,
    many: Spoken,
) -> OwnTimes:
    """A machine's times from seconds of a row on two shards of so many layers, of two calls of OWN_ROWS on the first,
    and from what paths of one stage and of EMPTY_STAGES without layers did.
    """
    half, rest = layers
    layer_s = decode_s[0] / half
    row_s = max(chunks_s[1] - chunks_s[0], LEAST_S) / (OWN_ROWS[1] - OWN_ROWS[0]) / half
    call_s = max(chunks_s[0] / half - OWN_ROWS[0] * row_s, 0.0)
    stage_s = 1 / one.tokens_per_s
    hop_s = max(1 / many.tokens_per_s / EMPTY_STAGES - stage_s, 0.0)
    # The order, the answer to it, the prompt and the token are a message each.
    open_s = max(one.first_token_s - stage_s - 4 * hop_s, 0.0)
    head_s = max(decode_s[1] - rest * layer_s, 0.0)
    return OwnTimes(*(1e6 * seconds for seconds in (layer_s, row_s, call_s, head_s, stage_s, hop_s, open_s)))


def read_answer(answer: Answered) -> Spoken:
    """Its rate after the first token, and the wait for that. Tokens may come together, so that no gap says much."""
    taken_s = answer.times_s[-1] - answer.times_s[0]
    return Spoken((len(answer.times_s) - 1) / taken_s, answer.times_s[0] - answer.asked_s)


def write_fleet(own: OwnTimes, case: PathCase) -> str:
    """The fleet file of a case: machines alike, all links alike."""
    per_machine = ("decode_us_per_layer", "prefill_us_per_layer", "call_us_per_layer", "head_us")
    times = asdict(own)
    lines = [f"{name} = {value:.3f}" for name, value in times.items() if name not in per_machine]
    lines += ["[[machine]]", 'name = "worker"', "memory_gib = 64", f"count = {len(case.cuts) - 1}"]
    lines += [f"{name} = {times[name]:.3f}" for name in per_machine]
    for source in ("client", "worker"):
        lines += ["[[link]]", f'between = ["{source}", "worker"]', f"delay_ms = {case.delay_ms}"]
        lines += [] if case.rate_mbit is None else [f"mbit_s = {case.rate_mbit}"]
    return "\n".join(lines) + "\n"


def foretell(shape: ModelShape, own: OwnTimes, case: PathCase) -> Spoken:
    """What the planner says of a case."""
    workload = PlanWorkload(prompt_tokens=case.prompt_tokens, answer_tokens=case.tokens)
    stages = [("worker", start, end) for start, end in itertools.pairwise(case.cut(len(shape.layers)))]
    plan = make_fixed_plan(shape, parse_fleet(write_fleet(own, case).encode()), workload, stages)
    found = plan.predict()
    return Spoken(found.tokens_per_s, found.first_token_s)


def measure_planner(measured: Measured, text: Sequence[int], rounds: int, say: Say) -> dict[str, Any]:
    """Every case so many times, the machine's own times measured anew before each. `text` is tokens to ask with."""
    manifest = ShardStore(measured.models).load_manifest(measured.model)
    shape = make_manifest_shape(manifest)
    owns: list[OwnTimes] = []
    cases = []
    with _open_bench(measured, len(shape.layers)) as bench:
        bench.measure()
        for case in CASES:
            prompt = tuple(itertools.islice(itertools.cycle(text), case.prompt_tokens))
            cases.append(_measure_case(measured, shape, bench, case, prompt, rounds, owns))
            say(_describe(cases[-1]))
    middle = {name: round(value, 1) for name, value in asdict(take_middle(owns)).items()}
    counts = {name: sum(one["within"][name] for one in cases) for name in ("tokens_per_s", "first_token_s")}
    holds = all(count == len(cases) for count in counts.values())
    return {"own_times": middle, "cases": cases, "cases_within": counts, "goal": WITHIN, "holds": holds}


def _measure_case(
    measured: Measured,
    shape: ModelShape,
    bench: Bench,
    case: PathCase,
    prompt: Sequence[int],
    rounds: int,
    owns: list[OwnTimes],
) -> dict[str, Any]:
    speed = LinkSpeed(case.delay_ms, case.rate_mbit)
    times: list[OwnTimes] = []
    answers: list[Spoken] = []
    with open_path(measured.models, measured.model, case.cut(len(shape.layers)), lambda _source, _dest: speed) as path:
        path.client.ask([prompt], 4)  # stages dial each other
        for _ in range(rounds):
            times.append(bench.measure())
            (answer,) = path.client.ask([prompt], case.tokens)
            answers.append(read_answer(answer))
    owns += times
    return {"case": case.name, **compare(foretell(shape, take_middle(times), case), take_middle(answers))}


def take_middle(found: Sequence[Medians]) -> Medians:
    """The median of each number."""
    names = [one.name for one in fields(found[0])]
    return type(found[0])(*(statistics.median(getattr(one, name) for one in found) for name in names))


def compare(foretold: Spoken, did: Spoken) -> dict[str, Any]:
    """What was foretold, what was measured, the first as a share of the second, and which is within the goal."""
    before, after = asdict(foretold), asdict(did)
    ratios = {name: before[name] / after[name] for name in before}
    return {
        "foretold": {name: round(value, 4) for name, value in before.items()},
        "measured": {name: round(value, 4) for name, value in after.items()},
        "ratio": {name: round(value, 3) for name, value in ratios.items()},
        "within": {name: abs(value - 1) <= WITHIN for name, value in ratios.items()},
    }


@contextmanager
def _open_bench(measured: Measured, layers: int) -> Iterator[Bench]:
    """What tells the machine's own times; its links pass a proxy as those of the cases do, with no delay."""
    half, speed = layers // 2, LinkSpeed()
    with ExitStack() as stack:
        alone = stack.enter_context(start_child("benchmarks.network.alone"))
        alone.call(
            "load",
            models=str(measured.models),
            model=measured.model.hex(),
            cuts=[0, half, layers],
            positions=OWN_ROWS[-1],
        )
        one, many = (
            stack.enter_context(
                open_path(measured.models, measured.model, measured.cut(stages), lambda *_: speed, is_empty=True)
            )
            for stages in (1, EMPTY_STAGES)
        )
        yield Bench(measured, alone, one, many, half, layers - half)


def _describe(case: dict[str, Any]) -> str:
    told, did, ratio = case["foretold"], case["measured"], case["ratio"]
    return (
        f"{case['case']}: {told['tokens_per_s']:.2f} tok/s foretold, {did['tokens_per_s']:.2f} measured"
        f" ({ratio['tokens_per_s']:.2f}); first token {told['first_token_s']:.3f} s, {did['first_token_s']:.3f}"
        f" ({ratio['first_token_s']:.2f})"
    )
