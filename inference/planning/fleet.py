"""Machines and the links between them, as numbers a plan computes with: bytes, seconds, operations. Knows no file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from inference.errors import ModelError

CLIENT = "client"
"""The name of whoever asks, in links."""


class FleetError(ModelError):
    """The fleet cannot be read, or states what no machine or link can be."""


@dataclass(frozen=True)
class MachineKind:
    """`count` machines alike. Bytes per second and operations per second are those that are reached, not a leaflet's.

    `layer_s` is what a layer takes besides. Measured seconds of one layer, for a row that is decoded and for each row
    of a prompt, and of the head for one row, replace these three where they are not 0; `call_layer_s` is what a call of
    several rows takes a layer before the first of them. `latency_s` is one way to the internet's middle, where the
    links of machines at different places meet.
    """

    name: str
    count: int
    memory_bytes: float
    bytes_per_s: float = 0.0
    flops: float = 0.0
    layer_s: float = 0.0
    decode_layer_s: float = 0.0
    prefill_layer_s: float = 0.0
    call_layer_s: float = 0.0
    head_s: float = 0.0
    site: str = ""
    latency_s: float = 0.0
    up_bytes_per_s: float = float("inf")
    down_bytes_per_s: float = float("inf")

    def name_member(self, number: int) -> str:
        """The name of machine `number`, from 0."""
        return self.name if self.count == 1 else f"{self.name}-{number + 1}"


@dataclass(frozen=True)
class FleetLink:
    """One way between two machines: how long the first byte takes, and bytes per second."""

    delay_s: float
    bytes_per_s: float

    def compute_seconds(self, size: float) -> float:
        """How long a message of so many bytes takes to be there."""
        return self.delay_s + size / self.bytes_per_s


@dataclass(frozen=True)
class Fleet:
    """Kinds of machines, who asks, and links that differ from what latencies and rates of their ends make.

    `links` are by a pair of names (of kinds, or CLIENT) or sites, in alphabetical order; a pair may be twice the same.
    Besides, `hop_s` is what sending a message takes, `stage_s` what a stage takes for a call whatever its layers, and
    `open_s` what taking an order takes. `head_room` is the share of each memory that stays free.
    """

    kinds: tuple[MachineKind, ...]
    client: MachineKind
    links: Mapping[tuple[str, str], FleetLink] = field(default_factory=dict)
    hop_s: float = 0.0
    stage_s: float = 0.0
    open_s: float = 0.0
    head_room: float = 0.1

    @property
    def machines(self) -> int:
        """How many machines there are."""
        return sum(one.count for one in self.kinds)

    def get_link(self, source: MachineKind, target: MachineKind) -> FleetLink:
        """The way from one machine to another, `hop_s` included: stated for names, for a name and a site, for sites;
        else through the internet's middle at the slower of up and down.
        """
        for one in (source.name, source.site):
            for other in (target.name, target.site):
                stated = self.links.get((min(one, other), max(one, other)))
                if stated is not None and one and other:
                    return FleetLink(stated.delay_s + self.hop_s, stated.bytes_per_s)
        rate = min(source.up_bytes_per_s, target.down_bytes_per_s)
        return FleetLink(source.latency_s + target.latency_s + self.hop_s, rate)

    def add_one(self, kind: MachineKind) -> Fleet:
        """The fleet with one more machine of a kind."""
        kinds = tuple(
            dataclasses.replace(one, count=one.count + 1) if one.name == kind.name else one for one in self.kinds
        )
        return dataclasses.replace(self, kinds=kinds)
