"""Writes the golden vectors of encoding, hashes, keys, frames, receipts and units: `python -m tests.vectors.generate`.

Writing them again is a change of the protocol: the diff of the JSON is what other implementations have to follow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import proto_specs
from proto_specs.codec import encode
from proto_specs.ed25519 import SigningKey
from proto_specs.errors import DecodeError
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.jsonform import to_json
from proto_specs.limits import FINGERPRINT_BYTES
from proto_specs.merkle import compute_proof, compute_root
from proto_specs.ss58 import encode_address
from proto_specs.types import calls, wire
from proto_specs.types.manifest import Form, Manifest, Unit, compute_model_id, validate_manifest
from proto_specs.types.request import (
    Continuation,
    OpeningRequest,
    compute_commitment_root,
    compute_leaf_hash,
    compute_payload_hash,
    compute_positions,
    compute_prompt_hash,
    compute_request_id,
    compute_session_id,
    compute_stage_price,
    compute_windows,
    pack_tokens,
    sign_order,
    sign_stage_roots,
    sign_voucher,
)
from proto_specs.types.sampling import TokenLogprob
from proto_specs.types.verdict import (
    VerdictPreimage,
    compute_challenge_id,
    compute_commitment,
    compute_fingerprint_seed,
)
from tests.property.proto_specs.shapes import TYPES, get_members, make_smallest
from tests.property.proto_specs.spoiling import INTRUDERS, pack, replace_by, spoil_each, unpack, write_longer
from tests.vectors import samples, signatures
from tests.vectors.statements import build_statements
from tests.vectors.units import build_units

VECTORS = Path(proto_specs.__file__).parent / "vectors"
SS58_PREFIX = 42

Vectors = dict[str, Any]


def show(value: Any) -> Any:
    """A record as JSON, by field names."""
    return to_json(value, SS58_PREFIX)


def build_codec() -> Vectors:
    """Every record, empty and filled, and what must be refused in a transfer's place."""
    valid = []
    for name, as_type in TYPES.items():
        values = [make_smallest(as_type), samples.make_filled(as_type)]
        members = get_members(as_type)
        if members is not None:
            values = [samples.make_filled(as_type, member=number) for number in range(len(members))]
        valid += [{"type": name, "value": show(one), "bytes": encode(one, as_type).hex()} for one in values]
    refused = [{"type": "TransactionBody", "why": why, "bytes": data.hex()} for why, data in spoil_a_transfer()]
    text = (
        "encoding.md; value: fields by name, bytes in 0x hex, accounts as addresses of prefix 42, variants with type; "
        "type Call, Frame and Evidence: with the tag, a variant by its own name: without; refused: none of that type"
    )
    return {"format": text, "valid": valid, "refused": refused}


def spoil_a_transfer() -> Iterator[tuple[str, bytes]]:
    """(what is wrong, bytes) for the body of a transfer."""
    body = replace(make_smallest(TYPES["TransactionBody"]), call=calls.Transfer(bytes(32), 300))
    data = encode(body)
    tree = unpack(data)
    yield "empty", b""
    for end in (1, 2, 34, len(data) - 1):
        yield f"cut after {end} bytes", data[:end]
    yield "a byte too many", data + b"\x00"
    for number, longer in enumerate(spoil_each(tree, write_longer)):
        yield f"longer form {number}", longer
    for name, intruder in INTRUDERS.items():
        for number, spoiled in enumerate(spoil_each(tree, replace_by(intruder))):
            if number in (0, 2, 3):
                yield f"{name} in place of value {number}", spoiled
    wrong_fields: list[tuple[str, int, Any]] = [
        ("account of 31 bytes", 0, bytes(31)),
        ("account of 33 bytes", 0, bytes(33)),
        ("account as text", 0, "a" * 32),
        ("nonce nil", 1, None),
        ("nonce true", 1, True),
        ("nonce as bytes", 1, b""),
        ("period of 33 bits", 5, 2**32),
    ]
    for why, index, wrong in wrong_fields:
        yield why, pack([*tree[:index], wrong, *tree[index + 1 :]])
    yield "a field too few", pack(tree[:-1])
    yield "a field too many", pack([*tree, 0])
    for name, call in (("unknown tag", [0x02FF]), ("no tag", []), ("a tag alone", [0x0201]), ("too long", [0x0303, 0])):
        yield f"call: {name}", pack([*tree[:2], call, *tree[3:]])
    yield "a thousand nested lists", b"\x91" * 1000


