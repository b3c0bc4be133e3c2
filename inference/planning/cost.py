"""How long stages and hops take, by formula: the tables that a plan is searched in. Pure; knows no search.

layer, n rows of one sequence   max(bytes / bytes_per_s, operations / flops) + layer_s
bytes, operations               LayerShape.count_read_bytes, LayerShape.count_flops
measured machines               bytes_per_s and flops are what makes the measured seconds come out for the model's
                                average layer: one row at no context, and a row of a prompt; layer_s is 0
with a measured call            call_s + operations / flops for more than one row: such a call turns the weights into
                                another form first, so that neither hides behind the other
stage                           stage_s + its layers, and the head (one row in a chunk, else all rows) where it is last
chunk of a prompt               a call on the first stage; on each later one its first window is a call of its own
hop                             delay + hop_s + rows x hidden x item bytes / rate
token back to the first stage   delay + hop_s + rows x 4 bytes / rate
opening                         the client's order to the farthest stage and its answer back, and open_s: the prompt
                                is sent when every stage has taken part. Tables know of stages only the two ends
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.planning.fleet import Fleet, MachineKind
from inference.planning.shape import LayerShape, ModelShape
from inference.planning.workload import Objective, PlanWorkload, split_chunk
from proto_specs.types.manifest import TOKEN_BYTES

Table = NDArray[np.float64]


@dataclass(frozen=True)
class MachineSpeed:
    """What a machine reaches on one model: bytes and operations per second, and seconds of a layer besides.

    `call_s` is what a layer takes of a call of several rows before the first, where that was measured (else 0).
    """

    bytes_per_s: float
    flops: float
    layer_s: float
    call_s: float = 0.0

    def compute_seconds(self, layer: LayerShape, rows: float, context: float) -> float:
        """Seconds of one call of `rows` rows of one sequence through a layer or the head."""
        reading, computing = self.split_seconds(layer, rows, context)
        return reading + computing + self.layer_s

    def split_seconds(self, layer: LayerShape, rows: float, context: float) -> tuple[float, float]:
        """(reading, computing) of such a call, without `layer_s`: one of them is 0 where it hides behind the other."""
        computing = layer.count_flops(rows, context) / self.flops
        if rows > 1 and self.call_s:
            return self.call_s, computing
        reading = layer.count_read_bytes(rows, context) / self.bytes_per_s
        return (reading, 0.0) if reading >= computing else (0.0, computing)


@dataclass(frozen=True)
class CostTable:
    """K kinds of machines, L layers. What cannot be is infinite: no layers, or more than memory holds.

    `stage` [K, L+1, L+1] is seconds of layers [s, e); `hop` [K, K] seconds from one stage to the next, of which
    `sending` [K, K] occupies the link; `ends` [K, K] what the first and the last stage add together, and `alone` [K]
    that of one stage that is both. `repeats` says how often the slowest stage or link counts on top of the sum.
    """

    counts: tuple[int, ...]
    stage: Table
    hop: Table
    sending: Table
    ends: Table
    alone: Table
    repeats: int = 0

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return len(self.stage[0]) - 1


def compute_speed(kind: MachineKind, shape: ModelShape) -> MachineSpeed:
    """The speed of a machine on a model, from its own numbers or from measured seconds."""
    count = len(shape.layers)
    bytes_per_s, flops, layer_s = kind.bytes_per_s, kind.flops, kind.layer_s
    if kind.decode_layer_s:
        bytes_per_s = sum(one.count_read_bytes(1, 0) for one in shape.layers) / count / kind.decode_layer_s
        layer_s = 0.0
    if kind.prefill_layer_s:
        flops = sum(one.count_flops(1, 0) for one in shape.layers) / count / kind.prefill_layer_s
    return MachineSpeed(bytes_per_s, flops, layer_s, kind.call_layer_s)


def compute_head_speed(kind: MachineKind, shape: ModelShape) -> MachineSpeed:
    """The same for the head, which may have been measured by itself."""
    speed = compute_speed(kind, shape)
    if not kind.head_s:
        return speed
    return MachineSpeed(shape.head.count_read_bytes(1, 0) / kind.head_s, speed.flops, 0.0)


def compute_stage_seconds(shape: ModelShape, fleet: Fleet, rows: float, context: float, head_rows: float) -> Table:
    """Seconds [K, L+1, L+1] of one call of `rows` rows through layers [s, e) on each kind of machine.

    The last stage's head runs `head_rows` rows. Infinite where the range is empty.
    """
    count = len(shape.layers)
    table = np.full((len(fleet.kinds), count + 1, count + 1), np.inf)
    is_range = np.triu(np.ones((count + 1, count + 1), bool), 1)
    for place, kind in enumerate(fleet.kinds):
        speed = compute_speed(kind, shape)
        seconds = {one: speed.compute_seconds(one, rows, context) for one in set(shape.layers)}
        upto = np.cumsum([0.0, *(seconds[one] for one in shape.layers)])
        spans = upto[None, :] - upto[:, None] + fleet.stage_s
        if head_rows:
            spans[:, count] += compute_head_speed(kind, shape).compute_seconds(shape.head, head_rows, 0)
        table[place][is_range] = spans[is_range]
    return table


def compute_chunk_seconds(shape: ModelShape, fleet: Fleet, rows: float, context: float) -> Table:
    """Seconds [K, L+1, L+1] of a chunk of `rows` rows through layers [s, e), without the head, in as many calls as it
    becomes there.
    """
    firsts, laters = (
        np.sum([compute_stage_seconds(shape, fleet, one, context, 0) for one in split_chunk(rows, is_first)], axis=0)
        for is_first in (True, False)
    )
    table: Table = laters
    table[:, 0] = firsts[:, 0]
    return table


def compute_room(shape: ModelShape, fleet: Fleet, positions: int) -> NDArray[np.bool_]:
    """Whether layers [s, e) with so many positions of KV fit each kind, head-room left: [K, L+1, L+1]."""
    count = len(shape.layers)
    held = np.cumsum([0, *(one.held_bytes + one.kv_bytes * positions for one in shape.layers)]).astype(np.float64)
    sizes = held[None, :] - held[:, None]
    sizes[0, :] += shape.embed_bytes
    sizes[:, count] += shape.head.held_bytes
    rooms = np.array([one.memory_bytes * (1 - fleet.head_room) for one in fleet.kinds])
    fits: NDArray[np.bool_] = sizes[None] <= rooms[:, None, None]
    return fits


def compute_hops(fleet: Fleet, size: float) -> tuple[Table, Table]:
    """(seconds until a message of so many bytes is there, seconds that it occupies the link), [K, K] each."""
    links = [[fleet.get_link(source, target) for target in fleet.kinds] for source in fleet.kinds]
    whole = np.array([[one.compute_seconds(size) for one in row] for row in links])
    return whole, np.array([[size / one.bytes_per_s for one in row] for row in links])


def compute_opening(fleet: Fleet, kind: MachineKind) -> float:
    """Seconds from an order's leaving the client to such a machine's answer there."""
    there, back = fleet.get_link(fleet.client, kind), fleet.get_link(kind, fleet.client)
    return there.delay_s + back.delay_s + fleet.open_s


def make_cost_table(
    shape: ModelShape, fleet: Fleet, workload: PlanWorkload, objective: Objective, chunk_stages: int = 2
) -> CostTable:
    """The table of an objective. That of the first token cuts the prompt as for a path of `chunk_stages` stages."""
    kinds = len(fleet.kinds)
    room = compute_room(shape, fleet, workload.positions)
    counts = tuple(one.count for one in fleet.kinds)
    if objective is not Objective.FIRST_TOKEN:
        seconds = compute_stage_seconds(shape, fleet, 1, workload.decode_context, 1)
        hop, sending = compute_hops(fleet, shape.row_bytes)
        back, _ = compute_hops(fleet, TOKEN_BYTES)
        return CostTable(counts, np.where(room, seconds, np.inf), hop, sending, back.T.copy(), np.zeros(kinds))
    chunks, rows = workload.compute_chunks(chunk_stages)
    seconds = compute_chunk_seconds(shape, fleet, rows, workload.prefill_context)
    hop, sending = compute_hops(fleet, rows * shape.row_bytes)
    entry = np.array(
        [fleet.get_link(fleet.client, one).compute_seconds(workload.prompt_tokens * TOKEN_BYTES) for one in fleet.kinds]
    )
    leave = np.array([fleet.get_link(one, fleet.client).compute_seconds(TOKEN_BYTES) for one in fleet.kinds])
    head = np.array([compute_head_speed(one, shape).compute_seconds(shape.head, 1, 0) for one in fleet.kinds])
    opening = np.array([compute_opening(fleet, one) for one in fleet.kinds])
    ends = entry[:, None] + (leave + head)[None, :] + np.maximum(opening[:, None], opening[None, :])
    return CostTable(
        counts, np.where(room, seconds, np.inf), hop, sending, ends, np.diagonal(ends).copy(), repeats=chunks - 1
    )
