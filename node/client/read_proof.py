"""Reads state values without trusting the node: their Merkle proof is checked against the block's header here.

The proof shows that the header's state root commits to the value. Whether that header is the chain's is for a light
client to find out, which follows the validators from genesis.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from consensus.state.tree import StateProof, verify_proof
from node.client.rpc_chain import Rpc
from proto_specs.codec import decode
from proto_specs.errors import DecodeError, MyelinError
from proto_specs.types.chain import Header, compute_block_hash


class ProofRefused(MyelinError):
    """What the node answered does not prove what it says. Nothing of it is shown."""


async def read_proven(rpc: Rpc, key: bytes, block: int | str | None = None) -> dict[str, Any]:
    """The proven value of a state key (None: the key holds nothing) under the header of a block, or of the last block.

    Raises RpcError, and ProofRefused, also for a proof under another block than the requested block.
    """
    asked = [f"0x{key.hex()}"] if block is None else [f"0x{key.hex()}", block]
    answer = await rpc.call("state_getReadProof", *asked)
    try:
        height, shown, root, proof_text = (answer[name] for name in ("height", "value", "stateRoot", "proof"))
    except (KeyError, TypeError) as error:
        raise ProofRefused("the node's answer lacks part of a proof: do not trust this node") from error
    if height == 0:
        raise ProofRefused("the chain has no block yet, so no header to check against: try again in a moment")
    header, block_hash = parse_header(await rpc.call("chain_getHeader", height))
    if block is not None and block not in (height, f"0x{block_hash.hex()}"):
        raise ProofRefused(f"the node proves the state of block {height}, not of {block}: do not trust this node")
    value = None if shown is None else _parse_bytes(shown)
    if header.height != height or f"0x{header.state_root.hex()}" != root:
        raise ProofRefused(f"the state root is not the one in the header of block {height}: do not trust this node")
    try:
        proof = decode(StateProof, _parse_bytes(proof_text))
    except DecodeError as error:
        raise ProofRefused(f"the node's proof is malformed ({error}): do not trust this node") from error
    if not verify_proof(header.state_root, key, value, proof):
        raise ProofRefused(f"the proof does not hold under the header of block {height}: do not trust this node")
    return {
        "key": f"0x{key.hex()}",
        "value": shown,
        "height": height,
        "block": f"0x{block_hash.hex()}",
        "state_root": root,
        "pages": len(proof.pages),
        "proof": proof_text,
        "proven": True,
    }


def parse_header(found: Any) -> tuple[Header, bytes]:
    """The header in an answer of `chain_getHeader`, and its hash, computed here. Raises ProofRefused."""
    try:
        header = Header(*(_parse_value(found[one.name]) for one in fields(Header)))
        block_hash = compute_block_hash(header)
        is_same = f"0x{block_hash.hex()}" == found["hash"]
    except (KeyError, TypeError, ValueError, DecodeError) as error:
        raise ProofRefused("the node's header is malformed: do not trust this node") from error
    if not is_same:
        raise ProofRefused(f"the header does not hash to {found['hash']}: do not trust this node")
    return header, block_hash


def _parse_value(value: Any) -> Any:
    return value if isinstance(value, int) else _parse_bytes(value)


def _parse_bytes(text: Any) -> bytes:
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ProofRefused(f"{text!r:.80} is no 0x hex: do not trust this node")
    try:
        return bytes.fromhex(text[2:])
    except ValueError as error:
        raise ProofRefused(f"{text!r:.80} is no 0x hex: do not trust this node") from error
