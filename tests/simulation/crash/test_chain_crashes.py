"""A validator cut at every write of twelve blocks, with pruning and compaction on: the same chain, the same past."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from node.store.check import check_database
from tests.simulation.crash.images import Image
from tests.simulation.crash.steady import BLOCKS, OtherPool, Steady, Story
from tests.unit.node.chain.disk import Gossip
from tests.unit.node.replica.test_replica_alone import check_signed_once
from tests.unit.node.store.test_snapshot import ignore

RESTARTED_OTHERWISE = range(5, 8)
"""Heights at which a restarted validator is also tempted to sign something else: pruning is on."""


async def test_a_node_cut_at_any_write_goes_on_as_the_uncut_one(story: Story, scratch: Path) -> None:
    """On each image: the check finds nothing; the next two blocks, states and the kept past are those of the run."""
    assert len(story.images) > len(story.seen) > 5 * BLOCKS
    for image in story.images:
        base = Path(shutil.copytree(image.path, scratch / "node"))
        validator = Steady(base)
        height = check(base, validator, image)
        await validator.run_blocks(2)
        for reached in range(height + 1, height + 3):
            assert validator.moments[reached] == story.moments[reached], image.about
        shutil.rmtree(base)


def check(base: Path, validator: Steady, image: Image) -> int:
    """A check of everything. The height."""
    if not (base / "db").exists():
        return 0
    report = check_database(base / "db", validator.genesis, ignore)
    assert report.problems == [], image.about
    return report.height


def test_the_writes_are_all_there_are(story: Story) -> None:
    """What a node writes in a new way has to be seen by the recorder, or is missing here."""
    kinds = {re.sub(r"compaction of .|MANIFEST-\d+", lambda found: found[0][:9], one) for one in story.seen}
    assert kinds == {
        "batch",
        "compactio",
        "rename to MARK",
        "rename to signer.json",
        "sync of MANIFEST-",
        "sync of MARK",
        "sync of MARK.partial",
        "sync of consensus.wal",
        "sync of directory db",
        "sync of directory node",
        "sync of signer.json.partial",
        "the end",
        "truncation of consensus.wal",
    }
    assert story.seen.count("batch") == BLOCKS + 1


async def test_a_node_cut_at_any_write_signs_nothing_else(story: Story, scratch: Path) -> None:
    """Restarted where clock and transactions are others: what was signed before the cut still binds it."""
    tempted = 0
    for image in story.images:
        base = Path(shutil.copytree(image.path, scratch / "node"))
        gossip = Gossip(story.sent.sent[: image.mark])
        if gossip.sent and gossip.sent[-1].height in RESTARTED_OTHERWISE:
            tempted += 1
            validator = Steady(base, gossip=gossip, pool=OtherPool)
            await validator.run_blocks(1)
            check_signed_once(gossip)
            check(base, validator, image)
        shutil.rmtree(base)
    assert tempted > 30
