"""The signer: on disk before it is out, one signature per slot for ever, bound to chain and key, exclusively locked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.beacon import prove_beacon
from node.signer import signer as signer_module
from node.signer.signer import SIGNED_MAX, Signer, SignerError, SignRefused, VoteSlot, export_history, import_history
from proto_specs.ed25519 import SigningKey, is_signature_valid
from proto_specs.hashing import Tag
from proto_specs.types.chain import Vote, VoteKind, compute_vote_bytes

KEY = SigningKey.from_seed(bytes(range(32)))
OTHER_KEY = SigningKey.from_seed(bytes(32))
GENESIS = b"g" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "signer" / "history.json"
    Signer.initialise(path, KEY, GENESIS)
    return path


@pytest.fixture
def signer(path: Path) -> Iterator[Signer]:
    made = Signer(path, KEY, GENESIS)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("slot", "tag"),
    [(VoteSlot.PROPOSAL, Tag.PROPOSAL_SIGN), (VoteSlot.PREVOTE, Tag.VOTE_SIGN), (VoteSlot.PRECOMMIT, Tag.VOTE_SIGN)],
)
def test_signatures_are_valid_under_the_slots_tag(signer: Signer, slot: VoteSlot, tag: Tag) -> None:
    signature = signer.sign(7, 1, slot, b"payload")
    assert is_signature_valid(KEY.public_key, tag, b"payload", signature)


def test_the_same_bytes_give_the_same_signature_also_after_a_restart(path: Path) -> None:
    first = Signer(path, KEY, GENESIS)
    signature = first.sign(1, 0, VoteSlot.PREVOTE, b"payload")
    assert first.sign(1, 0, VoteSlot.PREVOTE, b"payload") == signature
    first.close()
    second = Signer(path, KEY, GENESIS)
    assert second.sign(1, 0, VoteSlot.PREVOTE, b"payload") == signature
    second.close()


@pytest.mark.parametrize("slot", list(VoteSlot))
def test_other_bytes_for_a_signed_slot_are_refused_also_after_a_restart(path: Path, slot: VoteSlot) -> None:
    first = Signer(path, KEY, GENESIS)
    first.sign(3, 2, slot, b"payload")
    with pytest.raises(SignRefused, match=slot.name.lower()):
        first.sign(3, 2, slot, b"other")
    first.close()
    second = Signer(path, KEY, GENESIS)
    with pytest.raises(SignRefused):
        second.sign(3, 2, slot, b"other")
    second.close()


def test_slots_behind_the_newest_are_closed(signer: Signer) -> None:
    signer.sign(3, 2, VoteSlot.PREVOTE, b"p")
    for height, round_, slot in [
        (2, 9, VoteSlot.PRECOMMIT),
        (3, 1, VoteSlot.PRECOMMIT),
        (3, 2, VoteSlot.PROPOSAL),
        (3, 0, VoteSlot.PROPOSAL),
    ]:
        with pytest.raises(SignRefused):
            signer.sign(height, round_, slot, b"q")
    signer.sign(3, 2, VoteSlot.PRECOMMIT, b"q")
    signer.sign(3, 3, VoteSlot.PROPOSAL, b"q")
    signer.sign(4, 0, VoteSlot.PROPOSAL, b"q")


def test_a_signature_never_leaves_before_its_slot_is_on_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk fails nothing is handed out, not even when asked again for the same bytes."""

    def fail(*_: object) -> None:
        raise OSError("disk full")

    made = Signer(path, KEY, GENESIS)
    with monkeypatch.context() as patch:
        patch.setattr(signer_module, "write_synced", fail)
        for _ in range(2):
            with pytest.raises(OSError, match="disk full"):
                made.sign(1, 0, VoteSlot.PREVOTE, b"one")
    made.close()
    again = Signer(path, KEY, GENESIS)
    again.sign(1, 0, VoteSlot.PREVOTE, b"another")
    again.close()


def test_without_its_history_it_does_not_start(path: Path) -> None:
    path.unlink()
    with pytest.raises(SignerError, match="signer import"):
        Signer(path, KEY, GENESIS)


def test_a_history_is_never_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(SignerError, match="never overwritten"):
        Signer.initialise(path, KEY, GENESIS)
    with pytest.raises(SignerError, match="never overwritten"):
        import_history(path, before.decode())
    assert path.read_bytes() == before


def test_it_is_bound_to_chain_and_key(path: Path) -> None:
    with pytest.raises(SignerError, match="another chain"):
        Signer(path, KEY, b"h" * 32)
    with pytest.raises(SignerError, match="another key"):
        Signer(path, OTHER_KEY, GENESIS)
    Signer(path, KEY, GENESIS).close()


def test_two_processes_cannot_hold_one_history(path: Path) -> None:
    first = Signer(path, KEY, GENESIS)
    with pytest.raises(SignerError, match="in use"):
        Signer(path, KEY, GENESIS)
    first.close()
    Signer(path, KEY, GENESIS).close()


def test_every_changed_byte_of_the_history_is_noticed(path: Path) -> None:
    made = Signer(path, KEY, GENESIS)
    made.sign(5, 0, VoteSlot.PRECOMMIT, b"payload")
    made.close()
    whole = path.read_bytes()
    for at in range(len(whole)):
        changed = bytes([whole[at] ^ 1])
        path.write_bytes(whole[:at] + changed + whole[at + 1 :])
        try:
            opened = Signer(path, KEY, GENESIS)
        except SignerError:
            continue
        with pytest.raises(SignRefused):
            opened.sign(5, 0, VoteSlot.PRECOMMIT, b"other")
        opened.close()


