"""Random faults of a localnet: done, held for a while, undone. One seed, one sequence of faults."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from node.localnet.localnet import Localnet

HOLD_S = (1.0, 30.0)
CALM_S = (1.0, 8.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to whom, how long it lasts, and how long the net has peace after it has recovered."""

    kind: str
    groups: tuple[tuple[str, ...], ...]
    hold_s: float
    calm_s: float

    @property
    def text(self) -> str:
        """One line."""
        return f"{self.kind} {' | '.join(','.join(group) for group in self.groups)} for {self.hold_s:.1f} s"

    async def begin(self, net: Localnet) -> None:
        """Do it."""
        if self.kind == "partition":
            return await net.set_groups(self.groups)
        for name in self.groups[0]:
            await _BEGIN[self.kind](net, name)
        return None

    async def end(self, net: Localnet) -> None:
        """Undo it."""
        if self.kind == "partition":
            return await net.set_groups(())
        for name in self.groups[0]:
            await _END[self.kind](net, name)
        return None


async def _kill(net: Localnet, name: str) -> None:
    await net.kill(name)


async def _start(net: Localnet, name: str) -> None:
    await net.start(name)


async def _pause(net: Localnet, name: str) -> None:
    net.pause(name)


async def _resume(net: Localnet, name: str) -> None:
    net.resume(name)


_BEGIN: dict[str, Callable[[Localnet, str], Awaitable[None]]] = {"kill": _kill, "pause": _pause}
_END: dict[str, Callable[[Localnet, str], Awaitable[None]]] = {"kill": _start, "pause": _resume}


def draw_fault(draw: random.Random, names: tuple[str, ...]) -> Fault:
    """One validator mostly; now and then several, up to all of them, which stops the chain until they are back."""
    kind = draw.choice(("kill", "pause", "partition"))
    shuffled = draw.sample(names, len(names))
    hold_s, calm_s = draw.uniform(*HOLD_S), draw.uniform(*CALM_S)
    if kind == "partition":
        cuts = sorted(draw.sample(range(1, len(names)), draw.choice((1, 1, 1, 2))))
        ends = [*cuts, len(names)]
        groups = tuple(tuple(shuffled[start:end]) for start, end in zip([0, *cuts], ends, strict=True))
        return Fault(kind, groups, hold_s, calm_s)
    count = draw.choice((1, 1, 1, 2, len(names)))
    return Fault(kind, (tuple(shuffled[:count]),), hold_s, calm_s)
