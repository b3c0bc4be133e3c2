"""What each entry point loads, started for real: the libraries and the folders of node that it may hold in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest

LIBRARIES = frozenset(
    {
        *(
            "cryptography",
            "gguf",
            "httpx",
            "jinja2",
            "libp2p",
            "nacl",
            "numpy",
            "onnx",
            "onnxruntime",
            "plyvel",
            "rich",
        ),
        *("rich", "starlette", "tokenizers", "torch", "transformers", "trio", "uvicorn", "zeroconf"),
        *("hypercorn", "llguidance", "prometheus_client", "pydantic"),
    }
)
"""Heavy ones, each with a reason to be where it is."""

OURS = frozenset({"proto_specs", "consensus", "inference", "genesis", "tests", "benchmarks"})
LIBP2P = "libp2p trio plyvel cryptography nacl httpx prometheus_client rich zeroconf"
"""py-libp2p loads the others by itself, LevelDB where it is installed (findings/libp2p-import-loads-leveldb.sh)."""


@dataclass(frozen=True)
class EntryPoint:
    """`libraries`, `packages` and `folders` are all that it may load; `folders` are those of `node`."""

    module: str
    libraries: str
    packages: str
    folders: str


ENTRY_POINTS = (
    EntryPoint("node.web.rpc.__main__", "starlette uvicorn", "proto_specs", "local_api machine web"),
    EntryPoint("node.signatures.__main__", "nacl", "proto_specs", "signatures"),
    EntryPoint("node.localnet.proxy", "trio", "proto_specs", "localnet"),
    EntryPoint("node.signer.remote.server", "nacl", "proto_specs consensus", "machine signer"),
    EntryPoint(
        "node.full.service",
        LIBP2P,
        "proto_specs consensus genesis",
        "chain full light local_api machine p2p replica signatures signer store sync transfer",
    ),
    EntryPoint(
        "node.worker.service",
        f"{LIBP2P} llguidance numpy onnx onnxruntime tokenizers",
        "proto_specs consensus inference",
        "client machine p2p transfer worker",
    ),
    EntryPoint(
        "node.verifier.__main__",
        f"{LIBP2P} llguidance numpy onnx onnxruntime tokenizers",
        "proto_specs consensus inference",
        "client local_api machine p2p verifier",
    ),
    EntryPoint(
        "node.gateway.service",
        "hypercorn jinja2 llguidance nacl numpy prometheus_client pydantic starlette tokenizers trio",
        "proto_specs consensus inference",
        "client gateway machine",
    ),
    EntryPoint("node.cli.main", "", "proto_specs", "cli"),
    EntryPoint(
        "node.cli.gateways",
        f"{LIBP2P} hypercorn jinja2 llguidance numpy prometheus_client pydantic starlette tokenizers",
        "proto_specs consensus genesis inference",
        "cli client gateway keys local_api machine p2p",
    ),
    EntryPoint("node.cli.bench", "", "proto_specs inference", "cli"),
    EntryPoint("node.cli.keys", "cryptography nacl", "proto_specs consensus genesis", "cli keys"),
    EntryPoint(
        "node.cli.query",
        "cryptography httpx nacl rich trio",
        "proto_specs consensus genesis",
        "cli client keys local_api machine",
    ),
    EntryPoint(
        "node.cli.tx",
        "cryptography httpx nacl rich trio",
        "proto_specs consensus genesis",
        "cli client keys local_api machine",
    ),
    EntryPoint(
        "node.cli.lights",
        "cryptography httpx nacl rich trio",
        "proto_specs consensus genesis inference",
        "cli client keys light local_api machine",
    ),
    EntryPoint(
        "node.cli.nodes",
        "cryptography nacl trio",
        "proto_specs consensus genesis inference",
        "cli full keys machine replica signer store",
    ),
    EntryPoint("node.cli.databases", "plyvel nacl trio", "proto_specs consensus genesis", "cli full machine store"),
    EntryPoint(
        "node.cli.ask",
        f"{LIBP2P} gguf jinja2 numpy onnx tokenizers",
        "proto_specs consensus genesis inference",
        "cli client keys local_api machine p2p",
    ),
)
"""`node.cli.main` is `myelin --help`; the other modules of node.cli are what a command adds to it."""


def load(module: str) -> set[str]:
    """Every module in memory after one is imported, in a process of its own."""
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("entry", ENTRY_POINTS, ids=lambda one: one.module)
def test_an_entry_point_loads_what_it_needs_alone(entry: EntryPoint) -> None:
    loaded = load(entry.module)
    tops = {one.partition(".")[0] for one in loaded}
    assert tops & LIBRARIES - set(entry.libraries.split()) == set()
    assert tops & OURS - set(entry.packages.split()) == set()
    assert {one.split(".")[1] for one in loaded if one.startswith("node.")} == set(entry.folders.split())


def test_help_imports_no_command() -> None:
    """`myelin --help` as typed."""
    code = "import sys; sys.argv = ['myelin', '--help']\nfrom node.cli.main import app\n"
    code += "try: app()\nfinally: print('\\n', sorted(one for one in sys.modules if one.startswith('node.cli.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == str(
        ["node.cli.errors", "node.cli.failing", "node.cli.main", "node.cli.progress"]
    )


def test_the_check_sees_what_it_looks_for() -> None:
    """Against itself: every process that talks to peers holds what libp2p loads."""
    assert {"plyvel", "zeroconf"} <= {one.partition(".")[0] for one in load("libp2p")}
