"""Whether a serving worker should move to another range: only when the gain is clear and lasting. Pure.

A worker that is needed never moves: no path goes on without it, or none could be completed as cheaply. So whoever
outlives another's death keeps its range and its weights, and fetches nothing. One that is to spare moves when the
network would bear clearly more, at every look for a while; then it waits for its turn, a time that its key draws, so
that of many who see the same gap one comes first and the others find it closed.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from inference.placement import PERMILLE, HeldRange, Machine, ModelBytes, RangeNetwork, Worth, choose_range

HOUR_S = 3_600.0


@dataclass(frozen=True, slots=True)
class MovePolicy:
    """When a gain is clear and lasting, and how often a worker moves at most. Times are seconds.

    `gain_permille`: of what the network bears now. The gain has to be seen in `looks_min` looks in a row over at least
    `lasting_s`; the wait for a turn is up to `spread_s`. Over `horizon_s` it has to outweigh what the reload costs.
    """

    gain_permille: int = 200
    looks_min: int = 5
    lasting_s: float = 600.0
    spread_s: float = 600.0
    horizon_s: float = HOUR_S
    moves_per_hour_max: int = 1


@dataclass(frozen=True, slots=True)
class ReloadTime:
    """What a move takes, in seconds: it serves its old range while it fetches, and nothing while it loads."""

    fetch_s: float
    load_s: float


@dataclass(frozen=True, slots=True)
class Intent:
    """What a worker remembers from look to look. A gain was seen in `looks` looks in a row, first at `since_s`."""

    looks: int = 0
    since_s: float = 0.0
    moved_s: tuple[float, ...] = ()

    def note_moved(self, now_s: float) -> Intent:
        """The intent after a move."""
        return Intent(moved_s=(*(one for one in self.moved_s if one > now_s - HOUR_S), now_s))


class Advice(enum.StrEnum):
    """What to do now, and why."""

    NEEDED = "stay: nobody else completes a path"
    NO_GAIN = "stay: no other range bears clearly more"
    NOT_WORTH_IT = "stay: the reload costs more than the move gains"
    WATCH = "wait: the gain has to last"
    TURN = "wait: others may move first"
    MOVED_LATELY = "wait: moved within the hour"
    DRAIN = "take no new requests: move when those under way are done"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class Look:
    """What a worker sees: the network without itself, its own range, and its requests under way."""

    network: RangeNetwork
    start: int
    end: int
    requests: int
    now_s: float


def should_move(
    look: Look,
    worker: bytes,
    intent: Intent,
    estimate: Callable[[Worth], ReloadTime],
    policy: MovePolicy = MovePolicy(),
) -> tuple[Advice, Worth, Intent]:
    """The advice, the range that it is about (the best, or the worker's own), and what to remember for the next look.

    Raises NothingFits.
    """
    own = look.network.judge(look.start, look.end)
    if is_needed(look.network, own):
        return Advice.NEEDED, own, replace(intent, looks=0)
    best = look.network.choose()
    if not is_clear_gain(look.network, own, best, policy):
        return Advice.NO_GAIN, own, replace(intent, looks=0)
    if not outweighs_reload(look.network.flow, own.flow, best.flow, estimate(best), policy):
        return Advice.NOT_WORTH_IT, own, replace(intent, looks=0)
    since_s = intent.since_s if intent.looks else look.now_s
    seen = replace(intent, looks=intent.looks + 1, since_s=since_s)
    lasted_s = look.now_s - since_s
    if seen.looks < policy.looks_min or lasted_s < policy.lasting_s:
        return Advice.WATCH, best, seen
    if lasted_s < policy.lasting_s + draw_wait_s(worker, len(intent.moved_s), policy.spread_s):
        return Advice.TURN, best, seen
    if sum(one > look.now_s - HOUR_S for one in intent.moved_s) >= policy.moves_per_hour_max:
        return Advice.MOVED_LATELY, best, seen
    return (Advice.DRAIN if look.requests else Advice.MOVE), best, seen


def is_needed(network: RangeNetwork, own: Worth) -> bool:
    """Whether a complete path through this worker exists, or takes less to complete, than one without it."""
    return (own.workers_missing, own.kib_missing, own.detour) < network.missing


def is_clear_gain(network: RangeNetwork, own: Worth, best: Worth, policy: MovePolicy) -> bool:
    """Whether the network would have a path, or be closer to one by a whole worker, or bear clearly more."""
    if (best.start, best.end) == (own.start, own.end):
        return False
    if network.missing != (0, 0, 0):
        return best.is_on_path or best.workers_missing < min(network.missing[0], own.workers_missing)
    return (best.flow - own.flow) * PERMILLE > own.flow * policy.gain_permille


def outweighs_reload(without: int, stay: int, move: int, time: ReloadTime, policy: MovePolicy) -> bool:
    """Whether more rows are served within the horizon by moving than by staying. Flows are rows per 1,000 s.

    `without` is what the others bear while this worker loads. A move that is for a path to come, which adds no flow
    yet, costs none either.
    """
    lost = (stay - without) * time.load_s
    gained_s = policy.horizon_s - time.fetch_s - time.load_s
    return gained_s > 0 and (lost == 0 or (move - stay) * gained_s > lost)


def draw_wait_s(worker: bytes, moves: int, spread_s: float) -> float:
    """A worker's wait for its turn, from 0 to `spread_s`: another one after each of its moves."""
    drawn = hashlib.blake2b(worker + moves.to_bytes(4, "big"), digest_size=8).digest()
    return spread_s * int.from_bytes(drawn, "big") / 2**64


def choose_among_twins(
    model: ModelBytes, machine: Machine, held: Sequence[HeldRange], own: HeldRange
) -> tuple[int, int]:
    """The range for a newcomer that took the same one as others did at that moment, before it has served anything.

    Where the network has no path yet and lacks other layers more, the one with the lowest key keeps the range, and the
    next ones choose in the order of their keys, each as if it were this machine: so all come to the same plan without
    a word. Raises NothingFits.
    """
    twins = [one for one in held if (one.start, one.end) == (own.start, own.end)]
    if not twins or min(one.worker for one in twins) > own.worker:
        return own.start, own.end
    placed = [one for one in held if (one.start, one.end) != (own.start, own.end)]
    first, *others = sorted([*twins, own], key=lambda one: one.worker)
    placed.append(first)
    for one in others:
        network = RangeNetwork(model, machine, placed)
        if network.missing == (0, 0, 0):
            return own.start, own.end
        best = choose_range(model, machine, placed)
        if one.worker == own.worker:
            return best.start, best.end
        placed.append(replace(one, start=best.start, end=best.end))
    raise AssertionError("this worker is among them")
