"""Reads a fleet from TOML, strictly: every number within bounds, no key that nobody reads."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.planning.fleet import CLIENT, Fleet, FleetError, FleetLink, MachineKind

TEXT_BYTES_MAX = 1 << 20
MACHINES_MAX = 1000
KINDS_MAX = 200
LINKS_MAX = 20_000
NAME_CHARS_MAX = 40
_GIB, _GB, _MBIT = 1 << 30, 1e9, 1e6 / 8
_MS, _US = 1e-3, 1e-6

EXAMPLE_FLEET = """\
# A fleet for `myelin model plan`. Times are one way; rates are what a link or a machine states.
head_room = 0.1           # share of each machine's memory that stays free
bandwidth_share = 0.6     # of a machine's memory bandwidth, what decoding reaches
compute_share = 0.4       # of its arithmetic, what a prompt reaches
layer_us = 150            # what a layer takes besides reading its weights
hop_us = 350              # what sending a message takes besides the link
stage_us = 0              # what a stage takes for each call whatever its layers
open_us = 0               # what taking an order takes, before the prompt is sent

[client]                  # who asks; the gateway, where there is one
latency_ms = 10
up_mbit_s = 40
down_mbit_s = 200

[[machine]]
name = "rtx4090"
count = 2
memory_gib = 24
bandwidth_gb_s = 1008     # of its memory
compute_tflops = 82       # fp32: the exact class computes in it
latency_ms = 10           # one way, to where links of different sites meet
up_mbit_s = 40
down_mbit_s = 200

[[machine]]
name = "desktop"
count = 2
site = "home"
memory_gib = 32
decode_us_per_layer = 900    # measured, in place of bandwidth_gb_s and layer_us
prefill_us_per_layer = 60    # measured, for each row of a prompt, in place of compute_tflops
call_us_per_layer = 0        # measured, of a call of several rows besides its rows
head_us = 2500               # measured, of the last shard's head for one row; else by its bytes
latency_ms = 12
up_mbit_s = 20
down_mbit_s = 100

[[link]]                  # names of machines or sites; what is not stated goes the long way round
between = ["home", "home"]
delay_ms = 0.3
mbit_s = 1000
"""
"""A fleet to begin with."""


class _Table:
    """A table of the file; each key is read once, and `finish` refuses what nobody read."""

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, Mapping):
            raise FleetError(f"{where} is no table: write it as in `myelin model plan --example-fleet`")
        self._values: Mapping[str, Any] = values
        self._where = where
        self._read: set[str] = set()

    def number(self, key: str, default: float | None, least: float, most: float) -> float:
        self._read.add(key)
        value = self._values.get(key, default)
        if value is None:
            raise FleetError(f"{self._where} lacks {key}: see `myelin model plan --example-fleet`")
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise FleetError(f"{key} of {self._where} is {value!r:.40}, not a number from {least:g} to {most:g}")
        return float(value)

    def has(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, default: str | None) -> str:
        self._read.add(key)
        value = self._values.get(key, default)
        if value is None:
            raise FleetError(f"{self._where} lacks {key}: see `myelin model plan --example-fleet`")
        if not isinstance(value, str) or len(value) > NAME_CHARS_MAX or not value.isprintable():
            raise FleetError(f"{key} of {self._where} is {value!a:.60}, not a text of up to {NAME_CHARS_MAX} letters")
        return value

    def items(self, key: str, most: int) -> list[object]:
        self._read.add(key)
        value = self._values.get(key, [])
        if not isinstance(value, list) or len(value) > most:
            raise FleetError(f"{key} of {self._where} is no list of up to {most}")
        return value

    def table(self, key: str) -> _Table:
        self._read.add(key)
        return _Table(self._values.get(key, {}), f"[{key}]")

    def finish(self) -> None:
        extra = sorted(self._values.keys() - self._read)
        if extra:
            raise FleetError(f"{self._where} has {extra[0]!a:.60}, which is not known: correct or remove it")


def read_fleet(path: Path) -> Fleet:
    """The fleet of a file. Raises FleetError, in one line, as `parse_fleet` or where it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(TEXT_BYTES_MAX + 1)
    except OSError as error:
        raise FleetError(
            f"{path} cannot be read ({error.strerror}): make one from `myelin model plan --example-fleet`"
        ) from None
    if len(data) > TEXT_BYTES_MAX:
        raise FleetError(f"{path} is longer than {TEXT_BYTES_MAX} bytes: it is no fleet")
    return parse_fleet(data, path.name)


