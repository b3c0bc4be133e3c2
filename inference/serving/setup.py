"""What a stage knows of a request before it begins. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from inference.serving.kept import KeptRows
from inference.serving.window_store import WindowStore
from proto_specs.ed25519 import SigningKey
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import SignedOrder


@dataclass(frozen=True, slots=True)
class StageSetup:
    """A stage's knowledge of a request that it accepts; all of it is checked before.

    `prompt` and `grammar` are what came beside the order: see `OpenRequest`. `kept` are the rows of the order that this
    one continues, while the stage's KV memory holds them. Signed windows go to `store`; None: they stay in memory.
    `drafts_max`: a first stage drafts so many tokens of a call at most; 0: none. `batched`: see OpenRequest.
    """

    order: SignedOrder
    stage: int
    manifest: Manifest
    session_key: bytes
    worker_key: SigningKey
    prompt: bytes = b""
    grammar: bytes = b""
    kept: KeptRows | None = None
    store: WindowStore | None = None
    drafts_max: int = 0
    batched: bool = False
