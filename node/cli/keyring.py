"""The keys that commands use: a key file and its password, or a well-known name of the development chain."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from node.cli.errors import CliError
from node.keys.derivation import KeyKind
from node.keys.keystore import NAME_PATTERN, Keystore, KeystoreError, get_dev_key
from proto_specs.ed25519 import PUBLIC_KEY_BYTES, SigningKey
from proto_specs.errors import AddressError
from proto_specs.limits import HEIGHT_MAX
from proto_specs.ss58 import decode_address

DEV_PREFIX = "dev:"
KeysOption = Annotated[Path | None, typer.Option("--keys", help="Directory of key files.")]
KEY_HELP = "Key name in the key directory, or dev:NAME (alice, bob, ...) on the development chain."
ACCOUNT_HELP = "An address, 0x and the 32 bytes, a key name, or dev:NAME on the development chain."
HASH_BYTES = 32


class PasswordMissing(KeystoreError):
    """There is neither a terminal to ask at nor a line to read."""


class BlockIdInvalid(CliError):
    """Not a height and a hash."""


class HashInvalid(CliError):
    """The text is no 32 bytes in hex."""


def get_keys_dir(keys: Path | None) -> Path:
    """The directory of key files: the given one, or the default."""
    base = os.environ.get("XDG_DATA_HOME")
    default = Path(base) if base else Path.home() / ".local" / "share"
    return keys if keys is not None else default / "myelin" / "keys"


def get_sessions_dir(keys: Path | None) -> Path:
    """The directory for open sessions: in the given directory of keys, or beside the default one."""
    return keys / "sessions" if keys is not None else get_keys_dir(None).with_name("sessions")


def load_signing_key(name: str, kind: KeyKind, keys: Path | None) -> SigningKey:
    """The key of a name. It must be of `kind`: no key serves two purposes. Raises KeystoreError."""
    if name.startswith(DEV_PREFIX):
        return get_dev_key(name.removeprefix(DEV_PREFIX), kind)
    _read_public_key(name, kind, keys)
    return Keystore(get_keys_dir(keys)).load(name, read_password(f"password of {name}"))


def find_public_key(name: str, kind: KeyKind, keys: Path | None) -> bytes:
    """The public key of a name, which must be of `kind`; no password is needed. Raises KeystoreError."""
    if name.startswith(DEV_PREFIX):
        return get_dev_key(name.removeprefix(DEV_PREFIX), kind).public_key
    return _read_public_key(name, kind, keys)


def find_account(text: str, prefix: int, keys: Path | None) -> bytes:
    """The account of an address, of 32 bytes in 0x hex, or of a key's name. Raises AddressError, KeystoreError."""
    if text.startswith("0x"):
        return parse_hash(text)
    store = Keystore(get_keys_dir(keys))
    is_name = NAME_PATTERN.fullmatch(text) is not None
    if text.startswith(DEV_PREFIX) or (is_name and store.get_path(text).exists()):
        return find_public_key(text, KeyKind.ACCOUNT, keys)
    try:
        return decode_address(text, prefix)
    except AddressError as error:
        if is_name:
            raise AddressError(f"{error}; nor is there a key of this name (`myelin keys list`)") from error
        raise


def parse_hash(text: str) -> bytes:
    """32 bytes from hex, with or without 0x. Raises HashInvalid."""
    try:
        found = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        found = b""
    if len(found) != HASH_BYTES:
        raise HashInvalid(f"{text!r:.80} is not {HASH_BYTES} bytes as 0x and {2 * HASH_BYTES} hex digits")
    return found


def parse_block_id(text: str) -> tuple[int, bytes]:
    """(height, hash) of HEIGHT:HASH. Raises BlockIdInvalid, HashInvalid."""
    height, colon, block_hash = text.partition(":")
    if not colon or not height.isascii() or not height.isdecimal() or not 0 < int(height) < HEIGHT_MAX:
        raise BlockIdInvalid(f"{text!r:.100} is not HEIGHT:HASH, such as 1200:0x and 64 hex digits")
    return int(height), parse_hash(block_hash)


def read_line(prompt: str, *, confirm: bool = False) -> str:
    """A secret: typed unseen at the terminal (twice to confirm it), or else the next line of standard input.

    Raises PasswordMissing when the input has ended.
    """
    if sys.stdin.isatty():
        typed: str = typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm)
        return typed
    line = sys.stdin.readline()
    if not line:
        raise PasswordMissing(f"{prompt} is missing: type it at a terminal, or give it as a line on standard input")
    return line.rstrip("\r\n")


def read_password(prompt: str) -> str:
    """The password of an existing key. Raises PasswordMissing."""
    return read_line(prompt)


def read_new_password(name: str) -> str:
    """The password of a new key. Raises PasswordMissing, also for an empty password."""
    password = read_line(f"new password of {name}", confirm=True)
    if not password:
        raise PasswordMissing(f"the new password of {name} is empty: choose one")
    return password


def _read_public_key(name: str, kind: KeyKind, keys: Path | None) -> bytes:
    info = Keystore(get_keys_dir(keys)).read_info(name)
    assert len(info.public_key) == PUBLIC_KEY_BYTES, "checked when it was read"
    if info.kind is not kind:
        message = f"{name} is a key of kind {info.kind.value}; this takes one of kind {kind.value} (`myelin keys list`)"
        raise KeystoreError(message)
    return info.public_key


def load_node_seed(name: str | None, keys: Path | None) -> bytes:
    """The seed of a libp2p identity; a fresh one where none is named."""
    return os.urandom(32) if name is None else load_signing_key(name, KeyKind.NODE, keys).seed
