"""A simulated disk stops before or after any write, keeps a prefix of what was not synced, and batches are whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from node.sim.consensus.disk import Crashed, SimBacking, SimDisk, SimHistory, SimLog


def test_of_an_unsynced_tail_every_prefix_can_be_left() -> None:
    left = set()
    for seed in range(200):
        disk = SimDisk(random.Random(seed))
        log = SimLog(disk)
        log.append(b"kept")
        log.sync()
        log.append(b"torn")
        disk.stop()
        left.add(disk.log)
    assert left == {b"kept" + b"torn"[:end] for end in range(5)}


def test_a_batch_is_whole_or_not_there() -> None:
    left = set()
    for seed in range(50):
        disk = SimDisk(random.Random(seed))
        database = SimBacking(disk).open_database(Path("any"))
        database.write([(b"a", b"1"), (b"b", b"1")])
        disk.crash_in = 1
        with pytest.raises(Crashed):
            database.write([(b"a", None), (b"b", b"2"), (b"c", b"2")])
        left.add(tuple(database.iterate(b"")))
    assert left == {((b"a", b"1"), (b"b", b"1")), ((b"b", b"2"), (b"c", b"2"))}


def test_the_crash_comes_at_the_write_it_was_planned_for_and_nothing_is_written_after_it() -> None:
    disk = SimDisk(random.Random(1), history="old")
    disk.crash_in = 2
    log, history = SimLog(disk), SimHistory(disk)
    history.replace("first")
    log.append(b"x")
    with pytest.raises(Crashed):
        log.sync()
    with pytest.raises(Crashed):
        history.replace("second")
    with pytest.raises(Crashed):
        log.append(b"y")
    disk.start()
    assert history.read() == "first"
    assert not disk.pending
    history.replace("third")
    assert history.read() == "third"


def test_a_snapshot_does_not_see_what_is_written_later() -> None:
    database = SimBacking(SimDisk(random.Random(1))).open_database(Path("any"))
    database.write([(b"k1", b"old"), (b"k3", b"old")])
    snapshot = database.snapshot()
    database.write([(b"k1", b"new"), (b"k2", b"new"), (b"k3", None)])
    assert list(snapshot.iterate(b"k")) == [(b"k1", b"old"), (b"k3", b"old")]
    assert list(database.iterate(b"k")) == [(b"k1", b"new"), (b"k2", b"new")]
    assert database.find_first(b"k", b"k2") == (b"k2", b"new")
    assert list(database.iterate_keys(b"k", b"k2")) == [b"k2"]
