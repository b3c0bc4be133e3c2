"""`python -m benchmarks.chain`: all of it, the peer included, in one run. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.chain import evm, injective, micro, million, ours
from benchmarks.chain.load import LoadFailed
from benchmarks.chain.processes import NotStarted
from benchmarks.chain.results import Measured, Setting
from benchmarks.machine import describe_machine
from node.local_api.methods.chain import NODE_VERSION

RUNS = 3
TRANSFERS = 20_000
PEER_TRANSFERS = 10_000
PROBE_TRANSFERS = 3_000
OUR_SETTING = Setting(connections=4, batch=100, accounts=100)
PEER_SETTINGS = tuple(
    Setting(connections, batch, accounts)
    for connections, accounts in ((1, 1), (1, 100), (4, 100), (16, 100))
    for batch in (1, 100)
)


PARTS = {
    "whole-path": "7 minutes: transfers over the whole path, ours and injectived's in turns",
    "scale": "2 minutes: anvil and py-evm, for scale",
    "stages": "1 minute: where a transfer's time goes in our node",
    "parts": "2 minutes: execution, signatures and the state root alone",
    "large-state": "6 minutes: a million accounts",
}
"""What can be run alone, and about how long it takes on two idle cores."""


def main() -> None:
    """Run the requested benchmark; JSON, or a table, on standard output; progress on standard error."""
    parser = argparse.ArgumentParser(prog="myelin bench chain", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print everything measured as JSON")
    parser.add_argument("--quick", action="store_true", help="a smoke run: small counts, no peer, no million accounts")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "myelin" / "bench")
    options = parser.parse_args()
    chosen = [one.strip() for one in options.only.split(",")]
    unknown = [one for one in chosen if one not in PARTS]
    if unknown:
        parser.error(f"--only: there is no {unknown[0]!r}, but {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="myelin-bench-") as directory:
        found = run_quick(Path(directory)) if options.quick else run_parts(chosen, Path(directory), options.cache)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print_table(found)
    for name, text in found.get("failed", {}).items():
        say(f"{name} failed: {text}")
    if found.get("failed"):
        sys.exit(1)


def run_quick(logs: Path) -> dict[str, Any]:
    """A short run over all our parts, to show that they still work."""
    say("transfers, whole path")
    whole = ours.measure(Setting(2, 50, 20), 1_000, 1, logs)
    say("where the time goes")
    stages = ours.measure_stages(Setting(2, 50, 20), 1_000, logs)
    say("parts")
    return {
        "machine": describe_machine(),
        "whole_path": whole.to_json(),
        "stages": stages,
        "execution": micro.measure_execution(500, 3),
        "signatures": micro.measure_signatures(500),
    }


def run_parts(chosen: list[str], directory: Path, cache: Path) -> dict[str, Any]:
    """Run the chosen parts. One that fails is told under `failed`; what the others measured is kept."""
    found: dict[str, Any] = {"machine": describe_machine()}
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "whole-path": lambda: _measure_whole_path(directory, cache),
        "scale": lambda: _measure_scale(directory, cache),
        "stages": lambda: {"stages": ours.measure_stages(OUR_SETTING, TRANSFERS, directory)},
        "parts": lambda: {
            "execution": micro.measure_execution(),
            "signatures": micro.measure_signatures(),
            "state_root": micro.measure_state_root(directory),
        },
        "large-state": lambda: {"large_state": million.measure(directory / "million")},
    }
    for name in chosen:
        say(f"{name}: {PARTS[name]}")
        try:
            found |= runs[name]()
        except (LoadFailed, NotStarted, OSError, subprocess.SubprocessError) as error:
            say(f"{name} failed: {error}")
            found.setdefault("failed", {})[name] = str(error) or type(error).__name__
    return found


def _measure_whole_path(directory: Path, cache: Path) -> dict[str, Any]:
    """Our node and the peer in turns, so that a slow moment of the machine affects both."""
    say("fetching the peer")
    binary = injective.fetch(cache)
    say(f"the peer's best of {len(PEER_SETTINGS)} settings")
    probes = [injective.measure(binary, one, PROBE_TRANSFERS, 1, directory) for one in PEER_SETTINGS]
    best = max(probes, key=lambda one: one.median_per_s).setting
    our_runs, peer_runs = [], []
    for number in range(RUNS):
        say(f"whole path, run {number + 1} of {RUNS}")
        our_runs += ours.measure(OUR_SETTING, TRANSFERS, 1, directory).runs
        peer_runs += injective.measure(binary, best, PEER_TRANSFERS, 1, directory).runs
    whole = Measured("myelin", NODE_VERSION, OUR_SETTING, our_runs)
    peer = Measured("injectived", injective.VERSION, best, peer_runs)
    return {
        "whole_path": whole.to_json(),
        "injectived": peer.to_json(),
        "injectived_probes": [one.to_json() for one in probes],
        "ratio_to_injectived": round(whole.median_per_s / peer.median_per_s, 2),
    }


def _measure_scale(directory: Path, cache: Path) -> dict[str, Any]:
    anvil, python = evm.fetch(cache)
    return {
        "anvil": evm.measure_anvil(anvil, python, OUR_SETTING, TRANSFERS, directory).to_json(),
        "py_evm": evm.measure_py_evm(python),
    }


def print_table(found: dict[str, Any]) -> None:
    """Print the main figures of what was measured, one a line."""
    for name, figure, remark in [*_list_whole_path(found), *_list_parts(found), *_list_stages(found)]:
        print(f"{name:28} {figure:>14}   {remark}")


def _list_whole_path(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    if "whole_path" in found:
        whole = found["whole_path"]
        yield "transfers, whole path", f"{whole['median']:,.0f}/s", f"median of {len(whole['runs'])}"
        cpu = statistics.mean(sum(one["cpu_s"].values()) for one in whole["runs"])
        yield "our processes' CPU", f"{cpu:.1f} s", "a run"
    if "injectived" in found:
        peer = found["injectived"]
        yield "injectived", f"{peer['median']:,.0f}/s", f"{peer['setting']}"
        yield "ratio", f"{found['ratio_to_injectived']:.2f}", ""
    if "anvil" in found:
        yield "anvil, in memory", f"{found['anvil']['median']:,.0f}/s", "for scale: a development node, one run"
        yield "py-evm, execution alone", f"{found['py_evm']['per_s']:,.0f}/s", "for scale, signatures included"


def _list_parts(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    if "execution" in found:
        yield "block execution alone", f"{found['execution']['median_per_s']:,}/s", "signatures seen, without the root"
        both = found["signatures"]["all"]
        yield "signatures", f"{both['per_s']:,}/s", f"{both['processes']} processes"
    for name in ("memory", "leveldb") if "state_root" in found else ():
        yield f"state root, {name}", f"{found['state_root'][name]['median_ms']} ms", "1,000 of 1,000,000 accounts"
    if "large_state" in found:
        large = found["large_state"]
        run, of = large["run"], f"{large['accounts']:,} accounts"
        yield "transfers, whole path", f"{run['per_s']:,.0f}/s", of
        yield "resident", f"{run['memory_mib']['resident']} MiB", f"{of}, {run['memory_mib']['mapped']} mapped"


def _list_stages(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    if "stages" not in found:
        return
    stages = found["stages"]
    millions, beside = stages["transfers"] / 1e6, "a transfer, in the node"
    for name, taken in stages["node"].items():
        yield f"  {name.replace('_', ' ')}", f"{taken['cpu_s'] / millions:,.1f} us", beside
    yield "  everything else", f"{stages['node_everything_else_cpu_s'] / millions:,.1f} us", beside


def say(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
