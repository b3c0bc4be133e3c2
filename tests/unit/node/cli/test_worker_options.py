"""`myelin worker run`: what cannot be right ends it in one line, before anything is read, fetched, loaded or paid."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from node.cli.main import app

WORKER = ("worker", "run", "--model", "none", "--base", "/nowhere", "--account", "dev:alice", "--worker", "dev:alice")
PEER = "12D3KooWDxgL8imHAef9ZJrJkY3PR6broVdKht11q5UWn72LzYvX"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--relay", "nonsense"), "a relay is named by its own address, /ip4/HOST/tcp/PORT/p2p/ID: 'nonsense'"),
        (("--relay", PEER), "a relay is named by its own address"),
        (("--relay", "/ip4/127.0.0.1/tcp/1"), "address needs /tcp and /p2p: /ip4/127.0.0.1/tcp/1: a relay's is /ip4/"),
        (("--relay", "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWBad"), "a relay's is /ip4/HOST/tcp/PORT/p2p/ID"),
        (("--relay", f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}/p2p-circuit/p2p/{PEER}"), "not an address through one relay"),
        (("--listen", "rubbish"), "not a multiaddr: 'rubbish'"),
        (("--relay", f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}"), "no stored model is called 'none'"),
    ],
)
def test_addresses_are_looked_at_first(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, [*WORKER, *arguments])
    assert done.exit_code == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "option",
    ["--threads=0", "--kv-positions=0", "--prefill-price=0", "--decode-price=-1", "--bond=-1", "--grace=-1"],
)
def test_numbers_that_no_worker_has(option: str) -> None:
    assert CliRunner().invoke(app, [*WORKER, option]).exit_code == 2
