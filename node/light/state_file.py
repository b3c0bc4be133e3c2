"""A light client's memory between runs: the last block it verified, in a small file that is replaced whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from node.light.errors import LightStateInvalid
from node.machine.files import write_synced
from proto_specs.hashing import HASH_BYTES

FORMAT = "myelin-light-1"


@dataclass(frozen=True, slots=True)
class LightState:
    """A verified block of a chain, by height and hash."""

    genesis: bytes
    height: int
    block_hash: bytes


def load_state(path: Path, genesis: bytes) -> LightState | None:
    """The remembered block of this chain; None when there is no file. Raises LightStateInvalid."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise LightStateInvalid(f"{path} is damaged: remove it and begin again from a block you trust") from error
    try:
        raw = json.loads(text)
        found = LightState(_read_hash(raw["genesis"]), int(raw["height"]), _read_hash(raw["hash"]))
        if raw["format"] != FORMAT or found.height < 1:
            raise ValueError(f"format {raw['format']!r:.40}")
    except (KeyError, TypeError, ValueError) as error:
        raise LightStateInvalid(f"{path} is damaged: remove it and begin again from a block you trust") from error
    if found.genesis != genesis:
        raise LightStateInvalid(f"{path} is of the chain 0x{found.genesis.hex()}: name another file with --state")
    return found


def save_state(path: Path, state: LightState) -> None:
    """Remember a verified block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = {
        "format": FORMAT,
        "genesis": f"0x{state.genesis.hex()}",
        "height": state.height,
        "hash": f"0x{state.block_hash.hex()}",
    }
    write_synced(path, (json.dumps(raw) + "\n").encode())


def _read_hash(text: str) -> bytes:
    found = bytes.fromhex(text.removeprefix("0x"))
    if len(found) != HASH_BYTES:
        raise ValueError("no hash")
    return found