def test_an_exported_history_goes_on_elsewhere(path: Path, tmp_path: Path) -> None:
    made = Signer(path, KEY, GENESIS)
    made.sign(5, 1, VoteSlot.PRECOMMIT, b"payload")
    made.close()
    moved = tmp_path / "elsewhere" / "history.json"
    import_history(moved, export_history(path))
    there = Signer(moved, KEY, GENESIS)
    with pytest.raises(SignRefused):
        there.sign(5, 1, VoteSlot.PRECOMMIT, b"other")
    there.close()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format": "myelin-signer-1"}', "\xff"])
def test_what_is_no_history_is_not_imported(tmp_path: Path, text: str) -> None:
    with pytest.raises(SignerError):
        import_history(tmp_path / "history.json", text)
    assert not (tmp_path / "history.json").exists()


def test_a_history_of_another_format_is_named_as_that(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": "myelin-signer-2", "checksum": "00" * 32}))
    with pytest.raises(SignerError, match="has format myelin-signer-2, this release reads myelin-signer-3"):
        Signer(path, KEY, GENESIS)


def test_a_history_with_wrong_fields_is_damage_not_a_crash(path: Path) -> None:
    raw = json.loads(path.read_text())
    body = {name: raw[name] for name in ("key", "genesis", "height", "signed")}
    body["signed"] = [{"round": 0}]
    text = json.dumps({"format": raw["format"], **body, "checksum": signer_module._compute_checksum(body)})  # noqa: SLF001
    path.write_text(text)
    with pytest.raises(SignerError):
        Signer(path, KEY, GENESIS)


ASKED = st.tuples(st.integers(1, 3), st.integers(0, 2), st.sampled_from(list(VoteSlot)), st.sampled_from([b"a", b"b"]))


@settings(max_examples=60, deadline=None)
@given(asked=st.lists(ASKED, max_size=25), restarts=st.sets(st.integers(0, 25)))
def test_no_order_of_requests_and_restarts_gives_two_signatures_for_a_slot(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[int, int, VoteSlot, bytes]], restarts: set[int]
) -> None:
    path = tmp_path_factory.mktemp("signer") / "history.json"
    Signer.initialise(path, KEY, GENESIS)
    signer = Signer(path, KEY, GENESIS)
    signed: dict[tuple[int, int, VoteSlot], bytes] = {}
    for number, (height, round_, slot, payload) in enumerate(asked):
        if number in restarts:
            signer.close()
            signer = Signer(path, KEY, GENESIS)
        newest = max(signed, default=(0, 0, VoteSlot.PROPOSAL))
        try:
            signer.sign(height, round_, slot, payload)
        except SignRefused:
            assert (height, round_, slot) <= newest, "a slot ahead of all others is never refused"
            continue
        assert signed.setdefault((height, round_, slot), payload) == payload
    signer.close()


def make_own_vote(height: int, round_: int, block_hash: bytes | None, kind: VoteKind = VoteKind.PREVOTE) -> Vote:
    return Vote(int(kind), height, round_, block_hash, KEY.public_key, bytes(64))


def test_a_vote_of_our_key_that_the_history_lacks_was_made_elsewhere(signer: Signer) -> None:
    signer.sign(5, 1, VoteSlot.PREVOTE, compute_vote_bytes(GENESIS, VoteKind.PREVOTE, 5, 1, b"a" * 32))
    assert signer.has_signed(make_own_vote(5, 1, b"a" * 32))
    for elsewhere in (
        make_own_vote(5, 1, b"b" * 32),
        make_own_vote(5, 1, None),
        make_own_vote(5, 1, b"a" * 32, VoteKind.PRECOMMIT),
        make_own_vote(5, 0, b"a" * 32),
        make_own_vote(5, 2, b"a" * 32),
        make_own_vote(6, 1, b"a" * 32),
    ):
        assert not signer.has_signed(elsewhere), elsewhere


def test_what_the_history_has_forgotten_and_others_votes_count_as_signed(signer: Signer) -> None:
    for round_ in range(SIGNED_MAX + 2):
        signer.sign(5, round_, VoteSlot.PREVOTE, b"p")
    assert signer.has_signed(make_own_vote(4, 0, b"a" * 32))
    assert signer.has_signed(make_own_vote(5, 1, b"a" * 32)), "forgotten"
    assert not signer.has_signed(make_own_vote(5, 2, b"a" * 32)), "remembered"
    assert not signer.has_signed(make_own_vote(5, 3, b"a" * 32, VoteKind.PRECOMMIT))
    other = Vote(VoteKind.PREVOTE, 9, 0, None, OTHER_KEY.public_key, bytes(64))
    assert signer.has_signed(other)


def test_it_proves_the_beacon_without_handing_out_its_seed(signer: Signer) -> None:
    assert signer.prove_beacon(b"p" * 32, 7) == prove_beacon(KEY.seed, b"p" * 32, 7)
    public = [name for name in dir(signer) if not name.startswith("_")]
    assert not any("seed" in name for name in public)
