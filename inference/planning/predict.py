"""What a path of stages will do, from the times of its stages and links, planned or measured. Pure arithmetic.

pass of n rows    sum of stages (n rows, the head included) + sum of hops (n rows) + n tokens back to the first stage
token             a pass of one row
with drafts       a pass of k + 1 rows gives (1 - a^(k + 1)) / (1 - a) tokens at an acceptance of a; drafting is free
first token       the order to every stage and their answers + prompt to the first stage + sum of stages (a chunk) +
                  sum of hops (a chunk) + (chunks - 1) x the slowest stage or link + the head for one row + a token to
                  the client
all sessions      one token for every time of the slowest stage or link, at most `sessions` for every token of one;
                  rows of several sessions are not taken to share a call, which dense models can
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference.planning.fleet import FleetLink
from inference.planning.workload import PlanWorkload, WorkloadError, compute_accepted
from proto_specs.types.manifest import TOKEN_BYTES

DRAFTS_MAX = 16


@dataclass(frozen=True)
class StageTimes:
    """Seconds of a stage: `pass_s[n - 1]` for n rows that are decoded, `chunk_s` for a chunk of the prompt.

    Those of the last stage include its head in `pass_s`, and have it for one row as `head_s`.
    """

    pass_s: tuple[float, ...]
    chunk_s: float
    head_s: float = 0.0


@dataclass(frozen=True)
class PathTimes:
    """Times of a path: links between its stages, `back` from the last to the first (None where they are one).

    `entry` and `leave` are the client's links to the first and from the last stage, `opening_s` is how long an order
    takes until every stage has answered. Raises WorkloadError for numbers of stages and links that do not fit each
    other.
    """

    stages: tuple[StageTimes, ...]
    hops: tuple[FleetLink, ...]
    back: FleetLink | None
    entry: FleetLink
    leave: FleetLink
    opening_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.stages or len(self.hops) != len(self.stages) - 1 or not all(one.pass_s for one in self.stages):
            raise WorkloadError(
                f"{len(self.stages)} stages have {len(self.hops)} links: give every stage's times, and a link between"
                " each two"
            )


@dataclass(frozen=True)
class PathPrediction:
    """Seconds and rates of a path. `drafts` is the number that `speculative_tokens_per_s` is for, 0 where none help.

    `total_tokens_per_s` is what all sessions get together, `most_tokens_per_s` what enough sessions would.
    """

    first_token_s: float
    token_s: float
    tokens_per_s: float
    drafts: int
    accepted: float
    speculative_tokens_per_s: float
    slowest_s: float
    total_tokens_per_s: float
    most_tokens_per_s: float


def predict(times: PathTimes, workload: PlanWorkload, row_bytes: int) -> PathPrediction:
    """What a path does with such requests; rows take `row_bytes` at every boundary."""
    token_s = compute_pass_seconds(times, 1, row_bytes)
    drafts, best = 0, 1 / token_s
    most = min(len(one.pass_s) for one in times.stages) - 1
    if workload.drafts > most:
        raise WorkloadError(f"{workload.drafts} drafts are asked for, the times of stages are for {most}: give more")
    tried: Sequence[int] = [workload.drafts] if workload.drafts else range(1, min(most, DRAFTS_MAX) + 1)
    for count in tried:
        rate = compute_accepted(workload.acceptance, count) / compute_pass_seconds(times, count + 1, row_bytes)
        if rate > best or workload.drafts:
            drafts, best = count, rate
    slowest = max([one.pass_s[0] for one in times.stages] + [row_bytes / one.bytes_per_s for one in times.hops])
    return PathPrediction(
        first_token_s=compute_first_token_seconds(times, workload, row_bytes),
        token_s=token_s,
        tokens_per_s=1 / token_s,
        drafts=drafts,
        accepted=compute_accepted(workload.acceptance, drafts),
        speculative_tokens_per_s=best,
        slowest_s=slowest,
        total_tokens_per_s=min(1 / slowest, workload.sessions / token_s),
        most_tokens_per_s=1 / slowest,
    )


def compute_pass_seconds(times: PathTimes, rows: int, row_bytes: int) -> float:
    """Seconds of a pass of so many rows, until the first stage can begin the next."""
    total = sum(one.pass_s[rows - 1] for one in times.stages)
    total += sum(one.compute_seconds(rows * row_bytes) for one in times.hops)
    return total + (times.back.compute_seconds(rows * TOKEN_BYTES) if times.back else 0.0)


def compute_first_token_seconds(times: PathTimes, workload: PlanWorkload, row_bytes: int) -> float:
    """Seconds from the order's leaving the client to its first token there; connections and money are in place."""
    chunks, rows = workload.compute_chunks(len(times.stages))
    chunk_bytes = rows * row_bytes
    slowest = max([one.chunk_s for one in times.stages] + [chunk_bytes / one.bytes_per_s for one in times.hops])
    total = times.opening_s + times.entry.compute_seconds(workload.prompt_tokens * TOKEN_BYTES)
    total += sum(one.chunk_s + one.head_s for one in times.stages)
    total += sum(one.compute_seconds(chunk_bytes) for one in times.hops) + (chunks - 1) * slowest
    return total + times.leave.compute_seconds(TOKEN_BYTES)
