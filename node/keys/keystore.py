"""Keys at rest: one JSON file each, sealed by scrypt and AES-256-GCM, readable by its owner alone. Knows no chain."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from genesis.dev import derive_dev_seed, get_dev_identity
from node.keys.derivation import KeyKind
from proto_specs.ed25519 import PUBLIC_KEY_BYTES, SEED_BYTES, SigningKey
from proto_specs.errors import MyelinError

VERSION = 1
SUFFIX = ".json"
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
SCRYPT_N = 1 << 15
"""Memory is 1 KiB x N = 32 MiB, about 0.1 s of one core."""
_SCRYPT_R, _SCRYPT_P = 8, 1
_SCRYPT_N_MAX = 1 << 20
_SALT_BYTES, _NONCE_BYTES, _AES_KEY_BYTES = 32, 12, 32
_FILE_BYTES_MAX = 1 << 16


class KeystoreError(MyelinError):
    """A key file cannot be used. The message names it and says what to do."""


class KeystoreMissing(KeystoreError):
    """The key file does not exist."""


class KeystoreExists(KeystoreError):
    """A key of this name exists; keys are never overwritten."""


class KeystoreDamaged(KeystoreError):
    """The file's content was changed or damaged."""


class WrongPassword(KeystoreError):
    """The password does not open the key."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """The part of a key file readable without a password. `path` is the derivation path, empty for other origins."""

    name: str
    kind: KeyKind
    public_key: bytes
    path: str = ""


class Keystore:
    """A directory of key files, `NAME.json`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get_path(self, name: str) -> Path:
        """The file of a key. Raises KeystoreError for a name that cannot be a file's."""
        if not NAME_PATTERN.fullmatch(name):
            raise KeystoreError(f"{name!r} is no key name: lower case letters, digits, '.', '_' and '-', at most 64")
        return self._directory / f"{name}{SUFFIX}"

    def save(self, info: KeyInfo, key: SigningKey, password: str, *, scrypt_n: int = SCRYPT_N) -> Path:
        """Seal a key into a new file of mode 0600, on disk before this returns. Raises KeystoreExists."""
        assert key.public_key == info.public_key, "the description belongs to another key"
        path = self.get_path(info.name)
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = json.dumps(_seal(info, key.seed, password, scrypt_n), indent=2) + "\n"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise KeystoreExists(f"{path} exists: choose another name, keys are never overwritten") from error
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return path

    def load(self, name: str, password: str) -> SigningKey:
        """Unseal a key. Raises KeystoreMissing, KeystoreDamaged, WrongPassword."""
        path = self.get_path(name)
        raw = _read(path)
        return _unseal(raw, _parse_info(raw, path), password, path)

    def read_info(self, name: str) -> KeyInfo:
        """The readable part of a key file. Raises KeystoreMissing, KeystoreDamaged."""
        path = self.get_path(name)
        return _parse_info(_read(path), path)

    def list_infos(self) -> list[KeyInfo]:
        """All keys, by name. Raises KeystoreDamaged for the first file that is not a key."""
        if not self._directory.is_dir():
            return []
        return [self.read_info(one.stem) for one in sorted(self._directory.glob(f"*{SUFFIX}"))]


def get_dev_key(name: str, kind: KeyKind) -> SigningKey:
    """The development chain's key of a name, which anyone can compute: NEVER FOR REAL MONEY."""
    identity = get_dev_identity(name)
    match kind:
        case KeyKind.ACCOUNT:
            return identity.account_key
        case KeyKind.VALIDATOR:
            return identity.consensus_key
        case KeyKind.WORKER:
            return identity.worker_key
        case KeyKind.NODE:
            return SigningKey.from_seed(derive_dev_seed(name, "node"))


def _seal(info: KeyInfo, seed: bytes, password: str, scrypt_n: int) -> dict[str, Any]:
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    head: dict[str, Any] = {
        "version": VERSION,
        "name": info.name,
        "kind": info.kind.value,
        "public_key": info.public_key.hex(),
        "path": info.path,
    }
    sealed = AESGCM(_stretch(_normalise(password), salt, scrypt_n)).encrypt(nonce, seed, _associate(head))
    crypto = {
        "kdf": "scrypt",
        "n": scrypt_n,
        "r": _SCRYPT_R,
        "p": _SCRYPT_P,
        "salt": salt.hex(),
        "cipher": "aes-256-gcm",
        "nonce": nonce.hex(),
        "ciphertext": sealed.hex(),
    }
    body = {**head, "crypto": crypto}
    return {**body, "checksum": _compute_checksum(body)}


