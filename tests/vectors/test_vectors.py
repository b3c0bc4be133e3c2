"""The golden vectors hold: read from files as another implementation would, hashes recomputed plainly."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from inference.serving.opening import authenticate_opening
from node.p2p.frame_decoder import FrameDecoder
from proto_specs.codec import decode, decode_as, encode
from proto_specs.ed25519 import SigningKey, is_signature_valid
from proto_specs.errors import AddressError, DecodeError
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.limits import FRAME_BYTES_MAX
from proto_specs.merkle import compute_proof, compute_root, is_proof_valid
from proto_specs.ss58 import decode_address, encode_address
from proto_specs.types import wire
from proto_specs.types.manifest import Manifest, compute_model_id, validate_manifest
from proto_specs.types.request import (
    Leaf,
    Opening,
    OpeningRequest,
    Order,
    SignedOrder,
    SignedStageRoots,
    SignedVoucher,
    StageRoots,
    Voucher,
    compute_commitment_root,
    compute_leaf_hash,
    compute_positions,
    compute_request_id,
    compute_session_id,
    compute_stage_price,
    compute_tokens_hash,
    compute_windows,
    is_input_signed,
    is_order_signed,
    is_output_signed,
    is_stage_roots_signed,
    is_voucher_signed,
)
from proto_specs.types.verdict import (
    VerdictPreimage,
    compute_challenge_id,
    compute_commitment,
    compute_fingerprint_seed,
)
from tests.property.proto_specs.shapes import TYPES, get_members
from tests.vectors.generate import BUILDERS, VECTORS, show

TESTS = Path(__file__).parents[1]


def load(name: str) -> Any:
    """A vector file."""
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def hash_plainly(text: str, payload: bytes) -> str:
    """The tagged hash as encoding.md defines it."""
    return hashlib.blake2b(bytes([len(text)]) + text.encode() + payload, digest_size=32).hexdigest()


def from_hex(text: str) -> bytes:
    return bytes.fromhex(text)


def test_every_vector_file_is_read_by_a_test() -> None:
    """Named in a test module as `NAME.json` or as the argument of its loader."""
    sources = "\n".join(path.read_text("utf-8") for path in sorted(TESTS.rglob("test_*.py")))
    names = sorted(path.stem for path in VECTORS.iterdir())
    assert len(names) >= 20
    assert [one for one in names if not re.search(rf'"{one}\.json"|load\("{one}"\)', sources)] == []


def test_every_page_and_every_vector_file_is_in_the_index() -> None:
    index = (VECTORS.parent / "README.md").read_text("utf-8")
    pages = [path.name for path in VECTORS.parent.glob("*.md") if path.name != "README.md"]
    assert [one for one in pages if f"[{one}]({one})" not in index] == []
    listed = {name for row in re.findall(r"^\| \[.*\| (.*) \|$", index, re.MULTILINE) for name in row.split(", ")}
    assert {path.stem for path in VECTORS.iterdir()} <= listed


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_files_are_what_the_code_makes(name: str) -> None:
    assert json.loads(json.dumps(BUILDERS[name]())) == load(name), "see tests/vectors/generate.py"


def test_codec() -> None:
    vectors = load("codec")
    for one in vectors["valid"]:
        as_type, data = TYPES[one["type"]], from_hex(one["bytes"])
        value = decode_as(as_type, data)
        assert encode(value, as_type) == data
        assert show(value) == one["value"]
    assert {one["type"] for one in vectors["valid"]} == set(TYPES)
    for union in ("Call", "Frame", "Evidence"):
        shown = {one["value"]["type"] for one in vectors["valid"] if one["type"] == union}
        assert shown == {member.__name__ for member in get_members(TYPES[union]) or ()}


def test_codec_refusals() -> None:
    vectors = load("codec")
    for one in vectors["refused"]:
        with pytest.raises(DecodeError):
            decode_as(TYPES[one["type"]], from_hex(one["bytes"]))
    assert len(vectors["refused"]) > 100


def test_hashes() -> None:
    vectors = load("hashes")["hashes"]
    for one in vectors:
        payload = from_hex(one["payload"])
        assert hash_plainly(one["text"], payload) == one["hash"]
        assert hash_tagged(Tag[one["tag"]], payload).hex() == one["hash"]
    assert {one["tag"] for one in vectors} == set(Tag.__members__)
    assert len({one["hash"] for one in vectors}) == len(vectors)


def test_ss58() -> None:
    vectors = load("ss58")
    for one in vectors["valid"]:
        assert encode_address(from_hex(one["account"]), one["prefix"]) == one["address"]
        assert decode_address(one["address"], one["prefix"]).hex() == one["account"]
    for one in vectors["refused"]:
        with pytest.raises(AddressError):
            decode_address(one["address"], 42)


def test_ed25519() -> None:
    vectors = load("ed25519")
    for one in vectors["signed"]:
        key, tag, payload = SigningKey.from_seed(from_hex(one["seed"])), Tag[one["tag"]], from_hex(one["payload"])
        assert key.public_key.hex() == one["key"]
        assert key.sign(tag, payload).hex() == one["signature"]
        assert is_signature_valid(key.public_key, tag, payload, from_hex(one["signature"]))
    assert {one["tag"] for one in vectors["signed"]} == {name for name in Tag.__members__ if name.endswith("SIGN")}
    edges = vectors["edges"]
    for one in edges["cases"]:
        key, signature = from_hex(one["key"]), from_hex(one["signature"])
        verdict = is_signature_valid(key, Tag[edges["tag"]], from_hex(edges["payload"]), signature)
        assert verdict is one["valid"], one["name"]


def test_merkle() -> None:
    for one in load("merkle")["lists"]:
        items, root = [from_hex(item) for item in one["items"]], from_hex(one["root"])
        assert compute_root(items) == root
        for index, item in enumerate(items):
            proof = tuple(from_hex(sibling) for sibling in one["proofs"][index])
            assert compute_proof(items, index) == proof
            assert is_proof_valid(root, item, index, len(items), proof)


def test_frames() -> None:
    vectors = load("frames")
    decoder = FrameDecoder(FRAME_BYTES_MAX)
    assert list(decoder.feed(from_hex(vectors["heartbeat"]))) == []
    for one in vectors["frames"]:
        data = from_hex(one["bytes"])
        frame = decode_as(wire.Frame, data)
        assert show(frame) == one["value"]
        assert encode(frame, wire.Frame) == data
        assert list(decoder.feed(from_hex(one["framed"]))) == [data]
    shown = dict.fromkeys(one["value"]["type"] for one in vectors["frames"])  # some are shown in two forms
    assert list(shown) == [one.__name__ for one in get_members(wire.Frame) or ()]
    served = [wire.REQUEST_PROTOCOL, wire.STAGE_PROTOCOL, wire.OPENING_PROTOCOL, wire.STATUS_PROTOCOL]
    assert vectors["protocols"] == served


def test_an_order_and_its_prompt() -> None:
    vectors = load("requests")
    shown = vectors["order"]
    order, session_key = decode(Order, from_hex(shown["bytes"])), from_hex(vectors["keys"]["session"]["key"])
    assert show(order) == shown["value"]
    assert compute_request_id(order).hex() == shown["request"] == hash_plainly("myelin/order", from_hex(shown["bytes"]))
    assert is_order_signed(SignedOrder(order, from_hex(shown["signature"])), session_key)
    assert hash_plainly("myelin/prompt", from_hex(vectors["prompt"]["bytes"])) == vectors["prompt"]["hash"]
    assert order.prompt_hash.hex() == vectors["prompt"]["hash"]
    for one in vectors["keys"].values():
        assert SigningKey.from_seed(from_hex(one["seed"])).public_key.hex() == one["key"]


def test_tokens_and_vouchers() -> None:
    vectors = load("requests")
    rolling, session_key = vectors["tokens"]["rolling"], from_hex(vectors["keys"]["session"]["key"])
    assert rolling[0] == "00" * 32
    for token, before, after in zip(vectors["tokens"]["ids"], rolling, rolling[1:], strict=False):
        payload = from_hex(before) + token.to_bytes(4, "little")
        assert hash_plainly("myelin/tokens", payload) == compute_tokens_hash(from_hex(before), token).hex() == after
    for one in vectors["vouchers"]:
        voucher = decode(Voucher, from_hex(one["bytes"]))
        assert show(voucher) == one["value"]
        assert voucher.tokens_hash.hex() == rolling[voucher.tokens]
        assert is_voucher_signed(SignedVoucher(voucher, from_hex(one["signature"])), session_key)


def test_leaves_are_chained_and_signed_by_both_neighbours() -> None:
    vectors = load("requests")
    keys = [from_hex(vectors["keys"][name]["key"]) for name in ("session", "worker0", "worker1", "worker2", "session")]
    previous: dict[int, str] = {}
    for one in vectors["leaves"]:
        leaf = decode(Leaf, from_hex(one["bytes"]))
        assert show(leaf) == one["value"]
        assert (
            hash_plainly("myelin/payload", from_hex(one["payload"])) == one["payload_hash"] == leaf.payload_hash.hex()
        )
        trace = hash_plainly("myelin/payload", from_hex(one["trace"])) if one["trace"] else "00" * 32
        assert leaf.trace_hash.hex() == trace
        assert leaf.previous.hex() == previous.get(leaf.boundary, "00" * 32)
        assert compute_leaf_hash(leaf).hex() == hash_plainly("myelin/leaf", from_hex(one["bytes"])) == one["hash"]
        previous[leaf.boundary] = one["hash"]
        output, received = from_hex(one["output_signature"]), from_hex(one["input_signature"])
        assert is_output_signed(leaf, keys[leaf.boundary], output)
        assert is_input_signed(leaf, keys[leaf.boundary + 1], received)
        assert not is_input_signed(leaf, keys[leaf.boundary], output), "an OUTPUT signature is no INPUT signature"


def test_stage_roots_are_over_the_leaves_and_neighbours_agree() -> None:
    vectors = load("requests")
    by_boundary: dict[int, list[bytes]] = {}
    for one in vectors["leaves"]:
        by_boundary.setdefault(one["value"]["boundary"], []).append(from_hex(one["hash"]))
    roots = []
    for number, one in enumerate(vectors["stage_roots"]):
        made = decode(StageRoots, from_hex(one["bytes"]))
        assert (made.stage, show(made)) == (number, one["value"])
        assert made.input_root == compute_root(by_boundary[number])
        assert made.output_root == compute_root(by_boundary[number + 1])
        worker = from_hex(vectors["keys"][f"worker{number}"]["key"])
        assert is_stage_roots_signed(SignedStageRoots(made, from_hex(one["signature"])), worker)
        roots.append(made)
    assert all(one.output_root == other.input_root for one, other in itertools.pairwise(roots))
    assert compute_commitment_root(roots).hex() == vectors["commitment_root"]


def test_openings_prove_what_the_stage_committed_to() -> None:
    vectors = load("requests")
    manifest = decode(Manifest, from_hex(load("manifest")["valid"]["bytes"]))
    session_key = from_hex(vectors["keys"]["session"]["key"])
    for one in vectors["openings"]:
        asked = decode(OpeningRequest, from_hex(one["request"]))
        opening = decode(Opening, from_hex(one["opening"]))
        roots = decode(StageRoots, from_hex(vectors["stage_roots"][asked.stage]["bytes"]))
        proved = authenticate_opening(opening, roots, asked.window, session_key, manifest)
        assert proved.positions == min(45, 32 * (asked.window + 1))


def test_ids() -> None:
    ids = load("requests")["ids"]
    session, challenge, seed, verdict = ids["session"], ids["challenge"], ids["fingerprint_seed"], ids["verdict"]
    client = from_hex(session["client"])
    assert hash_plainly("myelin/session", client + session["nonce"].to_bytes(8, "big")) == session["id"]
    assert compute_session_id(client, session["nonce"]).hex() == session["id"]
    payload = from_hex(challenge["request"]) + bytes([challenge["stage"]])
    assert hash_plainly("myelin/challenge", payload) == challenge["id"]
    assert compute_challenge_id(payload[:-1], payload[-1]).hex() == challenge["id"]
    beacon, made = from_hex(seed["beacon"]), from_hex(challenge["id"])
    assert hash_plainly("myelin/fingerprint-seed", beacon + made) == seed["seed"]
    assert compute_fingerprint_seed(beacon, made).hex() == seed["seed"]
    preimage = decode(VerdictPreimage, from_hex(verdict["bytes"]))
    assert show(preimage) == verdict["value"]
    assert compute_commitment(preimage).hex() == hash_plainly("myelin/verdict", from_hex(verdict["bytes"]))
    assert compute_commitment(preimage).hex() == verdict["commitment"]


def test_formulas() -> None:
    vectors = load("requests")
    stage = decode(Order, from_hex(vectors["order"]["bytes"])).path[1]
    for one in vectors["formulas"]:
        prompt, generated = one["prompt_tokens"], one["generated_tokens"]
        assert one["positions"] == prompt + max(generated, 1) - 1 == compute_positions(prompt, generated)
        assert 32 * (one["windows"] - 1) < one["positions"] <= 32 * one["windows"]
        assert one["windows"] == compute_windows(one["positions"])
        assert one["price_of_stage_1"] == 2 * (501 * prompt + 1001 * generated)
        assert one["price_of_stage_1"] == compute_stage_price(stage, prompt, generated)


def test_manifests() -> None:
    vectors = load("manifest")
    valid = vectors["valid"]
    manifest = decode(Manifest, from_hex(valid["bytes"]))
    validate_manifest(manifest)
    assert show(manifest) == valid["value"]
    assert compute_model_id(manifest).hex() == hash_plainly("myelin/manifest", from_hex(valid["bytes"])) == valid["id"]
    for one in vectors["refused"]:
        refused = decode(Manifest, from_hex(one["bytes"]))
        assert compute_model_id(refused).hex() == one["id"] != valid["id"]
        with pytest.raises(DecodeError, match=re.escape(one["why"])):
            validate_manifest(refused)
