"""Verdicts on disk: whole or not at all, kept while they may have to be revealed, forgotten later."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from node.verifier.verdicts import KEEP_S, VerdictStore
from proto_specs.types.calls import Outcome
from proto_specs.types.verdict import EMPTY_FINGERPRINT, VerdictPreimage

CHALLENGE = b"c" * 32


def make_preimage(challenge: bytes = CHALLENGE, salt: bytes = b"s" * 32) -> VerdictPreimage:
    return VerdictPreimage(challenge, b"v" * 32, Outcome.UNAVAILABLE, 0, 0, EMPTY_FINGERPRINT, salt)


def test_a_verdict_survives_the_process(tmp_path: Path) -> None:
    VerdictStore(tmp_path / "verdicts").save(make_preimage())
    store = VerdictStore(tmp_path / "verdicts")
    assert store.load(CHALLENGE) == make_preimage()
    assert store.load(b"d" * 32) is None


def test_a_crash_while_writing_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        VerdictStore(tmp_path).save(make_preimage())
    monkeypatch.undo()
    assert VerdictStore(tmp_path).load(CHALLENGE) is None


def test_only_old_verdicts_of_closed_challenges_are_forgotten(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path)
    names = [b"o" * 32, b"n" * 32, b"p" * 32]
    for name in names:
        store.save(make_preimage(name))
    for name in names[::2]:
        path = tmp_path / f"{name.hex()}.verdict"
        os.utime(path, (0, path.stat().st_mtime - KEEP_S - 1))
    store.retain_only(frozenset([names[0]]))
    assert [store.load(name) is not None for name in names] == [True, True, False]
