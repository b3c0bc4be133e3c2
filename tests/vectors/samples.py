"""Values the golden vectors are made of: fixed keys, one request of three stages, one manifest, one of every record."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from itertools import count
from typing import Any

from benchmarks.manifests import build_manifest, make_architecture
from proto_specs.codec import Fixed, Int, Max, UInt
from proto_specs.ed25519 import SigningKey
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.merkle import compute_root
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.manifest import ExecutionProfile, Form, Manifest, UnitKind, compute_model_id
from proto_specs.types.request import (
    FIRST_PREVIOUS,
    Leaf,
    Opening,
    Order,
    PathStage,
    SignedLeaf,
    StageRoots,
    Voucher,
    compute_leaf_hash,
    compute_payload_hash,
    compute_positions,
    compute_prompt_hash,
    compute_request_id,
    compute_session_id,
    compute_tokens_hash,
    compute_windows,
    pack_tokens,
    sign_input,
    sign_order,
    sign_output,
)
from proto_specs.types.sampling import GrammarKind, SamplingParams, TokenBias, make_grammar
from tests.property.proto_specs.shapes import get_fields, get_members, split

GENESIS = bytes([0x47]) * 32
CLIENT = bytes([0xC1]) * 32
SESSION_KEY = SigningKey.from_seed(bytes([1]) * 32)
WORKER_KEYS = [SigningKey.from_seed(bytes([number]) * 32) for number in (2, 3, 4)]
PROMPT = tuple(range(1_000, 1_040))
GENERATED = (7, 300, 70_000, 49_151, 0, 2)
GRAMMAR = b'{"type":"object"}'
SAMPLING = SamplingParams(
    temperature_milli=700,
    top_k=40,
    top_p_milli=950,
    seed=2**63 + 5,
    min_p_milli=50,
    repetition_penalty_milli=1_100,
    presence_penalty_milli=-300,
    frequency_penalty_milli=2_000,
    logit_bias=(TokenBias(0, -100_000), TokenBias(70_000, 5)),
    stop=(b"\n\n", "fin é".encode()),
    grammar=make_grammar(GrammarKind.JSON_SCHEMA, GRAMMAR),
    logprobs=3,
    prompt_logprobs=True,
)
HIDDEN = 2
"""Width of hidden states: small, so that the vectors stay readable."""
LAYERS = 6
STAGES = len(WORKER_KEYS)
_FORMS = {UnitKind.EMBED: (Form.Q8_B32,), UnitKind.LAYER: (Form.FP32, Form.Q4_B32_MIN), UnitKind.HEAD: (Form.FP32,)}
TOKEN_DTYPE, FP32_DTYPE = 3, 0


def make_manifest(**fields: Any) -> Manifest:
    """A valid manifest of six layers."""
    manifest = build_manifest(
        LAYERS,
        name="vector/Tiny-β",
        architecture=make_architecture(LAYERS, HIDDEN, 100_000, 4_096),
        eos_tokens=(2, 0),
        profile=ExecutionProfile("fp32", "onnxruntime-1.31", "cpu", 30_000, 2_000, 1, 4_000),
    )
    units = tuple(
        dataclasses.replace(one, bytes_total=1 << one.kind * 8, forms=_FORMS.get(one.kind, ()))
        for one in manifest.units
    )
    return dataclasses.replace(manifest, **{"units": units, **fields})


def make_order() -> Order:
    """40 prompt tokens through three stages of two layers."""
    path = tuple(
        PathStage(key.public_key, 2 * number, 2 * number + 2, 500 + number, 1_000 + number)
        for number, key in enumerate(WORKER_KEYS)
    )
    return Order(
        genesis=GENESIS,
        session=compute_session_id(CLIENT, 41),
        sequence=3,
        slice_start=2_000_000,
        slice_end=3_000_000,
        model=compute_model_id(make_manifest()),
        service_class=0,
        prompt_hash=compute_prompt_hash(pack_tokens(PROMPT)),
        prompt_tokens=len(PROMPT),
        tokens_max=64,
        sampling=SAMPLING,
        path=path,
    )


REQUEST = compute_request_id(make_order())
POSITIONS = compute_positions(len(PROMPT), len(GENERATED))
WINDOWS = compute_windows(POSITIONS)


def make_payloads(boundary: int) -> list[tuple[bytes, bytes]]:
    """(payload, trace) of each window at a boundary. Rows of hidden states are made-up bytes."""
    fed = PROMPT + GENERATED[:-1]
    windows: list[tuple[bytes, bytes]] = []
    for window in range(WINDOWS):
        start, end = window * WINDOW_POSITIONS, min((window + 1) * WINDOW_POSITIONS, POSITIONS)
        rows = bytes((boundary * 50 + at) % 256 for at in range(start, end) for _ in range(HIDDEN * 4))
        if boundary == 0:
            windows.append((pack_tokens(fed[start:end]), b""))
        elif boundary < STAGES:
            windows.append((rows, b""))
        else:
            first = max(0, start - len(PROMPT) + 1)
            windows.append((pack_tokens(GENERATED[first : max(0, end - len(PROMPT) + 1)]), rows))
    return windows


def make_leaves(boundary: int) -> list[SignedLeaf]:
    """The chain of leaves of a boundary under the keys of its two neighbours."""
    keys = [SESSION_KEY, *WORKER_KEYS, SESSION_KEY]
    is_tokens = boundary in (0, STAGES)
    leaves: list[SignedLeaf] = []
    previous = FIRST_PREVIOUS
    for window, (payload, trace) in enumerate(make_payloads(boundary)):
        start = window * WINDOW_POSITIONS
        leaf = Leaf(
            request=REQUEST,
            boundary=boundary,
            window=window,
            start=start,
            count=min(WINDOW_POSITIONS, POSITIONS - start),
            width=1 if is_tokens else HIDDEN,
            dtype=TOKEN_DTYPE if is_tokens else FP32_DTYPE,
            payload_hash=compute_payload_hash(payload),
            trace_hash=compute_payload_hash(trace) if trace else ZERO_HASH,
            previous=previous,
        )
        leaves.append(SignedLeaf(leaf, sign_output(leaf, keys[boundary]), sign_input(leaf, keys[boundary + 1])))
        previous = compute_leaf_hash(leaf)
    return leaves


def make_stage_roots(stage: int) -> StageRoots:
    """What a stage commits to."""
    roots = [compute_root([compute_leaf_hash(one.leaf) for one in make_leaves(at)]) for at in (stage, stage + 1)]
    return StageRoots(REQUEST, stage, WINDOWS, POSITIONS, *roots)


def make_rolling_hashes() -> list[bytes]:
    """The rolling hash over no generated token, one, two, and so on."""
    hashes = [ZERO_HASH]
    for token in GENERATED:
        hashes.append(compute_tokens_hash(hashes[-1], token))
    return hashes


def make_voucher(tokens: int) -> Voucher:
    """The client's promise for so many tokens."""
    return Voucher(REQUEST, tokens, make_rolling_hashes()[tokens], tokens == len(GENERATED))


