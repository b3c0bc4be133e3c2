"""`myelin keys`: make, import, list and show keys. Words are shown once; nothing here talks to a node."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from genesis.dev import DEV_SS58_PREFIX
from node.cli.errors import CliError
from node.cli.keyring import (
    DEV_PREFIX,
    KEY_HELP,
    KeysOption,
    get_keys_dir,
    read_line,
    read_new_password,
)
from node.cli.options import JsonOption
from node.cli.plain import print_pairs
from node.keys.derivation import KeyKind, derive_key, format_path, generate_mnemonic, validate_mnemonic
from node.keys.keystore import KeyInfo, Keystore, KeystoreError, get_dev_key
from proto_specs.ss58 import encode_address

app = typer.Typer(no_args_is_help=True, help=__doc__)

NameArgument = Annotated[str, typer.Argument(help="Name of the key file.")]
KindOption = Annotated[KeyKind, typer.Option(help="What the key is for; each purpose has keys of its own.")]
IndexOption = Annotated[int, typer.Option(min=0, help="Number of the key among those of its kind.")]
PrefixOption = Annotated[int, typer.Option(min=0, max=16_383, help="SS58 prefix of the chain.")]


@app.command("new")
def new_command(
    name: NameArgument,
    kind: KindOption = KeyKind.ACCOUNT,
    index: IndexOption = 0,
    words: Annotated[int, typer.Option(help="12, 15, 18, 21 or 24.")] = 24,
    prefix: PrefixOption = DEV_SS58_PREFIX,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key from fresh words, and print the words: they are the only backup."""
    try:
        mnemonic = generate_mnemonic(words)
    except ValueError as error:
        raise CliError(str(error)) from error
    info = _save(name, kind, index, mnemonic, keys)
    if as_json:
        print(json.dumps({**_describe(info, prefix), "words": mnemonic}))
        return
    print(mnemonic)
    print("\nWrite these words down and keep them secret: they are the key, and the only backup.", file=sys.stderr)
    _show_one(_describe(info, prefix))


@app.command("import")
def import_command(
    name: NameArgument,
    kind: KindOption = KeyKind.ACCOUNT,
    index: IndexOption = 0,
    prefix: PrefixOption = DEV_SS58_PREFIX,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key from words, asked for on the terminal (or read: one line of words, one with the password)."""
    mnemonic = validate_mnemonic(read_line("words of the key"))
    _print(_describe(_save(name, kind, index, mnemonic, keys), prefix), as_json)


@app.command("list")
def list_command(prefix: PrefixOption = DEV_SS58_PREFIX, keys: KeysOption = None, as_json: JsonOption = False) -> None:
    """List the keys in the key directory."""
    directory = get_keys_dir(keys)
    found = [_describe(info, prefix) for info in Keystore(directory).list_infos()]
    if as_json:
        print(json.dumps(found))
    elif not found:
        print(f"no keys in {directory}: make one with `myelin keys new NAME`")
    else:
        print_pairs((one["name"], f"{one['kind']:<9}  {one.get('address', one['public_key'])}") for one in found)


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help=KEY_HELP)],
    kind: KindOption = KeyKind.ACCOUNT,
    prefix: PrefixOption = DEV_SS58_PREFIX,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a key's public side; no password is needed. `--kind` chooses among the keys of a development name."""
    if name.startswith(DEV_PREFIX):
        info = KeyInfo(name, kind, get_dev_key(name.removeprefix(DEV_PREFIX), kind).public_key)
    else:
        info = Keystore(get_keys_dir(keys)).read_info(name)
    _print(_describe(info, prefix), as_json)


def _save(name: str, kind: KeyKind, index: int, mnemonic: str, keys: Path | None) -> KeyInfo:
    store = Keystore(get_keys_dir(keys))
    if store.get_path(name).exists():
        raise KeystoreError(f"there is a key named {name} already: choose another name")
    key = derive_key(mnemonic, kind, index)
    info = KeyInfo(name, kind, key.public_key, format_path(kind, index))
    store.save(info, key, read_new_password(name))
    return info


def _describe(info: KeyInfo, prefix: int) -> dict[str, Any]:
    """A key as JSON: an account has its address, every key its bytes."""
    address = {"address": encode_address(info.public_key, prefix)} if info.kind is KeyKind.ACCOUNT else {}
    public_key = f"0x{info.public_key.hex()}"
    return {"name": info.name, "kind": info.kind.value, **address, "public_key": public_key, "path": info.path}


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
    else:
        _show_one(found)


def _show_one(found: dict[str, Any]) -> None:
    print_pairs((name.replace("_", " "), value) for name, value in found.items() if value)
