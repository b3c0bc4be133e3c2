"""Entry of the verification process: configuration and keys are one JSON line on standard input, as for RPC."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import trio

from inference.engine.device import Device
from node.client.account import SigningAccount
from node.client.chain_view import ChainUnreachable
from node.client.rpc import open_rpc
from node.client.rpc_chain import RpcChain
from node.verifier.service import VerifierConfig, run_verifier
from proto_specs.ed25519 import SigningKey
from proto_specs.ss58 import encode_address

CONNECT_RETRY_S = 0.3


def main() -> None:
    """Do the duty until the node is gone."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("libp2p").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_node, daemon=True).start()
    trio.run(_run, config)


async def _run(config: dict[str, Any]) -> None:
    key = SigningKey.from_seed(bytes.fromhex(config["account_seed"]))
    async with open_rpc(config["rpc"]) as rpc:
        while True:
            try:
                chain = await RpcChain.connect(rpc)
                break
            except ChainUnreachable:
                await trio.sleep(CONNECT_RETRY_S)
        account = SigningAccount(chain, key, encode_address(key.public_key, config["ss58_prefix"]))
        directory, models = Path(config["directory"]), Path(config["models"])
        device = Device.parse(config["device"])
        await run_verifier(VerifierConfig(directory, models, bytes.fromhex(config["node_seed"]), device), account)


def _end_with_node() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