def build_hashes() -> Vectors:
    """Every tag over three payloads."""
    payloads = [b"", b"abc", bytes(range(256))]
    hashes = [
        {"tag": tag.name, "text": tag.value.decode(), "payload": one.hex(), "hash": hash_tagged(tag, one).hex()}
        for tag in Tag
        for one in payloads
    ]
    text = "hash = BLAKE2b-256(length of text as one byte || text || payload); payload and hash in hex"
    return {"format": text, "hashes": hashes}


def build_ss58() -> Vectors:
    """Substrate's Alice under several prefixes, and what is no address of prefix 42."""
    alice = bytes.fromhex("d43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d")
    accounts = [alice, bytes(32), bytes([255]) * 32]
    valid = [
        {"prefix": prefix, "account": one.hex(), "address": encode_address(one, prefix)}
        for prefix in (0, 2, 42, 63, 64, 252, 255, 16_383)
        for one in accounts
    ]
    good = encode_address(alice, SS58_PREFIX)
    refused = {
        "empty": "",
        "one wrong character": good[:-1] + "Z",
        "two swapped characters": good[:5] + good[6] + good[5] + good[7:],
        "a character left out": good[:20] + good[21:],
        "a leading one": "1" + good,
        "not base58": good[:-1] + "0",
        "another prefix": encode_address(alice, 0),
        "another prefix of two bytes": encode_address(alice, 252),
    }
    return {
        "format": "keys.md; account in hex; refused: not an address of prefix 42",
        "valid": valid,
        "refused": [{"why": why, "address": text} for why, text in refused.items()],
    }


def build_ed25519() -> Vectors:
    """Signatures of known seeds, and every edge."""
    signed = []
    for number, tag in enumerate(Tag):
        if tag.name.endswith("SIGN"):
            key, payload = SigningKey.from_seed(bytes([number]) * 32), bytes(range(number))
            signed.append(
                {
                    "seed": key.seed.hex(),
                    "key": key.public_key.hex(),
                    "tag": tag.name,
                    "payload": payload.hex(),
                    "signature": key.sign(tag, payload).hex(),
                }
            )
    edges = [
        {"name": one.name, "key": one.key.hex(), "signature": one.signature.hex(), "valid": one.is_valid}
        for one in signatures.build_cases()
    ]
    return {
        "format": "keys.md; everything in hex; edges are over the payload below under its tag",
        "signed": signed,
        "edges": {"tag": signatures.TAG.name, "payload": signatures.PAYLOAD.hex(), "cases": edges},
    }


def build_merkle() -> Vectors:
    """Roots of lists of 0 to 9 items with every proof."""
    lists = []
    for size in range(10):
        items = [bytes(range(number)) for number in range(size)]
        proofs = [[one.hex() for one in compute_proof(items, index)] for index in range(size)]
        lists.append({"items": [one.hex() for one in items], "root": compute_root(items).hex(), "proofs": proofs})
    text = "encoding.md; proofs[i] lists the siblings of item i from leaf to root, in hex"
    return {"format": text, "lists": lists}