def parse_fleet(data: bytes, where: str = "the fleet") -> Fleet:
    """The fleet that a text states. Raises FleetError for anything that is not exactly one."""
    try:
        top = _Table(tomllib.loads(data.decode()), where)
    except (ValueError, RecursionError) as error:
        raise FleetError(f"{where} is no TOML ({str(error).splitlines()[0]:.100}): correct it") from None
    shares = {key: top.number(key, 1.0, 1e-3, 1.0) for key in ("bandwidth_share", "compute_share")}
    layer_s = top.number("layer_us", 0.0, 0, 1e6) * _US
    kinds = tuple(
        _read_machine(_Table(one, f"machine {place + 1}"), shares, layer_s)
        for place, one in enumerate(top.items("machine", KINDS_MAX))
    )
    client = top.table("client")
    latency_s, site, up, down = _read_uplink(client)
    client.finish()
    fleet = Fleet(
        kinds=kinds,
        client=MachineKind(CLIENT, 1, 0.0, site=site, latency_s=latency_s, up_bytes_per_s=up, down_bytes_per_s=down),
        links=_read_links(top.items("link", LINKS_MAX), kinds, site),
        hop_s=top.number("hop_us", 0.0, 0, 1e6) * _US,
        stage_s=top.number("stage_us", 0.0, 0, 1e6) * _US,
        open_s=top.number("open_us", 0.0, 0, 1e7) * _US,
        head_room=top.number("head_room", 0.1, 0, 0.9),
    )
    top.finish()
    if not 1 <= fleet.machines <= MACHINES_MAX:
        raise FleetError(f"{where} has {fleet.machines} machines: give 1 to {MACHINES_MAX}, each as [[machine]]")
    return fleet


def _read_machine(table: _Table, shares: Mapping[str, float], layer_s: float) -> MachineKind:
    name = table.text("name", None)
    if not name or name == CLIENT:
        raise FleetError(f"a machine is called {name!r}: give it another name")
    decode_us = table.number("decode_us_per_layer", 0.0, 0, 1e9)
    prefill_us = table.number("prefill_us_per_layer", 0.0, 0, 1e9)
    call_us = table.number("call_us_per_layer", 0.0, 0, 1e9)
    head_us = table.number("head_us", 0.0, 0, 1e9)
    # What is measured needs no leaflet, and the other way round.
    bandwidth = table.number("bandwidth_gb_s", 0.0 if decode_us else None, 0 if decode_us else 1e-3, 1e6)
    compute = table.number("compute_tflops", 0.0 if prefill_us else None, 0 if prefill_us else 1e-6, 1e6)
    count = table.number("count", 1, 1, MACHINES_MAX)
    if count != int(count):
        raise FleetError(f"count of machine {name} is {count:g}: give a whole number")
    memory = table.number("memory_gib", None, 1e-3, 1e6) * _GIB
    latency_s, site, up, down = _read_uplink(table)
    table.finish()
    return MachineKind(
        name=name,
        count=int(count),
        memory_bytes=memory,
        bytes_per_s=bandwidth * _GB * shares["bandwidth_share"],
        flops=compute * 1e12 * shares["compute_share"],
        layer_s=layer_s,
        decode_layer_s=decode_us * _US,
        prefill_layer_s=prefill_us * _US,
        call_layer_s=call_us * _US,
        head_s=head_us * _US,
        site=site,
        latency_s=latency_s,
        up_bytes_per_s=up,
        down_bytes_per_s=down,
    )


def _read_uplink(table: _Table) -> tuple[float, str, float, float]:
    """(latency in seconds, site, bytes per second up, down)."""
    latency = table.number("latency_ms", 0.0, 0, 1e5) * _MS
    up, down = (table.number(key, 1e4, 1e-3, 1e7) * _MBIT for key in ("up_mbit_s", "down_mbit_s"))
    return latency, table.text("site", ""), up, down


def _read_links(
    stated: list[object], kinds: tuple[MachineKind, ...], client_site: str
) -> dict[tuple[str, str], FleetLink]:
    names = [one.name for one in kinds]
    sites = {one.site for one in kinds if one.site} | {one for one in [client_site] if one}
    twice = {one for one in names if names.count(one) > 1} | (sites & {*names, CLIENT})
    if twice:
        raise FleetError(f"two machines, or a machine and a site, are called {min(twice)!a}: give each its own name")
    links: dict[tuple[str, str], FleetLink] = {}
    for place, one in enumerate(stated):
        table = _Table(one, f"link {place + 1}")
        ends = table.items("between", 2)
        if len(ends) != 2 or not all(isinstance(end, str) for end in ends):
            raise FleetError(f'link {place + 1} has no two ends: write between = ["A", "B"]')
        pair = (min(map(str, ends)), max(map(str, ends)))
        unknown = {*pair} - {*names, *sites, CLIENT}
        if unknown:
            raise FleetError(f"link {place + 1} ends at {min(unknown)!a:.60}, which is no machine and no site")
        if pair in links:
            raise FleetError(f"the link between {pair[0]!a} and {pair[1]!a} is there twice: remove one")
        delay = table.number("delay_ms", None, 0, 1e5) * _MS
        links[pair] = FleetLink(delay, table.number("mbit_s", 1e4, 1e-3, 1e7) * _MBIT)
        table.finish()
    return links
