"""Connecting commands to a node: the chain over RPC, and an account on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.keyring import load_signing_key
from node.cli.names import make_dev_names
from node.client.account import SigningAccount
from node.client.rpc import open_rpc
from node.client.rpc_chain import Rpc, RpcChain
from node.keys.derivation import KeyKind
from proto_specs.ss58 import encode_address

DEFAULT_RPC = "http://127.0.0.1:9944"
DEV_CHAIN = "myelin-dev"
RpcOption = Annotated[str, typer.Option("--rpc", help="JSON-RPC address of a node.")]


@dataclass(frozen=True, slots=True)
class Connection:
    """A node's chain, its SS58 prefix, and readable names of addresses, which only the development chain has."""

    chain: RpcChain
    prefix: int
    names: Mapping[str, str]

    @property
    def rpc(self) -> Rpc:
        """The RPC client, for calls beside the chain's."""
        return self.chain.rpc

    def address(self, account: bytes) -> str:
        """The address of an account."""
        return encode_address(account, self.prefix)

    def name(self, address: str) -> str:
        """The form of an address in tables: the whole address, followed by its name if it has one."""
        return f"{address} ({self.names[address]})" if address in self.names else address


@asynccontextmanager
async def open_connection(url: str) -> AsyncIterator[Connection]:
    """Connect to the chain of a node. Raises ChainUnreachable."""
    async with open_rpc(url) as rpc:
        yield await connect(rpc)


async def connect(rpc: Rpc) -> Connection:
    """Ask the node which chain it is on."""
    chain = await RpcChain.connect(rpc)
    prefix = await read_prefix(rpc)
    is_dev = await rpc.call("system_chain") == DEV_CHAIN
    return Connection(chain, prefix, make_dev_names(prefix) if is_dev else {})


@asynccontextmanager
async def open_account(url: str, name: str, keys: Path | None) -> AsyncIterator[tuple[SigningAccount, int]]:
    """The account of a key name on a node's chain, and the chain's SS58 prefix."""
    key = load_signing_key(name, KeyKind.ACCOUNT, keys)
    async with open_rpc(url) as rpc:
        chain = await RpcChain.connect(rpc)
        prefix = await read_prefix(rpc)
        yield SigningAccount(chain, key, encode_address(key.public_key, prefix)), prefix


async def read_prefix(rpc: Any) -> int:
    """The chain's SS58 prefix."""
    return int((await rpc.call("system_properties"))["ss58Format"])
