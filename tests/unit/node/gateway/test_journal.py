"""Journals: what is written is read back, and neither their number nor their age is without bounds."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest

from node.client.answer import Ask, Generated
from node.gateway import journal as journals
from node.gateway.journal import JournalHead, Journals, read_journal
from proto_specs.types.sampling import SamplingParams, TokenLogprob
from proto_specs.types.wire import FinishReason

GREEDY = SamplingParams(0, 0, 1000, 0, stop=(b"END",))
ASK = Ask(b"m" * 32, (1, 2, 3), 9, GREEDY, 10, b"start: /a/")
HEAD = JournalHead("/v1/x", {"model": "toy", "text": "größer"}, {"x-myelin-wait": "settled"}, 7, (ASK, ASK))
ITEM = Generated(5, FinishReason.NONE, 1.5, (TokenLogprob(5, -17), TokenLogprob(6, -170)))


def write(kept: Journals, request: bytes, head: JournalHead = HEAD) -> None:
    made = kept.begin(head)
    assert made is not None
    made.note_request(0, request)
    made.note_request(1, bytes(32))
    made.note_token(1, ITEM)
    made.close(is_final=False)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write(Journals(tmp_path), b"r" * 32)
    left = Journals(tmp_path).find(b"r" * 32)
    assert left is not None
    assert left.head == HEAD
    assert [one.requests for one in left.choices] == [[b"r" * 32], [bytes(32)]]
    assert left.choices[0].items == []
    assert left.choices[1].items == [dataclasses.replace(ITEM, seconds=0.0)]
    assert not left.choices[1].is_complete


def test_a_final_answer_leaves_nothing(tmp_path: Path) -> None:
    kept = Journals(tmp_path)
    made = kept.begin(HEAD)
    assert made is not None
    assert list(tmp_path.iterdir()) == [], "nothing before the first request"
    made.note_request(0, b"r" * 32)
    assert kept.is_running(b"r" * 32)
    made.close(is_final=True)
    assert list(tmp_path.iterdir()) == []
    assert not kept.is_running(b"r" * 32)


def test_each_resumption_counts(tmp_path: Path) -> None:
    write(Journals(tmp_path), b"r" * 32)
    epochs = []
    for _ in range(3):
        kept = Journals(tmp_path)
        left = kept.find(b"r" * 32)
        assert left is not None
        epochs.append(left.epoch)
        again = kept.resume(left)
        assert kept.is_running(b"r" * 32)
        assert kept.find(b"r" * 32) is None
        again.close(is_final=False)
    assert epochs == sorted(set(epochs))
    assert 1 + journals.EPOCHS_PER_RESUME * (journals.RESUMES_MAX + 1) <= 255


def test_what_is_old_or_too_much_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Journals(tmp_path)
    for number in range(4):
        write(kept, bytes([1 + number]) * 32)
    paths = {read_journal(one).choices[0].requests[0][0] - 1: one for one in tmp_path.iterdir()}
    for number, path in paths.items():
        os.utime(path, (time.time() - number, time.time() - number))
    os.utime(paths[0], (1, 1))
    monkeypatch.setattr(journals, "LEFT_MAX", 2)
    again = Journals(tmp_path)
    assert [again.find(bytes([1 + one]) * 32) is not None for one in range(4)] == [False, True, True, False]
    assert len(list(tmp_path.iterdir())) == 2


def test_no_more_than_so_many_run_and_no_prompt_is_scored_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "RUNNING_MAX", 1)
    kept = Journals(tmp_path)
    scored = dataclasses.replace(ASK, sampling=dataclasses.replace(GREEDY, logprobs=1, prompt_logprobs=True))
    assert kept.begin(dataclasses.replace(HEAD, asks=(scored,))) is None
    made = kept.begin(HEAD)
    assert made is not None
    assert kept.begin(HEAD) is None
    made.close(is_final=True)
    assert kept.begin(HEAD) is not None


def test_a_disk_in_trouble_ends_no_answer(tmp_path: Path) -> None:
    kept = Journals(tmp_path / "there")
    made = kept.begin(HEAD)
    assert made is not None
    (tmp_path / "there").rmdir()
    made.note_request(0, b"r" * 32)
    made.note_token(0, ITEM)
    made.close(is_final=True)
