"""A path of worker processes, on links with a delay and a rate of their own; for every benchmark that needs one.

    with open_path(models, model, cuts, lambda source, dest: LinkSpeed(delay_ms=50, rate_mbit=100)) as path:
        answers = path.client.ask([prompt], tokens)

`cuts` are the layers at which stages meet. A link is one dialled connection: of the client (CLIENT) to each stage, of a
stage to the next, and of the last to the first; its delay and rate hold for each direction. What a real network adds
besides (loss, jitter, slow start over the whole way) is not here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.inference.lines import Child, start_child
from benchmarks.network.client import PathClient
from inference.model.store import ShardStore

CLIENT = -1
POSITIONS = 8_192


@dataclass(frozen=True, slots=True)
class LinkSpeed:
    """One way's delay, and the rate of each direction in megabits a second; None: as fast as the machine."""

    delay_ms: float = 0.0
    rate_mbit: float | None = None


LinkSpeeds = Callable[[int, int], LinkSpeed | None]
"""The speed of the link that stage `source` (or CLIENT) dials to stage `dest`; None: no proxy between."""


@dataclass
class OpenPath:
    """Running stages in order, and a client whose links to them are as told."""

    stages: list[Child]
    client: PathClient

    def read_cpu_s(self) -> list[float]:
        """Processor seconds of each stage so far."""
        found = [one.call("read_cpu") for one in self.stages]
        return [one["user"] + one["system"] for one in found]


@contextmanager
def open_path(
    models: Path,
    model: bytes,
    cuts: Sequence[int],
    speeds: LinkSpeeds = lambda _source, _dest: None,
    threads: int = 1,
    is_empty: bool = False,
    drafts: str = "none",
) -> Iterator[OpenPath]:
    """Start a process for every stage and one for the proxies, for the length of the block. Raises CallFailed.

    `is_empty`: layers that compute nothing, so that only what is around them is measured. `drafts`: how the first stage
    drafts, see `benchmarks.network.stage`.
    """
    with ExitStack() as stack:
        layers = list(itertools.pairwise(cuts))
        stages = [stack.enter_context(start_child("benchmarks.network.stage")) for _ in layers]
        proxy = stack.enter_context(start_child("benchmarks.network.proxy"))
        started = [
            one.call(
                "start",
                models=str(models),
                model=model.hex(),
                number=number,
                layers=list(layers[number]),
                positions=POSITIONS,
                threads=threads,
                is_empty=is_empty,
                drafts=drafts,
            )
            for number, one in enumerate(stages)
        ]
        for source, stage in enumerate(stages):
            stage.call("tell_path", path=_see_from(source, started, speeds, proxy))
        service_class = ShardStore(models).load_manifest(model).service_class
        yield OpenPath(stages, PathClient(model, _see_from(CLIENT, started, speeds, proxy), service_class))


def _see_from(source: int, path: Sequence[dict[str, Any]], speeds: LinkSpeeds, proxy: Child) -> list[dict[str, Any]]:
    """The path as one end of links is told of it: where a link has a speed, at its proxy's address."""
    seen = []
    for dest, one in enumerate(path):
        speed = None if dest == source else speeds(source, dest)
        addresses = one["addresses"]
        if speed is not None:
            addresses = [_move(text, proxy, speed) for text in addresses]
        seen.append({**one, "addresses": addresses})
    return seen


def _move(address: str, proxy: Child, speed: LinkSpeed) -> str:
    """The address with the port of a new proxy before it."""
    parts = address.split("/")
    at = parts.index("tcp") + 1
    port = proxy.call("open_link", port=int(parts[at]), delay_ms=speed.delay_ms, rate_mbit=speed.rate_mbit)
    return "/".join([*parts[:at], str(port), *parts[at + 1 :]])
