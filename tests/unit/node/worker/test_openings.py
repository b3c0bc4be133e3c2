"""Records survive or never were: a crash at any step of a write leaves the old state, and garbage asked is refused."""

from __future__ import annotations

import os
from pathlib import Path as FilePath

import pytest

from inference.serving.record import RequestRecord
from node.worker.openings import OpeningStore, OpeningUnavailable
from proto_specs.codec import decode, encode
from proto_specs.errors import DecodeError
from proto_specs.types.request import Opening, OpeningRequest, compute_request_id
from tests.property.inference.serving.harness import Path, make_order


@pytest.fixture(scope="module")
def records() -> dict[int, RequestRecord]:
    prompt = tuple(range(100, 145))
    return Path(make_order(prompt, 40, 3), prompt, None, seed=9).run().records


@pytest.fixture
def request_id(records: dict[int, RequestRecord]) -> bytes:
    return compute_request_id(records[0].order.order)


def test_what_is_saved_is_loaded_listed_and_deleted(tmp_path: FilePath, records, request_id: bytes) -> None:
    store = OpeningStore(tmp_path / "openings")
    store.save(records[2])
    store.save(records[1])
    assert store.load(request_id, 2) == records[2]
    assert store.list_kept() == [(request_id, 1), (request_id, 2)]
    assert OpeningStore(tmp_path / "openings").load(request_id, 1) == records[1]
    store.delete(request_id, 1)
    store.delete(request_id, 1)
    assert store.list_kept() == [(request_id, 2)]
    with pytest.raises(OpeningUnavailable):
        store.load(request_id, 1)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_during_the_write_leaves_no_record(
    tmp_path: FilePath, records, request_id: bytes, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def crash(*_args: object) -> None:
        raise KeyboardInterrupt

    store = OpeningStore(tmp_path)
    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (FilePath, "replace")), crash)
    with pytest.raises(KeyboardInterrupt):
        store.save(records[0])
    monkeypatch.undo()
    assert store.list_kept() == []
    with pytest.raises(OpeningUnavailable):
        store.load(request_id, 0)
    assert len(list(tmp_path.iterdir())) == 1
    again = OpeningStore(tmp_path)
    assert list(tmp_path.iterdir()) == [], "what a killed process left half written is gone"
    again.save(records[0])
    assert again.load(request_id, 0) == records[0]


def test_a_crash_during_a_second_write_leaves_the_first(
    tmp_path: FilePath, records, request_id: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = OpeningStore(tmp_path)
    store.save(records[0])
    monkeypatch.setattr(FilePath, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.save(records[0])
    monkeypatch.undo()
    assert store.load(request_id, 0) == records[0]


def test_openings_answer_their_window(tmp_path: FilePath, records, request_id: bytes) -> None:
    store = OpeningStore(tmp_path)
    store.save(records[1])
    opening = decode(Opening, store.open(encode(OpeningRequest(request_id, 1, 1))))
    assert opening.output_payload == records[1].output_payloads[1]
    assert len(opening.input_payloads) == 2


@pytest.mark.parametrize("asked", [(1, 3), (1, 65_535), (0, 0), (255, 0)])
def test_windows_and_stages_that_are_not_kept_are_unavailable(
    tmp_path: FilePath, records, request_id: bytes, asked: tuple[int, int]
) -> None:
    store = OpeningStore(tmp_path)
    store.save(records[1])
    with pytest.raises(OpeningUnavailable):
        store.open(encode(OpeningRequest(request_id, *asked)))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x93\xc4\x20", bytes(200)])
def test_garbage_is_a_decode_error(tmp_path: FilePath, body: bytes) -> None:
    with pytest.raises(DecodeError):
        OpeningStore(tmp_path).open(body)


def test_age_is_that_of_the_file(tmp_path: FilePath, records, request_id: bytes) -> None:
    store = OpeningStore(tmp_path)
    assert store.get_age_s(request_id, 0) == 0.0
    store.save(records[0])
    (path,) = tmp_path.iterdir()
    os.utime(path, (0, 0))
    assert store.get_age_s(request_id, 0) > 10**9
