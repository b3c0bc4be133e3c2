"""Signs votes and proposals, never two different ones for one slot. It signs, persists, fsyncs, then returns.

The history is one file: bound to the chain and key, locked against a second process, written whole before a signature
leaves. Slots of a height are ordered by round, then proposal, prevote, precommit; a slot once passed is closed, and a
signed slot is signed again only for identical bytes, which gives the identical signature (shaped after EIP-3076).
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from consensus.beacon import prove_beacon
from node.machine.files import lock_beside, write_synced
from proto_specs.codec import decode
from proto_specs.ed25519 import SigningKey
from proto_specs.errors import MyelinError
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import Vote, VoteKind, VoteSignBytes, compute_vote_bytes

FORMAT = "myelin-signer-3"
SIGNED_MAX = 32
"""The newest signatures of a height that are remembered whole; older slots are closed as well."""


_ADVICE = (
    "move it away and restore an export of it with `myelin signer import`; where there is none, run with a new "
    "consensus key, since this one could sign twice"
)


class SignerError(MyelinError):
    """The signer cannot work. The message says what to do."""


class SignRefused(MyelinError):
    """Signing this would contradict what was signed before."""


class SignerUnreachable(MyelinError):
    """Whoever holds the key does not answer: nothing is signed until it does. The message says what to do."""


class VoteSlot(enum.IntEnum):
    """The kinds of message signed within a round, in order."""

    PROPOSAL = 0
    PREVOTE = 1
    PRECOMMIT = 2


_TAGS = {VoteSlot.PROPOSAL: Tag.PROPOSAL_SIGN, VoteSlot.PREVOTE: Tag.VOTE_SIGN, VoteSlot.PRECOMMIT: Tag.VOTE_SIGN}


@dataclass(frozen=True, slots=True)
class _Signed:
    payload: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class _History:
    """The signatures of one height, by (round, slot)."""

    height: int
    signed: dict[tuple[int, int], _Signed]


class HistoryFile(Protocol):
    """Where a history is kept: a file that is replaced whole."""

    def lock(self) -> Lock:
        """Hold the file until closed. Raises SignerError when it is missing or held by another process."""

    def read(self) -> str:
        """The file's text. Raises SignerError."""

    def replace(self, text: str) -> None:
        """Write the whole file, synced: after a crash it holds the old or the new text."""

    def __str__(self) -> str:
        """The name of the history for operators."""


class Lock(Protocol):
    """A lock that is held until closed."""

    def close(self) -> None:
        """Release the lock."""


class DiskHistory:
    """A history on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lock(self) -> Lock:
        """See HistoryFile."""
        return _lock(self._path)

    def read(self) -> str:
        """See HistoryFile."""
        return read_history(self._path)

    def replace(self, text: str) -> None:
        """See HistoryFile."""
        write_synced(self._path, text.encode())

    def __str__(self) -> str:
        return str(self._path)


class VoteSigner(Protocol):
    """What voting needs from the holder of the key: `Signer` here, `RemoteSigner` in another process."""

    @property
    def public_key(self) -> bytes:
        """The validator's consensus key."""

    def sign(self, height: int, round_: int, slot: VoteSlot, payload: bytes) -> bytes:
        """The 64-byte signature, on disk before it is returned. Raises SignRefused, SignerUnreachable."""

    def list_votes(self, height: int) -> list[Vote]:
        """The remembered votes signed at a height."""

    def has_signed(self, vote: Vote) -> bool:
        """False only for a vote of this key that this signer certainly did not make. Raises SignerUnreachable."""

    def prove_beacon(self, previous: bytes, height: int) -> bytes:
        """The VRF proof of a header at `height` after the beacon `previous`. Raises SignerUnreachable."""

    def close(self) -> None:
        """Release the signer."""


