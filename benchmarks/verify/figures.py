"""The figures that need no run of the model: bytes on the wire, bytes of commitments, what settling costs."""

from __future__ import annotations

from typing import Any

from benchmarks.weights.serving import Serving
from consensus.runtime.inference.state import SEQUENCES_CHUNK
from consensus.runtime.weights import compute_call_weight
from genesis.dev import build_dev_spec
from proto_specs.codec import encode
from proto_specs.limits import STATEMENT_REQUESTS_MAX, WINDOW_POSITIONS
from proto_specs.types import calls
from proto_specs.types.manifest import FP32_BYTES, Manifest, WireDtype
from proto_specs.types.request import Leaf, SignedVoucher, Voucher
from proto_specs.types.wire import Countersign, OutputLeaf, Rows

STAGES = 3
REQUESTS = 10_000
SIGNATURE_BYTES = 64
NANOSECONDS_PER_MS = 1_000_000


def measure_wire(manifest: Manifest) -> dict[str, Any]:
    """Bytes of a token at an inner boundary: its row, and the frame that carries it."""
    wire, width = WireDtype(manifest.wire_dtype), manifest.architecture.hidden
    row = bytes(width * wire.item_bytes)
    return {
        "wire_dtype": wire.name.lower(),
        "row_bytes": len(row),
        "per_width": len(row) / width,
        "frame_bytes_decode": len(encode(Rows(bytes(32), 1, 4_000, 1, row))),
        "frame_bytes_prefill_per_token": len(
            encode(Rows(bytes(32), 1, 4_000, WINDOW_POSITIONS, row * WINDOW_POSITIONS))
        )
        / WINDOW_POSITIONS,
        "row_bytes_fp32": width * FP32_BYTES,
    }


def measure_commitments() -> dict[str, Any]:
    """Bytes that a token costs at a boundary for both neighbours' signatures, as sent now and as it could be.

    Leaves are chained, so a signature under one covers those before it: with one pair of signatures for several windows
    nothing else changes, but a side then works so many windows ahead of the other's word.
    """
    leaf = Leaf(bytes(32), 1, 100, 3_200, WINDOW_POSITIONS, 576, int(WireDtype.BF16), *([b"\1" * 32] * 3))
    sent = len(encode(OutputLeaf(leaf, bytes(64))))
    answered = len(encode(Countersign(bytes(32), 1, 100, bytes(64))))
    voucher = len(encode(SignedVoucher(Voucher(bytes(32), 3_200, bytes(32), False), bytes(64))))
    bare = len(encode(Countersign(bytes(32), 1, 100, bytes(64))))
    return {
        "leaf_frame_bytes": sent,
        "countersign_frame_bytes": answered,
        "voucher_bytes_per_stage": voucher,
        "signatures_per_token": 2 * SIGNATURE_BYTES / WINDOW_POSITIONS,
        "frames_per_token": (sent + answered) / WINDOW_POSITIONS,
        "frames_per_token_without_the_leaf": (bare + answered) / WINDOW_POSITIONS,
        "per_token_if_signed_every_n_windows": {
            str(count): (bare + answered) / WINDOW_POSITIONS / count for count in (1, 2, 3, 4, 8)
        },
        "holds": (sent + answered) / WINDOW_POSITIONS <= 2.0,
    }


def measure_settlement() -> dict[str, Any]:
    """One request by `Settle`, and 10,000 of one session by `SettleStatement`, over three stages.

    CPU time of the call alone, state in memory; and the weights by which blocks are filled. Time depends on the
    machine's load, weights do not.
    """
    chunks = -(-REQUESTS // SEQUENCES_CHUNK)
    one = Serving(STAGES)
    many = Serving(STAGES, requests_max=STATEMENT_REQUESTS_MAX)
    single: calls.Call = one.build_settlement()
    statement = many.build_statement(chunks)
    requests = statement.statement.statement.requests
    times = {
        name: serving.rig.measure_call(serving.workers[0], call).ns / NANOSECONDS_PER_MS
        for name, serving, call in (("settle", one, single), ("statement", many, statement))
    }
    weights = {name: compute_call_weight(call) for name, call in (("settle", single), ("statement", statement))}
    block = build_dev_spec().params.system.block_weight_max
    return {
        "stages": STAGES,
        "requests_in_the_statement": requests,
        "cpu_ms": times,
        "cpu_ratio": times["statement"] / times["settle"],
        "weight": weights,
        "weight_ratio": weights["statement"] / weights["settle"],
        "bytes": {"settle": len(encode(single)), "statement": len(encode(statement))},
        "requests_per_block_by_weight": {
            "settle": block // weights["settle"],
            "statement": block // weights["statement"] * requests,
        },
        "requests_per_second_of_cpu": {
            "settle": 1_000 / times["settle"],
            "statement": 1_000 / times["statement"] * requests,
        },
    }
