"""Connecting commands to a node: the chain over RPC, and an account on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.keyring import load_signing_key
from node.client.account import Account
from node.derivation import KeyKind
from node.rpc.client import open_rpc
from node.serving.rpc_chain import RpcChain
from proto_specs.ss58 import encode_address

DEFAULT_RPC = "http://127.0.0.1:9944"
RpcOption = Annotated[str, typer.Option("--rpc", help="JSON-RPC address of a node.")]


@asynccontextmanager
async def open_account(url: str, name: str, keys: Path | None) -> AsyncIterator[tuple[Account, int]]:
    """The account of a key name on the chain of a node, and the chain's SS58 prefix."""
    key = load_signing_key(name, KeyKind.ACCOUNT, keys)
    async with open_rpc(url) as rpc:
        chain = await RpcChain.connect(rpc)
        prefix = await read_prefix(rpc)
        yield Account(chain, key, encode_address(key.public_key, prefix)), prefix


async def read_prefix(rpc: Any) -> int:
    """The chain's SS58 prefix."""
    return int((await rpc.call("system_properties"))["ss58Format"])
