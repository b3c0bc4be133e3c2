"""Key files: what is sealed comes back, nothing else opens them, every damage is named; golden file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from node.keys import keystore as keystore_module
from node.keys.derivation import KeyKind, derive_key, format_path
from node.keys.keystore import (
    KeyInfo,
    Keystore,
    KeystoreDamaged,
    KeystoreError,
    KeystoreExists,
    KeystoreMissing,
    WrongPassword,
    get_dev_key,
)
from proto_specs.ed25519 import SigningKey

QUICK_N = 1 << 4
VECTORS = json.loads((Path(__file__).parents[4] / "proto_specs" / "vectors" / "keystore.json").read_text("utf-8"))
KEY = SigningKey.from_seed(bytes(range(32)))
INFO = KeyInfo("mine", KeyKind.ACCOUNT, KEY.public_key, "m/44'/7731'/0'/0'")


@pytest.fixture
def keystore(tmp_path: Path) -> Keystore:
    store = Keystore(tmp_path / "keys")
    store.save(INFO, KEY, "secret", scrypt_n=QUICK_N)
    return store


def test_what_is_saved_comes_back(keystore: Keystore) -> None:
    assert keystore.load("mine", "secret") == KEY
    assert keystore.read_info("mine") == INFO
    assert keystore.list_infos() == [INFO]


def test_the_file_is_private_and_does_not_hold_the_seed(keystore: Keystore) -> None:
    path = keystore.get_path("mine")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert KEY.seed.hex() not in path.read_text()
    assert KEY.seed.hex() not in repr(KEY)


def test_a_file_that_others_can_read_is_refused(keystore: Keystore) -> None:
    keystore.get_path("mine").chmod(0o640)
    with pytest.raises(KeystoreError, match="chmod 600"):
        keystore.load("mine", "secret")


def test_another_password_does_not_open_it(keystore: Keystore) -> None:
    with pytest.raises(WrongPassword):
        keystore.load("mine", "Secret")


@pytest.mark.parametrize(("saved", "typed"), [("Z\u00fcrich", "Zu\u0308rich"), ("\ufb01ve \u2460", "five 1")])
def test_a_password_is_its_characters_whatever_their_bytes(keystore: Keystore, saved: str, typed: str) -> None:
    """Keyboards and editors make composed and decomposed forms of what looks the same."""
    keystore.save(replace(INFO, name="other"), KEY, saved, scrypt_n=QUICK_N)
    assert keystore.load("other", saved) == keystore.load("other", typed) == KEY
    with pytest.raises(WrongPassword):
        keystore.load("other", "Zurich")


def test_a_file_of_before_passwords_were_normalised_opens_as_typed(
    keystore: Keystore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(keystore_module, "_normalise", str)
        keystore.save(replace(INFO, name="old"), KEY, "Z\u00fcrich", scrypt_n=QUICK_N)
    assert keystore.load("old", "Z\u00fcrich") == KEY


def test_keys_are_never_overwritten(keystore: Keystore) -> None:
    before = keystore.get_path("mine").read_bytes()
    with pytest.raises(KeystoreExists):
        keystore.save(INFO, KEY, "other", scrypt_n=QUICK_N)
    assert keystore.get_path("mine").read_bytes() == before


def test_a_missing_key_says_how_to_make_one(keystore: Keystore, tmp_path: Path) -> None:
    with pytest.raises(KeystoreMissing, match="myelin keys new"):
        keystore.load("other", "secret")
    assert Keystore(tmp_path / "nowhere").list_infos() == []


def test_every_changed_byte_is_noticed(keystore: Keystore) -> None:
    path = keystore.get_path("mine")
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            assert keystore.load("mine", "secret") == KEY, f"byte {at}"
            assert whole[at : at + 1].isspace() or whole[at] ^ 1 == ord(" "), f"byte {at} changed unnoticed"
        except (KeystoreDamaged, UnicodeDecodeError):
            pass


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "worker"},
        {"name": "other"},
        {"path": ""},
        {"public_key": "00" * 32},
        {"version": 2},
        {"kind": "master"},
        {"crypto": None},
        {"crypto": {}},
    ],
)
def test_no_key_can_be_passed_off_as_another(keystore: Keystore, change: dict[str, object]) -> None:
    """Even with a checksum made anew: the description is authenticated with the seed."""
    path = keystore.get_path("mine")
    raw = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps(_with_checksum(raw)))
    with pytest.raises((KeystoreDamaged, WrongPassword)):
        keystore.load("mine", "secret")


@pytest.mark.parametrize("field", ["n", "r", "p"])
@pytest.mark.parametrize("value", [0, 3, 1 << 40, "16", None])
def test_a_costly_or_senseless_kdf_is_not_run(keystore: Keystore, field: str, value: object) -> None:
    path = keystore.get_path("mine")
    raw = json.loads(path.read_text())
    raw["crypto"][field] = value
    path.write_text(json.dumps(_with_checksum(raw)))
    with pytest.raises(KeystoreDamaged):
        keystore.load("mine", "secret")


@pytest.mark.parametrize("name", ["", "../alice", "a/b", "A", ".hidden", "x" * 65, "a b"])
def test_a_name_is_a_plain_file_name(keystore: Keystore, name: str) -> None:
    with pytest.raises(KeystoreError, match="no key name"):
        keystore.get_path(name)


def test_dev_keys_differ_by_kind_and_name() -> None:
    made = {get_dev_key(name, kind).public_key for name in ("alice", "bob") for kind in KeyKind}
    assert len(made) == 8


@pytest.mark.parametrize("vector", VECTORS["derivation"], ids=lambda one: f"{one['kind']}-{one['index']}")
def test_derivation_vectors(vector: dict[str, object]) -> None:
    kind, index = KeyKind(vector["kind"]), int(str(vector["index"]))
    key = derive_key(str(vector["mnemonic"]), kind, index, str(vector["passphrase"]))
    assert (key.seed.hex(), key.public_key.hex()) == (vector["seed"], vector["public_key"])
    assert format_path(kind, index) == vector["path"]


def test_golden_key_file(tmp_path: Path) -> None:
    vector = VECTORS["file"]
    path = tmp_path / "golden.json"
    path.write_text(json.dumps(vector["content"]))
    path.chmod(0o600)
    key = Keystore(tmp_path).load("golden", vector["password"])
    assert key.seed.hex() == vector["seed"]


def _with_checksum(raw: dict[str, object]) -> dict[str, object]:
    body = {name: value for name, value in raw.items() if name != "checksum"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return {**body, "checksum": hashlib.blake2b(canonical, digest_size=32).hexdigest()}