def _unseal(raw: dict[str, Any], info: KeyInfo, password: str, path: Path) -> SigningKey:
    head = {name: raw[name] for name in ("version", "name", "kind", "public_key", "path")}
    crypto = raw["crypto"]
    try:
        known = (crypto["kdf"], crypto["cipher"], crypto["r"], crypto["p"])
        n = crypto["n"]
        salt, nonce, sealed = (bytes.fromhex(crypto[name]) for name in ("salt", "nonce", "ciphertext"))
    except (KeyError, TypeError, ValueError) as error:
        raise KeystoreDamaged(f"{path} lacks part of its crypto section: restore it from a backup") from error
    is_bounded = isinstance(n, int) and 2 <= n <= _SCRYPT_N_MAX and not n & (n - 1)
    if known != ("scrypt", "aes-256-gcm", _SCRYPT_R, _SCRYPT_P) or not is_bounded or len(nonce) != _NONCE_BYTES:
        raise KeystoreDamaged(f"{path} is sealed in a way this version does not know: update Myelin")
    seed = _open_seed(password, salt, n, nonce, sealed, _associate(head))
    if seed is None:
        raise WrongPassword(f"the password does not open {path}")
    if len(seed) != SEED_BYTES or (key := SigningKey.from_seed(seed)).public_key != info.public_key:
        raise KeystoreDamaged(f"{path} holds another key than it says: restore it from a backup or from its words")
    return key


def _open_seed(password: str, salt: bytes, n: int, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
    """The seed; None with another password. Files from before passwords were normalised open with theirs as typed."""
    for text in dict.fromkeys((_normalise(password), password)):
        with contextlib.suppress(InvalidTag):
            return AESGCM(_stretch(text, salt, n)).decrypt(nonce, sealed, associated)
    return None


def _normalise(password: str) -> str:
    """One form of the same characters, whichever keyboard or editor made them; NFKD, as BIP39 has it."""
    return unicodedata.normalize("NFKD", password)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_mode & 0o077:
            raise KeystoreError(f"{path} can be read by others: run `chmod 600 {path}`")
        text = path.read_bytes()[: _FILE_BYTES_MAX + 1]
    except FileNotFoundError as error:
        raise KeystoreMissing(f"there is no key at {path}: make one with `myelin keys new`, see `keys list`") from error
    try:
        raw = json.loads(text)
        body = {name: value for name, value in raw.items() if name != "checksum"}
        is_whole = raw["checksum"] == _compute_checksum(body)
    except (ValueError, KeyError, AttributeError) as error:
        raise KeystoreDamaged(f"{path} is no key file: restore it from a backup or from its words") from error
    if not is_whole:
        raise KeystoreDamaged(f"{path} is damaged (its checksum differs): restore it from a backup or from its words")
    return body


def _parse_info(raw: dict[str, Any], path: Path) -> KeyInfo:
    try:
        if raw["version"] != VERSION:
            raise KeystoreDamaged(
                f"{path} has version {raw['version']}, this node reads version {VERSION}: update Myelin"
            )
        info = KeyInfo(raw["name"], KeyKind(raw["kind"]), bytes.fromhex(raw["public_key"]), raw["path"])
    except (KeyError, TypeError, ValueError) as error:
        raise KeystoreDamaged(f"{path} lacks a field: restore it from a backup or from its words") from error
    if len(info.public_key) != PUBLIC_KEY_BYTES or not isinstance(raw.get("crypto"), dict):
        raise KeystoreDamaged(f"{path} is not whole: restore it from a backup or from its words")
    return info


def _stretch(password: str, salt: bytes, n: int) -> bytes:
    return Scrypt(salt=salt, length=_AES_KEY_BYTES, n=n, r=_SCRYPT_R, p=_SCRYPT_P).derive(password.encode())


def _associate(head: dict[str, Any]) -> bytes:
    """The data authenticated with the seed, so that a key file cannot be renamed to another key's name or kind."""
    return json.dumps(head, sort_keys=True, separators=(",", ":")).encode()


def _compute_checksum(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.blake2b(canonical, digest_size=32).hexdigest()
