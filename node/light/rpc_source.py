"""A light client's source over JSON-RPC: a full node's public endpoint."""

from __future__ import annotations

from typing import Any

from consensus.light.verify import Handover
from consensus.runtime.staking.state import validators
from consensus.state.tree import StateProof
from genesis.errors import SpecError
from genesis.jsonform import read_json
from node.client.rpc import RpcClient
from node.client.rpc_errors import RpcError, RpcUnreachable
from node.light.errors import SourceLost
from node.local_api.wire.errors import STATE_UNAVAILABLE
from proto_specs.codec import decode, encode
from proto_specs.errors import DecodeError, MyelinError
from proto_specs.hashing import HASH_BYTES
from proto_specs.types.chain import Commit, Evidence, Header, ValidatorSet
from proto_specs.types.gossip import LightBlock


class RpcSource:
    """A node by its URL. `ss58_prefix` is only needed to read addresses: a wrong one makes hashes differ."""

    def __init__(self, rpc: RpcClient, ss58_prefix: int) -> None:
        self.rpc = rpc
        self._prefix = ss58_prefix

    @property
    def name(self) -> str:
        """The URL."""
        return self.rpc.url

    async def get_genesis_hash(self) -> bytes:
        """The chain that the node claims; the first commit shows whether it is true. Raises SourceLost."""
        found = await self._call("chain_getBlockHash", 0)
        genesis = _parse_bytes(found)
        if len(genesis) != HASH_BYTES:
            raise SourceLost(f"{self.name}: {found!r:.80} is no hash")
        return genesis

    async def get_block(self, height: int) -> LightBlock | None:
        """See LightSource."""
        found = await self._call("chain_getLightBlock", *([height] if height else []))
        if found is None:
            return None
        try:
            return LightBlock(
                read_json(Header, found["header"], self._prefix),
                read_json(Commit, found["commit"], self._prefix),
                read_json(ValidatorSet, found["validators"], self._prefix),
            )
        except (KeyError, TypeError, SpecError) as error:
            raise SourceLost(f"{self.name}: its light block {height} is malformed: {error}") from error

    async def get_handover(self, height: int) -> Handover | None:
        """See LightSource."""
        proven = await self.get_proven(validators.key, height)
        if proven is None or proven[0] is None:
            return None
        value, proof = proven
        try:
            return Handover(decode(ValidatorSet, value or b""), proof)
        except DecodeError as error:
            raise SourceLost(f"{self.name}: its validators after block {height} are malformed: {error}") from error

    async def submit_evidence(self, evidence: Evidence) -> bool:
        """Whether it is new to the node and convicts somebody on its chain. Raises SourceLost."""
        return await self._call("author_submitEvidence", f"0x{encode(evidence, Evidence).hex()}") is True

    async def get_proven(self, key: bytes, height: int) -> tuple[bytes | None, StateProof] | None:
        """The value under a key after a block, with its proof, unchecked; None when that state is not kept.

        Raises SourceLost.
        """
        try:
            found = await self._call("state_getReadProof", f"0x{key.hex()}", height)
        except _StateNotKept:
            return None
        try:
            value = None if found["value"] is None else _parse_bytes(found["value"])
            return value, decode(StateProof, _parse_bytes(found["proof"]))
        except (KeyError, TypeError, DecodeError) as error:
            raise SourceLost(f"{self.name}: its proof at block {height} is malformed: {error}") from error

    async def _call(self, method: str, *params: Any) -> Any:
        try:
            return await self.rpc.call(method, *params)
        except RpcUnreachable as error:
            raise SourceLost(str(error)) from error
        except RpcError as error:
            if error.code == STATE_UNAVAILABLE:
                raise _StateNotKept from error
            raise SourceLost(f"{self.name}: {error}") from error


class _StateNotKept(MyelinError):
    """The node says so."""


def _parse_bytes(text: Any) -> bytes:
    try:
        if not text.startswith("0x"):
            raise ValueError("without 0x")
        return bytes.fromhex(text[2:])
    except (AttributeError, ValueError) as error:
        raise SourceLost(f"{text!r:.80} is no 0x hex") from error
