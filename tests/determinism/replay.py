"""Replays the recorded chain under whatever Python runs this, and prints what it found as one line of JSON.

`python -m tests.determinism.replay [reversed]`: with `reversed` the state's items start out in the opposite order.
Raises AssertionError at the first block that comes out differently than recorded.
"""

from __future__ import annotations

import json
import os
import platform
import sys

from proto_specs.types.chain import compute_block_hash
from tests.determinism.follower import Follower, encode_outcome
from tests.determinism.recording import Outcome, Recording, hash_items, hash_plainly, load


def replay(recording: Recording, is_reversed: bool = False) -> Follower:
    """The chain followed from genesis to its last block; every outcome compared."""
    genesis = recording.build_genesis()
    assert genesis.hash.hex() == recording.raw["genesis"]
    assert genesis.state_root.hex() == recording.raw["state_root"]
    follower = Follower(genesis, dict(reversed(genesis.items)) if is_reversed else None)
    follow(follower, recording)
    return follower


def follow(follower: Follower, recording: Recording) -> None:
    """The blocks after the follower's head; every outcome compared, the end besides."""
    for block in recording.blocks[follower.height :]:
        expected = recording.outcomes[follower.height]
        executed = follower.apply(block)
        told = hash_plainly(encode_outcome(executed))
        found: Outcome = (
            compute_block_hash(block.header).hex(),
            follower.root.hex(),
            executed.receipts_root.hex(),
            told,
        )
        assert found == expected, f"block {follower.height}: {found}, recorded was {expected}"
    follower.check_commit(recording.commit)
    assert hash_items(follower.state.items.items()) == recording.raw["items"]


def main() -> None:
    """See the module."""
    follower = replay(load(), is_reversed="reversed" in sys.argv[1:])
    found = {
        "python": platform.python_version(),
        "hash_seed": os.environ.get("PYTHONHASHSEED", "unset"),
        "blocks": follower.height,
        "block_hash": follower.block_hash.hex(),
        "state_root": follower.root.hex(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
