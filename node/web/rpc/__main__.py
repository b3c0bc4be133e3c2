"""Entry of the RPC process. Its configuration is a JSON line on standard input; that stream ends with the node."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from node.web.rpc.app import run_rpc


def main() -> None:
    """Serve until the node is gone."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    config = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_node, daemon=True).start()
    run_rpc(Path(config["socket"]), config["host"], config["port"], config["rate"])


def _end_with_node() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
