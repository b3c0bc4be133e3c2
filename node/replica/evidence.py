"""Evidence that waits for a block: once per convicted key, checked against the head. Knows no network."""

from __future__ import annotations

import logging

from consensus.bft.errors import EvidenceError
from consensus.bft.evidence import get_accused, get_offence_height, validate_signatures
from consensus.runtime.errors import BlockError
from consensus.runtime.staking.slashing import validate_evidence
from node.p2p.acceptance import Acceptance
from node.store.chain_store import ChainStore
from proto_specs.limits import BLOCK_INHERENTS_MAX
from proto_specs.types.chain import Evidence

logger = logging.getLogger("myelin.consensus")

WAITING_MAX = 1_024


class EvidencePool:
    """One piece of evidence per key: the first that convicts. A different piece would not change the punishment."""

    def __init__(self, store: ChainStore) -> None:
        self._store = store
        self._waiting: dict[bytes, Evidence] = {}

    def add(self, evidence: Evidence, now_ms: int) -> Acceptance:
        """Keep evidence that convicts a validator of this chain; ACCEPT when it is new."""
        accused = get_accused(evidence)
        if accused in self._waiting or len(self._waiting) >= WAITING_MAX:
            return Acceptance.IGNORE
        try:
            validate_signatures(evidence, self._store.genesis_hash)
        except EvidenceError:
            return Acceptance.REJECT
        if not self._convicts(evidence, now_ms):
            return Acceptance.IGNORE
        logger.warning(
            "validator %s signed what it may not at height %d", accused.hex()[:12], get_offence_height(evidence)
        )
        self._waiting[accused] = evidence
        return Acceptance.ACCEPT

    def select(self, now_ms: int) -> tuple[Evidence, ...]:
        """The evidence for the next block. Included or expired evidence is forgotten."""
        for validator, evidence in list(self._waiting.items()):
            if not self._convicts(evidence, now_ms):
                del self._waiting[validator]
        return tuple(self._waiting.values())[:BLOCK_INHERENTS_MAX]

    def _convicts(self, evidence: Evidence, now_ms: int) -> bool:
        store, head = self._store, self._store.get_head()
        try:
            time_ms = max(now_ms, head.time_ms + 1)
            validate_evidence(store, evidence, store.genesis_hash, head.height + 1, time_ms)
        except BlockError as error:
            logger.info("evidence against %s: %s", get_accused(evidence).hex()[:12], error)
            return False
        return True