def build_frames() -> Vectors:
    """One of each frame, as it is encoded and as it crosses a stream."""
    continued = replace(samples.make_order(), continuation=Continuation(samples.REQUEST, 1, 40, 32))
    frames: list[wire.Frame] = [
        wire.OpenRequest(
            sign_order(samples.make_order(), samples.SESSION_KEY), pack_tokens(samples.PROMPT), samples.GRAMMAR
        ),
        wire.Accepted(samples.REQUEST),
        wire.Failed(samples.REQUEST, wire.FailureCode.NEIGHBOUR_LOST, "stage 1 went away"),
        wire.Rows(samples.REQUEST, 1, 0, 32, samples.make_payloads(1)[0][0]),
        wire.OutputLeaf(samples.make_leaves(1)[0].leaf, samples.make_leaves(1)[0].output_signature),
        wire.Countersign(samples.REQUEST, 1, 0, samples.make_leaves(1)[0].input_signature),
        wire.Token(samples.REQUEST, 5, samples.GENERATED[5], wire.FinishReason.STOP, (TokenLogprob(9, -75_000),)),
        wire.VoucherFrame(sign_voucher(samples.make_voucher(6), samples.SESSION_KEY)),
        wire.PromiseFrame(sign_voucher(samples.make_voucher(6), samples.SESSION_KEY)),
        wire.RootsFrame((sign_stage_roots(samples.make_stage_roots(0), samples.WORKER_KEYS[0]),)),
        wire.Settled(samples.REQUEST, bytes(range(32))),
        wire.PromptLogprobs(samples.REQUEST, 1, ((TokenLogprob(5, -1), TokenLogprob(7, -40_000)), ())),
        wire.OpenRequest(sign_order(continued, samples.SESSION_KEY)),
        wire.Failed(samples.REQUEST, wire.FailureCode.MOVED, "the client goes on elsewhere", 1),
        wire.PrefixRoots((sign_stage_roots(samples.make_stage_roots(0), samples.WORKER_KEYS[0]),)),
        wire.Ping(samples.REQUEST, 7),
        wire.Pong(samples.REQUEST, 7, 96, 64, 1_200, 38),
        wire.Rows(samples.REQUEST, 1, 43, 3, samples.make_payloads(1)[0][0][:12], (5, 70_000)),
    ]
    shown = []
    for frame in frames:
        data = encode(frame, wire.Frame)
        framed = len(data).to_bytes(4, "big") + data
        shown.append({"value": show(frame), "bytes": data.hex(), "framed": framed.hex()})
    protocols = [wire.REQUEST_PROTOCOL, wire.STAGE_PROTOCOL, wire.OPENING_PROTOCOL, wire.STATUS_PROTOCOL]
    text = "network.md; bytes: the encoded frame; framed: with its length, as written to the stream"
    return {"format": text, "protocols": protocols, "heartbeat": "00000000", "frames": shown}


def build_requests() -> Vectors:
    """One request from its order to what its stages commit to, with every hash and signature on the way."""
    order = samples.make_order()
    signed = sign_order(order, samples.SESSION_KEY)
    keys = {"session": samples.SESSION_KEY, **{f"worker{n}": key for n, key in enumerate(samples.WORKER_KEYS)}}
    prompt = pack_tokens(samples.PROMPT)
    roots = [samples.make_stage_roots(stage) for stage in range(samples.STAGES)]
    vouchers = [sign_voucher(samples.make_voucher(tokens), samples.SESSION_KEY) for tokens in (0, 3, 6)]
    return {
        "format": "inference.md; bytes, hashes, keys and signatures in hex; value: see codec.json",
        "keys": {name: {"seed": one.seed.hex(), "key": one.public_key.hex()} for name, one in keys.items()},
        "prompt": {"bytes": prompt.hex(), "hash": compute_prompt_hash(prompt).hex()},
        "order": {
            "value": show(order),
            "bytes": encode(order).hex(),
            "request": compute_request_id(order).hex(),
            "signature": signed.signature.hex(),
        },
        "tokens": {"ids": samples.GENERATED, "rolling": [one.hex() for one in samples.make_rolling_hashes()]},
        "leaves": [one for boundary in range(samples.STAGES + 1) for one in _show_leaves(boundary)],
        "vouchers": [
            {
                "value": show(one.voucher),
                "bytes": encode(one.voucher).hex(),
                "signature": one.signature.hex(),
            }
            for one in vouchers
        ],
        "stage_roots": [
            {"value": show(one), "bytes": encode(one).hex(), "signature": sign_stage_roots(one, key).signature.hex()}
            for one, key in zip(roots, samples.WORKER_KEYS, strict=True)
        ],
        "commitment_root": compute_commitment_root(roots).hex(),
        "openings": [_show_opening(stage, window) for stage, window in ((0, 1), (1, 0), (2, 1))],
        "ids": _build_ids(),
        "formulas": _build_formulas(),
    }


def _show_leaves(boundary: int) -> Iterator[Vectors]:
    for signed, (payload, trace) in zip(samples.make_leaves(boundary), samples.make_payloads(boundary), strict=True):
        yield {
            "payload": payload.hex(),
            "trace": trace.hex(),
            "payload_hash": compute_payload_hash(payload).hex(),
            "value": show(signed.leaf),
            "bytes": encode(signed.leaf).hex(),
            "hash": compute_leaf_hash(signed.leaf).hex(),
            "output_signature": signed.output_signature.hex(),
            "input_signature": signed.input_signature.hex(),
        }


