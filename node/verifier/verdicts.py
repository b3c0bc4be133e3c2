"""Verdicts on disk before they are committed on chain: a verifier that dies in between can still reveal."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from node.machine.files import write_synced
from node.verifier.judge import Judgement
from proto_specs.codec import decode, encode
from proto_specs.types.calls import RevealVerdict
from proto_specs.types.verdict import VerdictPreimage

SUFFIX = ".verdict"
KEEP_S = 3600.0
"""How long a verdict is kept after it was written, whatever the node says. A restarted or syncing node knows
fewer challenges than there are, and a committed verdict that is forgotten cannot be revealed."""


def bind_verdict(challenge: bytes, account: bytes, judgement: Judgement) -> VerdictPreimage:
    """The verdict as it is committed to, under a salt of its own."""
    return VerdictPreimage(
        challenge=challenge,
        verifier=account,
        outcome=judgement.outcome,
        distance_ppb=judgement.distance_ppb,
        token_mismatches=judgement.token_mismatches,
        fingerprint=judgement.fingerprint,
        salt=secrets.token_bytes(32),
    )


def make_reveal(preimage: VerdictPreimage) -> RevealVerdict:
    """The call that reveals it."""
    return RevealVerdict(
        challenge=preimage.challenge,
        outcome=preimage.outcome,
        distance_ppb=preimage.distance_ppb,
        token_mismatches=preimage.token_mismatches,
        fingerprint=preimage.fingerprint,
        salt=preimage.salt,
    )


class VerdictStore:
    """One file per challenge; blocking, small."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory

    def save(self, preimage: VerdictPreimage) -> None:
        """Write and sync."""
        write_synced(self._path(preimage.challenge), encode(preimage))

    def load(self, challenge: bytes) -> VerdictPreimage | None:
        """The preimage of a challenge's commitment; None when this verifier has not judged it."""
        try:
            return decode(VerdictPreimage, self._path(challenge).read_bytes())
        except FileNotFoundError:
            return None

    def retain_only(self, challenges: frozenset[bytes]) -> None:
        """Forget verdicts older than an hour whose challenge is not among the open ones."""
        for path in self._directory.glob(f"*{SUFFIX}"):
            if bytes.fromhex(path.stem) not in challenges and time.time() - path.stat().st_mtime > KEEP_S:
                path.unlink(missing_ok=True)

    def _path(self, challenge: bytes) -> Path:
        return self._directory / f"{challenge.hex()}{SUFFIX}"
