"""What `myelin light` leaves behind when it finds a fork."""

from __future__ import annotations

import json
from pathlib import Path

from consensus.light.attack import LightAttack, make_attack
from consensus.light.errors import ForkDetected
from node.cli.lights import keep_evidence
from proto_specs.codec import decode
from proto_specs.types.chain import DuplicateVote
from tests.unit.consensus.light.chain import Chain, forge, make_set


def test_the_evidence_is_kept_whole_beside_the_state(tmp_path: Path) -> None:
    four = make_set({1: 10, 2: 10, 3: 10, 4: 10})
    attack = make_attack(1, bytes(32), Chain([four] * 9).blocks[8], forge(9, four))
    path = keep_evidence(ForkDetected(attack), tmp_path / "new" / "light.json")
    assert path.name == "light.fork.json"
    found = json.loads(path.read_text("utf-8"))
    assert found["kind"] == "equivocation"
    assert decode(LightAttack, bytes.fromhex(found["evidence"][2:])) == attack
    votes = [decode(DuplicateVote, bytes.fromhex(one[2:])) for one in found["double_votes"]]
    assert len(votes) == 4
