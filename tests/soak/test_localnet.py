"""Four validators under load and random faults: nothing final is lost, nothing forks, everybody is back within 20 s."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from genesis.spec import compute_genesis_hash
from node.localnet.latency import Finality, LatencyTally
from node.localnet.load import LoadPlan, run_load
from node.localnet.localnet import Localnet, open_localnet
from node.localnet.namespaces import is_permitted
from node.localnet.plan import LocalnetPlan, Partitions, Wanted, build_spec, make_plan
from tests.soak.faults import draw_fault

BACK_S = 20.0
POLL_S = 0.1
ANSWER_S = 1.0
SETTLE_S = 60.0
BATCH = 50
HEIGHTS_MAX = 256
SAMPLE = 1_000


async def call(http: httpx.AsyncClient, url: str, body: Any) -> Any:
    """An answer, None while there is none."""
    try:
        return (await http.post(url, json=body)).json()
    except (httpx.HTTPError, ValueError):
        return None


def make_call(method: str, *params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}


async def read_heights(http: httpx.AsyncClient, urls: Sequence[str]) -> list[int]:
    """Each node's height, -1 of one that does not answer."""
    found = [-1] * len(urls)

    async def read(at: int) -> None:
        answer = await call(http, urls[at], make_call("system_health"))
        found[at] = answer["result"]["height"] if answer and "result" in answer else -1

    async with trio.open_nursery() as nursery:
        for at in range(len(urls)):
            nursery.start_soon(read, at)
    return found


async def wait_until_back(http: httpx.AsyncClient, urls: Sequence[str], healed_s: float) -> float:
    """Seconds from `healed_s` until every node is past the highest block there was when the fault ended."""
    wanted = max(await read_heights(http, urls)) + 1
    heights: list[int] = []
    with trio.move_on_at(healed_s + BACK_S):
        while True:
            heights = await read_heights(http, urls)
            if min(heights) >= wanted:
                return trio.current_time() - healed_s
            await trio.sleep(POLL_S)
    raise AssertionError(f"{BACK_S:.0f} s after healing the heights are {heights}, not all {wanted}")


async def do_faults(net: Localnet, plan: LocalnetPlan, seed: int, end_s: float) -> list[float]:
    """Until it is time: a fault, its end, and the wait for everybody. The waits in seconds."""
    draw, waits = random.Random(seed), []
    urls = [one.rpc_url for one in plan.validators]
    async with httpx.AsyncClient(timeout=ANSWER_S) as http:
        while trio.current_time() < end_s:
            fault = draw_fault(draw, plan.names)
            print(f"{time.strftime('%H:%M:%S')} {fault.text}", end="", flush=True)
            await fault.begin(net)
            await trio.sleep(fault.hold_s)
            healed_s = trio.current_time()
            await fault.end(net)
            waits.append(await wait_until_back(http, urls, healed_s))
            print(f", back after {waits[-1]:.1f} s", flush=True)
            await trio.sleep(fault.calm_s)
    return waits


async def read_common_blocks(http: httpx.AsyncClient, urls: Sequence[str]) -> dict[int, str]:
    """The hash at every height that all nodes have, which has to be the same on all."""
    top = min(await read_heights(http, urls))
    found: dict[int, str] = {}
    for first in range(1, top + 1, HEIGHTS_MAX):
        heights = list(range(first, min(top, first + HEIGHTS_MAX - 1) + 1))
        answers = [await call(http, url, make_call("chain_getBlockHash", heights)) for url in urls]
        lists = [one["result"] for one in answers]
        assert None not in lists[0]
        for other in lists[1:]:
            assert other == lists[0], f"a fork among heights {heights[0]} to {heights[-1]}"
        found.update(zip(heights, lists[0], strict=True))
    return found


async def check_nothing_lost(
    http: httpx.AsyncClient, urls: Sequence[str], blocks: dict[int, str], finalized: dict[str, Finality]
) -> None:
    """What some node reported as final is on all.

    A block's hash commits to its transactions, so what was reported with its block is on all nodes if the block is.
    What was reported without, and a sample of the others, is looked up on every node.
    """
    for extrinsic, where in finalized.items():
        assert where.block in (None, blocks[where.height]), f"{extrinsic} was final in another block {where.height}"
    bare = [one for one, where in finalized.items() if where.block is None]
    sample = random.Random(0).sample(sorted(finalized), min(len(finalized), SAMPLE))
    async with trio.open_nursery() as nursery:
        for url in urls:
            nursery.start_soon(check_found, http, url, sorted({*bare, *sample}), finalized)


async def check_found(
    http: httpx.AsyncClient, url: str, extrinsics: Sequence[str], finalized: dict[str, Finality]
) -> None:
    """A node knows these as final where they were reported."""
    for at in range(0, len(extrinsics), BATCH):
        batch = extrinsics[at : at + BATCH]
        answers = await call(http, url, [make_call("author_extrinsicStatus", one) for one in batch])
        for extrinsic, answer in zip(batch, answers, strict=True):
            assert "error" not in answer, answer
            found = answer["result"]
            assert found is not None, f"{extrinsic} of block {finalized[extrinsic].height} is lost at {url}"
            assert (found["status"], found.get("height")) == ("finalized", finalized[extrinsic].height), extrinsic


@pytest.mark.soak
@pytest.mark.leaves_open
@pytest.mark.timeout(0)
async def test_localnet_under_faults(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    minutes, tps = request.config.getoption("--minutes"), request.config.getoption("--tps")
    seed = request.config.getoption("--seed")
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    partitions = Partitions.NAMESPACES if is_permitted() else Partitions.PROXY
    print(f'\nmake soak ARGS="--minutes {minutes:g} --tps {tps:g} --seed {seed}", by {partitions.value}, in {tmp_path}')
    with open_localnet(tmp_path) as net:
        try:
            wanted = Wanted(4, 0, 1_000, partitions, 0)
            await net.up(lambda: make_plan(tmp_path, wanted, time.time_ns() // 1_000_000), print)
            assert net.state is not None
            await endure(net, net.state.plan, minutes * 60, tps, seed)
        finally:
            with trio.CancelScope(shield=True):
                await net.down()


async def endure(net: Localnet, plan: LocalnetPlan, seconds: float, tps: float, seed: int) -> None:
    """Load and faults, then the checks."""
    urls = [one.rpc_url for one in plan.validators]
    tally = LatencyTally()
    load = LoadPlan(tps, seconds, plan.payers, compute_genesis_hash(build_spec(plan)), drain_s=SETTLE_S)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_load, urls, load, tally)
        waits = await do_faults(net, plan, seed, trio.current_time() + seconds)
    async with httpx.AsyncClient(timeout=60) as http:
        blocks = await read_common_blocks(http, urls)
        await check_nothing_lost(http, urls, blocks, tally.finalized)
    print(f"{len(waits)} faults, slowest return {max(waits):.1f} s; {len(blocks)} blocks, no fork; {tally.report()}")
    assert tally.finalized