def _show_opening(stage: int, window: int) -> Vectors:
    asked = OpeningRequest(samples.REQUEST, stage, window)
    return {"request": encode(asked).hex(), "opening": encode(samples.make_opening(stage, window)).hex()}


def _build_ids() -> Vectors:
    beacon = bytes([0xBE]) * 32
    challenge = compute_challenge_id(samples.REQUEST, 2)
    preimage = VerdictPreimage(
        challenge, bytes([0xAC]) * 32, calls.Outcome.PASS, 2_500, 0, bytes(range(256)) * (FINGERPRINT_BYTES // 256),
        bytes([0x5A]) * 32,
    )  # fmt: skip
    return {
        "session": {"client": samples.CLIENT.hex(), "nonce": 41, "id": compute_session_id(samples.CLIENT, 41).hex()},
        "challenge": {"request": samples.REQUEST.hex(), "stage": 2, "id": challenge.hex()},
        "fingerprint_seed": {"beacon": beacon.hex(), "seed": compute_fingerprint_seed(beacon, challenge).hex()},
        "verdict": {
            "value": show(preimage),
            "bytes": encode(preimage).hex(),
            "commitment": compute_commitment(preimage).hex(),
        },
    }


def _build_formulas() -> list[Vectors]:
    stage = samples.make_order().path[1]
    return [
        {
            "prompt_tokens": prompt,
            "generated_tokens": generated,
            "positions": compute_positions(prompt, generated),
            "windows": compute_windows(compute_positions(prompt, generated)),
            "price_of_stage_1": compute_stage_price(stage, prompt, generated),
        }
        for prompt in (1, 31, 32, 33, 40)
        for generated in (0, 1, 2, 33)
    ]


def build_manifest() -> Vectors:
    """A manifest with its id, and manifests that no chain takes."""
    manifest = samples.make_manifest()
    encoded = encode(manifest)
    return {
        "format": "the value as in codec.json; bytes and id in hex; refused ones decode, but are no valid manifests",
        "valid": {"value": show(manifest), "bytes": encoded.hex(), "id": compute_model_id(manifest).hex()},
        "refused": [
            {"why": _explain(one), "bytes": encode(one).hex(), "id": compute_model_id(one).hex()}
            for one in spoil_manifest(manifest)
        ],
    }


def spoil_manifest(manifest: Manifest) -> Iterator[Manifest]:
    """Manifests that decode and are refused."""
    units, shape = manifest.units, manifest.architecture
    yield replace(manifest, units=units[:-1])
    yield replace(manifest, units=(units[1], units[0], *units[2:]))
    yield replace(manifest, units=(*units, Unit(1, 6, 1, bytes(32), ())))
    yield replace(manifest, units=(*units[:3], units[2], *units[3:]))
    yield replace(manifest, architecture=replace(shape, layers=0))
    yield replace(manifest, architecture=replace(shape, layers=513))
    yield replace(manifest, architecture=replace(shape, hidden=0))
    yield replace(manifest, architecture=replace(shape, hidden=32_769))
    yield replace(manifest, architecture=replace(shape, settings=shape.settings[::-1]))
    yield replace(manifest, units=(replace(units[0], forms=(max(Form) + 1,)), *units[1:]))
    yield replace(manifest, profile=replace(manifest.profile, decode_rows=3))
    yield replace(manifest, service_class=2)
    yield replace(manifest, wire_dtype=3)
    yield replace(manifest, wire_dtype=4)
    yield replace(manifest, eos_tokens=())
    yield replace(manifest, eos_tokens=(shape.vocab,))
    yield replace(manifest, profile=replace(manifest.profile, threshold_ppb=0))


def _explain(manifest: Manifest) -> str:
    try:
        validate_manifest(manifest)
    except DecodeError as error:
        return str(error)
    raise AssertionError("this manifest is valid")


BUILDERS: dict[str, Callable[[], Vectors]] = {
    "codec": build_codec,
    "hashes": build_hashes,
    "ss58": build_ss58,
    "ed25519": build_ed25519,
    "merkle": build_merkle,
    "frames": build_frames,
    "requests": build_requests,
    "manifest": build_manifest,
    "units": build_units,
    "statements": build_statements,
}


def write() -> None:
    """Write every file."""
    for name, build in BUILDERS.items():
        text = json.dumps(build(), indent=1, ensure_ascii=False)
        (VECTORS / f"{name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    write()
