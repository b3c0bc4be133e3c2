"""The recorded chain as a vector file: written by `python -m tests.determinism.recording`, read by whoever replays it.

Reading needs proto_specs, consensus and genesis alone. Writing it again is a change of the protocol.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import proto_specs
from genesis.builder import Genesis, build_genesis
from genesis.spec import ChainSpec
from proto_specs.codec import decode, encode
from proto_specs.types.chain import Block, Commit

PATH = Path(proto_specs.__file__).parent / "vectors" / "replay.json"
FORMAT = (
    "A recorded chain that makes every call succeed and fail. `spec`: its ChainSpec (genesis/spec.py), canonical bytes "
    "in hex; `genesis` and `state_root` follow from it. `blocks`: base64 of gzip of all blocks in order, each as its "
    "length in 4 bytes, big-endian, and its canonical bytes (types/chain.py). Each is checked and executed on the one "
    "before as runtime.md and consensus.md say: proposer by rotation, VRF, commit, body root, roots. `commit`: the "
    "last block's. `outcomes`: of each block [block hash, state root, receipts root, BLAKE2b-256 (no tag) of its "
    "encoded BlockEvents followed by its encoded Receipts], in hex. `items`: BLAKE2b-256 (no tag) of the final state, "
    "its items by key, each as key length (4 bytes), key, value length (4 bytes), value. `calls`: how often each call "
    "succeeded and failed."
)
Outcome = tuple[str, str, str, str]


class Recording:
    """The vector file, decoded."""

    def __init__(self, text: str) -> None:
        self.raw: dict[str, Any] = json.loads(text)
        self.spec = decode(ChainSpec, bytes.fromhex(self.raw["spec"]))
        self.blocks = tuple(decode(Block, one) for one in split(gzip.decompress(base64.b64decode(self.raw["blocks"]))))
        self.commit = decode(Commit, bytes.fromhex(self.raw["commit"]))
        self.outcomes: list[Outcome] = [(one[0], one[1], one[2], one[3]) for one in self.raw["outcomes"]]

    def build_genesis(self) -> Genesis:
        """The state before block 1."""
        return build_genesis(self.spec)

    def commit_of(self, height: int) -> Commit:
        """The commit that decided a block: the next block carries it."""
        found = self.blocks[height].last_commit if height < len(self.blocks) else self.commit
        assert found is not None
        return found


def load() -> Recording:
    """The recording in the vectors' folder."""
    return Recording(PATH.read_text("utf-8"))


def split(data: bytes) -> list[bytes]:
    """The parts of a stream of (4 bytes of length, part)."""
    at, parts = 0, []
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        parts.append(data[at + 4 : end])
        at = end
    assert at == len(data), "the stream ends with a part"
    return parts


def join(parts: Iterable[bytes]) -> bytes:
    """Inverse of `split`."""
    return b"".join(len(one).to_bytes(4, "big") + one for one in parts)


def hash_plainly(data: bytes) -> str:
    """BLAKE2b-256 without a tag, in hex."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def hash_items(items: Iterable[tuple[bytes, bytes]]) -> str:
    """The digest of a state's items, which are sorted here by key."""
    return hash_plainly(join(part for item in sorted(items) for part in item))


def record() -> dict[str, Any]:
    """Play the story; the content of the file."""
    from tests.determinism.follower import encode_outcome
    from tests.determinism.story import play

    story = play()
    chain = story.sealed
    outcomes = []
    for height, (block, executed) in enumerate(zip(chain.blocks, chain.outcomes, strict=True), start=1):
        header, told = block.header, hash_plainly(encode_outcome(executed))
        outcomes.append([chain.block_hash(height).hex(), header.state_root.hex(), header.receipts_root.hex(), told])
    names = sorted(story.succeeded.keys() | story.failed.keys())
    packed = gzip.compress(join(encode(one) for one in chain.blocks), 9, mtime=0)
    return {
        "format": FORMAT,
        "spec": encode(chain.spec).hex(),
        "genesis": chain.genesis.hash.hex(),
        "state_root": chain.genesis.state_root.hex(),
        "calls": {name: [story.succeeded[name], story.failed[name]] for name in names},
        "outcomes": outcomes,
        "items": hash_items(chain.state.items.items()),
        "commit": encode(chain.make_commit()).hex(),
        "blocks": base64.b64encode(packed).decode(),
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(record(), indent=1) + "\n", "utf-8")