class Signer:
    """One validator key on one chain."""

    def __init__(self, file: Path | HistoryFile, key: SigningKey, genesis: bytes) -> None:
        """Open an existing history. Raises SignerError when it is missing, foreign, damaged or in use."""
        self._key = key
        self._file: HistoryFile = DiskHistory(file) if isinstance(file, Path) else file
        self._genesis = genesis
        self._lock = self._file.lock()
        try:
            self._history = _load(self._file, key.public_key, genesis)
        except BaseException:
            self._lock.close()
            raise

    @staticmethod
    def initialise(path: Path, key: SigningKey, genesis: bytes) -> None:
        """Make the empty history of a key that has never signed on this chain. Raises SignerError if there is one."""
        if path.exists():
            raise SignerError(f"{path} exists: this key has a history on a chain; it is never overwritten")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_synced(path, format_history(key.public_key, genesis).encode())

    @property
    def public_key(self) -> bytes:
        """The key's public half."""
        return self._key.public_key

    @property
    def genesis(self) -> bytes:
        """The chain this history is bound to."""
        return self._genesis

    def sign(self, height: int, round_: int, slot: VoteSlot, payload: bytes) -> bytes:
        """The 64-byte signature, on disk before it is returned. Raises SignRefused."""
        place = (round_, int(slot))
        history = self._history
        if height < history.height:
            raise SignRefused(f"height {height} is closed: height {history.height} was signed")
        signed = dict(history.signed) if height == history.height else {}
        known = signed.get(place)
        if known is not None:
            if known.payload != payload:
                raise SignRefused(f"another {slot.name.lower()} was signed at height {height}, round {round_}")
            return known.signature
        if signed and place < max(signed):
            raise SignRefused(f"{slot.name.lower()} of height {height}, round {round_} is behind what was signed")
        signature = self._key.sign(_TAGS[slot], payload)
        signed[place] = _Signed(payload, signature)
        while len(signed) > SIGNED_MAX:
            del signed[min(signed)]
        following = _History(height, signed)
        self._file.replace(_format(self.public_key, self._genesis, following))
        self._history = following
        return signature

    def list_votes(self, height: int) -> list[Vote]:
        """The remembered votes signed at a height, even if the consensus log has lost them."""
        if height != self._history.height:
            return []
        return [
            _make_vote(self.public_key, one)
            for (_, slot), one in sorted(self._history.signed.items())
            if slot != VoteSlot.PROPOSAL
        ]

    def has_signed(self, vote: Vote) -> bool:
        """False only for a vote of this key that this history shows was made elsewhere: another process has the key.

        The history knows its newest height, and there the newest slots. Older votes count as signed, and so do votes of
        other validators. The caller checks the vote's signature.
        """
        history = self._history
        if vote.validator != self.public_key or vote.height < history.height:
            return True
        if vote.height > history.height:
            return False
        place = (vote.round, int(VoteSlot.PREVOTE if vote.kind == VoteKind.PREVOTE else VoteSlot.PRECOMMIT))
        known = history.signed.get(place)
        if known is None:
            return len(history.signed) == SIGNED_MAX and place < min(history.signed)
        payload = compute_vote_bytes(self._genesis, vote.kind, vote.height, vote.round, vote.block_hash)
        return known.payload == payload

    def prove_beacon(self, previous: bytes, height: int) -> bytes:
        """The VRF proof of a header at `height` (a VRF has one output: there is nothing to sign twice)."""
        return prove_beacon(self._key.seed, previous, height)

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()


def export_history(path: Path) -> str:
    """The history as JSON text, to move a validator to another machine. Stop the node first. Raises SignerError."""
    text = read_history(path)
    _parse(text, path)
    return text


def import_history(path: Path, text: str) -> None:
    """Install an exported history. Raises SignerError when a history exists already or the text is not one."""
    if path.exists():
        raise SignerError(f"{path} exists: a history is never overwritten; move it away first if it is superseded")
    _parse(text, path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_synced(path, text.encode())


def _make_vote(key: bytes, signed: _Signed) -> Vote:
    of = decode(VoteSignBytes, signed.payload)
    return Vote(of.kind, of.height, of.round, of.block_hash, key, signed.signature)


def _lock(path: Path) -> IO[bytes]:
    if not path.exists():
        raise SignerError(
            f"the signer's history {path} is missing: without it this key could sign twice. Restore it from a backup "
            "(`myelin signer import`), or use a new consensus key; `myelin init` makes one for a new validator"
        )
    try:
        return lock_beside(path)
    except BlockingIOError as error:
        raise SignerError(f"{path} is in use by another process: two signers of one key would be slashed") from error


def _load(path: HistoryFile, key: bytes, genesis: bytes) -> _History:
    found = _parse(path.read(), path)
    if found["key"] != key.hex():
        raise SignerError(f"{path} is the history of another key ({found['key'][:16]}…): name its own with --validator")
    if found["genesis"] != genesis.hex():
        raise SignerError(f"{path} is the history on another chain ({found['genesis'][:16]}…): use another --base")
    try:
        signed = {
            (int(one["round"]), int(VoteSlot(one["slot"]))): _Signed(
                bytes.fromhex(one["payload"]), bytes.fromhex(one["signature"])
            )
            for one in found["signed"]
        }
        return _History(int(found["height"]), signed)
    except (KeyError, TypeError, ValueError) as error:
        raise SignerError(f"{path} lacks a field: {_ADVICE}") from error


def read_history(path: Path) -> str:
    """The text of a history file, in use or exported. Raises SignerError."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise SignerError(f"there is no signer's history {path}: name the node's directory with --base") from error
    except UnicodeDecodeError as error:
        raise SignerError(f"{path} is no signer history: {_ADVICE}") from error


def _parse(text: str, path: Path | HistoryFile) -> dict[str, Any]:
    try:
        found = json.loads(text)
        format_ = found["format"]
        body = {name: found[name] for name in ("key", "genesis", "height", "signed")}
        is_whole = found["checksum"] == _compute_checksum(body)
    except (ValueError, KeyError, TypeError) as error:
        raise SignerError(f"{path} is no signer history: {_ADVICE}") from error
    if format_ != FORMAT:
        raise SignerError(f"{path} has format {format_}, this release reads {FORMAT}: {_ADVICE}")
    if not is_whole:
        raise SignerError(f"{path} is damaged (its checksum differs): {_ADVICE}")
    return body


def format_history(key: bytes, genesis: bytes) -> str:
    """The history of a key that has signed nothing."""
    return _format(key, genesis, _History(0, {}))


def _format(key: bytes, genesis: bytes, history: _History) -> str:
    signed = [
        {"round": round_, "slot": slot, "payload": one.payload.hex(), "signature": one.signature.hex()}
        for (round_, slot), one in sorted(history.signed.items())
    ]
    body = {"key": key.hex(), "genesis": genesis.hex(), "height": history.height, "signed": signed}
    return json.dumps({"format": FORMAT, **body, "checksum": _compute_checksum(body)})


def _compute_checksum(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return hash_tagged(Tag.SIGNED_HISTORY, canonical).hex()
