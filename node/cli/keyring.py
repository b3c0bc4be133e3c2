"""Where commands take keys from: a key file and its password, or a well-known name of the development chain."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from node.derivation import KeyKind
from node.keystore import Keystore, get_dev_key
from proto_specs.ed25519 import SigningKey

DEV_PREFIX = "dev:"
KeysOption = Annotated[Path | None, typer.Option("--keys", help="Directory of key files.")]
KEY_HELP = "Key name in the key directory, or dev:NAME (alice, bob, ...) on the development chain."


def get_keys_dir(keys: Path | None) -> Path:
    """Where key files are unless told otherwise."""
    base = os.environ.get("XDG_DATA_HOME")
    default = Path(base) if base else Path.home() / ".local" / "share"
    return keys if keys is not None else default / "myelin" / "keys"


def load_signing_key(name: str, kind: KeyKind, keys: Path | None) -> SigningKey:
    """The key of a name. Raises KeystoreError."""
    if name.startswith(DEV_PREFIX):
        return get_dev_key(name.removeprefix(DEV_PREFIX), kind)
    return Keystore(get_keys_dir(keys)).load(name, read_password(f"password of {name}"))


def read_password(prompt: str) -> str:
    """From the terminal, or the first line of standard input where there is none."""
    if sys.stdin.isatty():
        password: str = typer.prompt(prompt, hide_input=True)
        return password
    return sys.stdin.readline().rstrip("\n")
