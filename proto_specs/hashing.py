"""Domain-separated hashing: BLAKE2b-256 over a tag and the payload. Each kind of hashed thing has its own tag."""

from __future__ import annotations

import enum
from hashlib import blake2b
from typing import Any

from proto_specs.codec import encode

HASH_BYTES = 32


class Tag(enum.Enum):
    """Domain tags. A value hashed under a tag can never be taken for a value of another kind."""

    prefix: bytes
    """The bytes before the payload: the tag's length as one byte, and the tag."""

    def __init__(self, text: bytes) -> None:
        self.prefix = bytes([len(text)]) + text

    GENESIS = b"myelin/genesis"
    EXTRINSIC = b"myelin/extrinsic"
    EXTRINSIC_SIGN = b"myelin/extrinsic-sign"
    BODY = b"myelin/body"
    HEADER = b"myelin/header"
    VOTE_SIGN = b"myelin/vote-sign"
    PROPOSAL_SIGN = b"myelin/proposal-sign"
    RECEIPTS = b"myelin/receipts"
    VALIDATORS = b"myelin/validators"
    BEACON = b"myelin/beacon"
    BEACON_INPUT = b"myelin/beacon-input"
    MERKLE_LEAF = b"myelin/merkle-leaf"
    MERKLE_NODE = b"myelin/merkle-node"
    STATE_KEY = b"myelin/state-key"
    STATE_VALUE = b"myelin/state-value"
    STATE_PAGE = b"myelin/state-page"
    CHUNK = b"myelin/chunk"
    MANIFEST = b"myelin/manifest"
    ORDER = b"myelin/order"
    ORDER_SIGN = b"myelin/order-sign"
    PROMPT = b"myelin/prompt"
    GRAMMAR = b"myelin/grammar"
    PAYLOAD = b"myelin/payload"
    LEAF = b"myelin/leaf"
    LEAF_OUTPUT_SIGN = b"myelin/leaf-output-sign"
    LEAF_INPUT_SIGN = b"myelin/leaf-input-sign"
    TOKENS = b"myelin/tokens"
    VOUCHER_SIGN = b"myelin/voucher-sign"
    STAGE_ROOTS_SIGN = b"myelin/stage-roots-sign"
    PROBE_SIGN = b"myelin/probe-sign"
    SESSION = b"myelin/session"
    STATEMENT = b"myelin/statement"
    STATEMENT_LEAF = b"myelin/statement-leaf"
    STATEMENT_NODE = b"myelin/statement-node"
    STATEMENT_CLIENT_SIGN = b"myelin/statement-client-sign"
    STATEMENT_WORKER_SIGN = b"myelin/statement-worker-sign"
    CHALLENGE = b"myelin/challenge"
    DRAW = b"myelin/draw"
    VERDICT = b"myelin/verdict"
    FINGERPRINT_SEED = b"myelin/fingerprint-seed"
    KEY_PROOF_SIGN = b"myelin/key-proof-sign"
    DELEGATION_POOL = b"myelin/delegation-pool"
    MULTISIG = b"myelin/multisig"
    CALL = b"myelin/call"
    SNAPSHOT_MANIFEST = b"myelin/snapshot-manifest"
    SIGNED_HISTORY = b"myelin/signed-history"


def hash_tagged(tag: Tag, payload: bytes) -> bytes:
    """32-byte BLAKE2b-256 of `len(tag) || tag || payload`; the length byte keeps tags prefix-free."""
    return blake2b(tag.prefix + payload, digest_size=HASH_BYTES).digest()


def hash_record(tag: Tag, value: Any) -> bytes:
    """`hash_tagged` over the canonical encoding of a record."""
    return hash_tagged(tag, encode(value))
