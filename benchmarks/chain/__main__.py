"""`python -m benchmarks.chain`: all of it, the peer included, in one run. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.chain import evm, injective, micro, million, ours
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


def main() -> None:
    """Run the requested benchmark; JSON, or a table, on standard output; progress on standard error."""
    parser = argparse.ArgumentParser(prog="myelin bench chain", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print everything measured as JSON")
    parser.add_argument("--quick", action="store_true", help="a smoke run: small counts, no peer, no million accounts")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "myelin" / "bench")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="myelin-bench-") as directory:
        found = run_quick(Path(directory)) if options.quick else run_all(Path(directory), options.cache)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print_table(found)


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


def run_all(directory: Path, cache: Path) -> dict[str, Any]:
    """Run our node and the peer in turns, so that a slow moment of the machine affects both; then the parts."""
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
    found: dict[str, Any] = {
        "machine": describe_machine(),
        "whole_path": whole.to_json(),
        "injectived": peer.to_json(),
        "injectived_probes": [one.to_json() for one in probes],
        "ratio_to_injectived": round(whole.median_per_s / peer.median_per_s, 2),
    }
    say("anvil and py-evm, for scale")
    anvil, python = evm.fetch(cache)
    found["anvil"] = evm.measure_anvil(anvil, python, OUR_SETTING, TRANSFERS, directory).to_json()
    found["py_evm"] = evm.measure_py_evm(python)
    say("where the time goes")
    found["stages"] = ours.measure_stages(OUR_SETTING, TRANSFERS, directory)
    say("parts")
    found["execution"] = micro.measure_execution()
    found["signatures"] = micro.measure_signatures()
    found["state_root"] = micro.measure_state_root(directory)
    say("a million accounts (minutes)")
    found["large_state"] = million.measure(directory / "million")
    return found


def print_table(found: dict[str, Any]) -> None:
    """Print the main figures, one a line."""
    whole, execution, signatures = found["whole_path"], found["execution"], found["signatures"]
    lines = [("transfers, whole path", f"{whole['median']:,.0f}/s", f"median of {len(whole['runs'])}")]
    if "injectived" in found:
        peer = found["injectived"]
        lines.append(("injectived", f"{peer['median']:,.0f}/s", f"{peer['setting']}"))
        lines.append(("ratio", f"{found['ratio_to_injectived']:.2f}", ""))
    if "anvil" in found:
        lines.append(
            ("anvil, in memory", f"{found['anvil']['median']:,.0f}/s", "for scale: a development node, one run")
        )
        lines.append(
            ("py-evm, execution alone", f"{found['py_evm']['per_s']:,.0f}/s", "for scale, signatures included")
        )
    lines.append(("block execution alone", f"{execution['median_per_s']:,}/s", "signatures seen, without the root"))
    both = signatures["all"]
    lines.append(("signatures", f"{both['per_s']:,}/s", f"{both['processes']} processes"))
    if "state_root" in found:
        root = found["state_root"]
        for name in ("memory", "leveldb"):
            lines.append((f"state root, {name}", f"{root[name]['median_ms']} ms", "1,000 of 1,000,000 accounts"))
        large = found["large_state"]
        run, of = large["run"], f"{large['accounts']:,} accounts"
        lines.append(("transfers, whole path", f"{run['per_s']:,.0f}/s", of))
        lines.append(
            ("resident", f"{run['memory_mib']['resident']} MiB", f"{of}, {run['memory_mib']['mapped']} mapped")
        )
    cpu = statistics.mean(sum(one["cpu_s"].values()) for one in whole["runs"])
    lines.append(("our processes' CPU", f"{cpu:.1f} s", "a run"))
    stages = found["stages"]
    millions, beside = stages["transfers"] / 1e6, "a transfer, in the node"
    for name, taken in stages["node"].items():
        lines.append((f"  {name.replace('_', ' ')}", f"{taken['cpu_s'] / millions:,.1f} us", beside))
    lines.append(("  everything else", f"{stages['node_everything_else_cpu_s'] / millions:,.1f} us", beside))
    for name, figure, remark in lines:
        print(f"{name:28} {figure:>14}   {remark}")


def say(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