def make_opening(stage: int, window: int) -> Opening:
    """What the worker of `stage` opens when `window` is drawn."""
    inputs, outputs = make_leaves(stage), make_leaves(stage + 1)
    payload, trace = make_payloads(stage + 1)[window]
    is_last = stage == STAGES - 1
    drawn = window if is_last else 0
    return Opening(
        order=sign_order(make_order(), SESSION_KEY),
        input_hashes=tuple(compute_leaf_hash(one.leaf) for one in inputs),
        input_leaves=tuple(inputs[: window + 1]),
        input_payloads=tuple(one for one, _ in make_payloads(stage)[: window + 1]),
        output_hashes=tuple(compute_leaf_hash(one.leaf) for one in outputs),
        output_leaf=outputs[window],
        output_payload=payload,
        trace_payload=trace,
        drawn_leaves=tuple(one.leaf for one in outputs[:drawn]),
        drawn_payloads=tuple(one for one, _ in make_payloads(stage + 1)[:drawn]),
        prompt=pack_tokens(PROMPT) if is_last else b"",
        grammar=GRAMMAR if is_last else b"",
    )


def make_filled(as_type: Any, numbers: Iterator[int] | None = None, member: int = 0) -> Any:
    """A value with every field distinct and nothing left out: numbers of every size, two items in each list."""
    numbers = numbers if numbers is not None else count(1)
    base, mark = split(as_type)
    members = get_members(base)
    if members is not None:
        classes = [one for one in members if one is not type(None)]
        return make_filled(classes[member % len(classes)], numbers)
    if dataclasses.is_dataclass(base):
        return typing.cast(Any, base)(*[make_filled(hint, numbers, member) for _, hint in get_fields(base)])
    number = next(numbers)
    match mark:
        case UInt(bits):
            return (1 << bits) - 1 - number if number % 3 == 0 else (0x0123_4567_89AB_CDEF * number) % (1 << bits)
        case Int(bits):
            return -number if number % 2 else (1 << bits - 1) - number
        case Fixed(length):
            return bytes((number + at) % 256 for at in range(length))
        case Max(length) if base is bytes:
            return bytes((number + at) % 256 for at in range(min(length, 40)))
        case Max(length) if base is str:
            return f"text β {number}"
        case Max(length):
            item = typing.get_args(base)[0]
            return tuple(make_filled(item, numbers, member + at) for at in range(min(length, 2)))
    return bool(number % 2)
