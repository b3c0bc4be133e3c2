"""Workers without --layers, as processes: three cover the model, one dies, a newcomer takes exactly its range.

Whoever survives fetches nothing, and the newcomer fetches just the units of the range.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from genesis.dev import get_dev_identity
from inference.footprint import measure_model
from inference.model.store import ShardStore
from inference.moving import MovePolicy
from inference.placement import HeldRange, Machine, NothingFits, RangeBytes, choose_range
from node.client.account import SigningAccount
from node.client.chain_view import WorkerEntry
from node.client.rpc import open_rpc
from node.client.rpc_chain import RpcChain
from node.transfer.shards.fetch import select_units
from node.worker.departure import Departure
from node.worker.placing import Placer, PlacingPolicy, compute_memory
from node.worker.service import WorkerConfig
from proto_specs.ss58 import encode_address
from proto_specs.types.common import NMYL_PER_MYL
from proto_specs.types.manifest import Manifest
from tests.integration.conftest import Model
from tests.integration.node.processes import MYELIN, REPOSITORY, START_TIMEOUT_S, NodeDirectory, run_myelin

pytestmark = [pytest.mark.slow, pytest.mark.leaves_open]

NAMES = ("bob", "charlie", "dave")
NEWCOMER = "eve"
KV_POSITIONS = 512
POLL_S = 0.1
MB = 10**6
RICH = 10**15


def plan_three(manifest: Manifest) -> tuple[int, list[tuple[int, int]]]:
    """The least memory, in steps of a megabyte, with which three machines that join one by one cover the model."""
    model = measure_model(manifest)
    for memory in range(MB, sum(model.weights.layers) * 2, MB):
        price = 80_000
        machine = Machine(memory, KV_POSITIONS, 0, price, RICH, 1, 1, RangeBytes((0,) * model.layers))
        held: list[HeldRange] = []
        try:
            for number in range(3):
                worth = choose_range(model, machine, held)
                held.append(HeldRange(bytes([number]) * 32, worth.start, worth.end, 0, 0, price, RICH))
        except NothingFits:
            continue
        if worth.is_on_path:
            return memory, [(one.start, one.end) for one in held]
    raise AssertionError("three machines of any size cover a model")


@dataclass
class Workers:
    """Worker processes of a chain by name."""

    node: NodeDirectory
    model: Model
    memory: int
    base: Path

    def make_argv(self, name: str, models: Path, command: str = "run") -> list[str]:
        key = f"dev:{name}"
        what = ("--model", self.model.model_id.hex(), "--models", str(models), "--memory", f"{self.memory // MB}MB")
        argv = ["worker", command, *what, "--rpc", self.node.url, "--account", key, "--worker", key]
        argv += ["--kv-positions", str(KV_POSITIONS)]
        return argv if command == "plan" else [*argv, "--base", str(self.base / name), "--node", key]

    async def infer(self, prompt: str, *options: str) -> str:
        """What `myelin infer` answers."""
        where = ("--rpc", self.node.url, "--models", str(self.model.store.root), "--account", "dev:client")
        done = await trio.run_process(
            [*MYELIN, "infer", prompt, "--json", "--model", self.model.model_id.hex(), *where, *options],
            check=False,
            capture_stdout=True,
            capture_stderr=True,
            cwd=REPOSITORY,
            env={**os.environ, "XDG_DATA_HOME": str(self.base / "home")},
        )
        assert done.returncode == 0, done.stderr.decode()
        answer: str = json.loads(done.stdout)["answer"]
        return answer

    def read_log(self, name: str) -> str:
        return (self.base / f"{name}.log").read_text()

    def count_fetched(self, name: str) -> int:
        """Bytes of weights that a worker says it fetched."""
        return sum(int(one) for one in re.findall(r": fetched (\d+) bytes", self.read_log(name)))

    @asynccontextmanager
    async def run(self, name: str, models: Path) -> AsyncIterator[trio.Process]:
        """Serves inside the block."""
        path = self.base / f"{name}.log"
        path.touch()
        before = path.read_text().count(" serves at ")
        with path.open("ab") as log:
            argv = [*MYELIN, *self.make_argv(name, models)]
            process = await trio.lowlevel.open_process(argv, stdout=log, stderr=log, cwd=REPOSITORY)
        try:
            with trio.fail_after(START_TIMEOUT_S):
                while path.read_text().count(" serves at ") == before:
                    assert process.poll() is None, path.read_text()
                    await trio.sleep(POLL_S)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


KEYS = {name: get_dev_identity(name).worker_key.public_key for name in (*NAMES, NEWCOMER)}


@asynccontextmanager
async def open_chain(model: Model, memory: int, base: Path) -> AsyncIterator[tuple[Workers, RpcChain]]:
    """A validator that verifies the registered model: without anybody to judge them workers take no orders."""
    node = NodeDirectory.init(base / "node")
    async with node.run() as running, open_rpc(node.url) as rpc:
        await running.wait_for_height(1)
        registered = run_myelin(
            *("model", "register", model.model_id.hex(), "--models", str(model.store.root)),
            *("--rpc", node.url, "--account", "dev:alice"),
        )
        assert registered.returncode == 0, registered.stderr
        verifying = run_myelin(
            "tx", "register-verifier", f"0x{model.model_id.hex()}", "--rpc", node.url, "--account", "dev:alice"
        )
        assert verifying.returncode == 0, verifying.stderr
        yield Workers(node, model, memory, base), await RpcChain.connect(rpc)


async def read_ranges(chain: RpcChain, model: bytes) -> dict[bytes, WorkerEntry]:
    await chain.get_height()
    return {one.worker: one for one in await chain.list_workers(model)}


async def test_three_cover_the_model_and_a_newcomer_replaces_the_dead(model: Model, tmp_path: Path) -> None:
    memory, planned = plan_three(model.manifest)
    fresh = tmp_path / "models"
    async with open_chain(model, memory, tmp_path) as (workers, chain):
        first, second, third = (workers.run(name, model.store.root) for name in NAMES)
        async with first, second as dying, third:
            found = await read_ranges(chain, model.model_id)
            assert [(found[KEYS[name]].start, found[KEYS[name]].end) for name in NAMES] == planned
            sizes = measure_model(model.manifest)
            assert all(compute_memory(sizes, *one, KV_POSITIONS) <= memory for one in planned)

            dying.kill()
            await dying.wait()
            lost = planned[1]
            shown = run_myelin(*workers.make_argv(NEWCOMER, fresh, "plan"), "--json")
            assert shown.returncode == 0, shown.stderr
            plan = json.loads(shown.stdout)
            assert (plan["start"], plan["end"]) == lost
            assert plan["others"] == {"listed": 3, "answering": 2}
            assert not fresh.exists(), "a plan fetches nothing"

            async with workers.run(NEWCOMER, fresh):
                found = await read_ranges(chain, model.model_id)
                entry = found[KEYS[NEWCOMER]]
                assert (entry.start, entry.end) == lost
                assert entry.bond == 150 * NMYL_PER_MYL
                units = select_units(model.manifest, lost)
                store = ShardStore(fresh)
                here = [one for one in model.manifest.units if store.has_unit(model.model_id, one)]
                assert here == list(units), "just the units of the range"
                assert workers.count_fetched(NEWCOMER) == sum(one.bytes_total for one in units)
                assert await workers.infer("Say yes.", "--tokens", "4")
                for name in (NAMES[0], NAMES[2]):
                    assert (found[KEYS[name]].start, found[KEYS[name]].end) == planned[NAMES.index(name)]
                    assert workers.count_fetched(name) == 0
                    assert "0 bytes to fetch" in workers.read_log(name)

            async with workers.run(NEWCOMER, fresh):  # started again, it keeps its range and fetches nothing more
                assert workers.count_fetched(NEWCOMER) == sum(one.bytes_total for one in units)
                assert "it keeps them" in workers.read_log(NEWCOMER)
    shutil.rmtree(fresh)


async def test_three_that_join_at_the_same_moment_part_and_cover_the_model(model: Model, tmp_path: Path) -> None:
    memory, planned = plan_three(model.manifest)
    async with open_chain(model, memory, tmp_path) as (workers, chain):
        first, second, third = (workers.run(name, model.store.root) for name in NAMES)
        async with AsyncExitStack() as stack:
            async with trio.open_nursery() as nursery:
                for one in (first, second, third):
                    nursery.start_soon(stack.enter_async_context, one)
            with trio.fail_after(START_TIMEOUT_S):
                while True:
                    found = await read_ranges(chain, model.model_id)
                    served = [found[KEYS[name]] for name in NAMES if KEYS[name] in found]
                    if sorted((one.start, one.end) for one in served if one.is_active) == sorted(planned):
                        break
                    await trio.sleep(POLL_S)
        assert all(workers.count_fetched(name) == 0 for name in NAMES)


# The file of a request's windows is closed with its last reader, which a warning here would call forgotten.
async def test_a_spare_moves_to_the_layers_of_the_dead_and_serves_them(model: Model, tmp_path: Path) -> None:
    memory, planned = plan_three(model.manifest)
    spare = get_dev_identity(NEWCOMER)
    quick = MovePolicy(looks_min=3, lasting_s=1.0, spread_s=0.5)
    policy = PlacingPolicy(memory, look_s=0.3, settle_s=0.1, move=quick)
    async with open_chain(model, memory, tmp_path) as (workers, chain):
        first, second, third = (workers.run(name, model.store.root) for name in NAMES)
        async with first as one, second as two, third, trio.open_nursery() as nursery:
            config = WorkerConfig(
                directory=tmp_path / "spare",
                models=tmp_path / "models",
                model=model.model_id,
                start=0,
                end=0,
                worker_key=spare.worker_key,
                node_seed=bytes(range(32)),
                listen=("/ip4/127.0.0.1/tcp/0",),
                bond=150 * NMYL_PER_MYL,
                prefill_price=20_000,
                decode_price=80_000,
                kv_positions=KV_POSITIONS,
                grace_s=20.0,
            )
            account = SigningAccount(chain, spare.account_key, encode_address(spare.account, 42))
            departure = Departure()
            placer = Placer(config, account, policy, departure)
            nursery.start_soon(placer.run)
            before = await wait_for_worker(chain, model.model_id, KEYS[NEWCOMER], lambda _entry: True)
            held = planned.index((before.start, before.end))
            fetched = placer.bytes_fetched
            dying, lost = (two, planned[1]) if held != 1 else (one, planned[0])
            dying.kill()
            await dying.wait()
            after = await wait_for_worker(
                chain,
                model.model_id,
                KEYS[NEWCOMER],
                lambda entry: (entry.start, entry.end) == lost and entry.is_active,
            )
            assert after.bond == before.bond
            there = {one.root for one in select_units(model.manifest, planned[held])}
            missing = [one for one in select_units(model.manifest, lost) if one.root not in there]
            assert placer.bytes_fetched - fetched == sum(one.bytes_total for one in missing)
            for name, place in zip(NAMES, planned, strict=True):
                if place != lost:
                    assert workers.count_fetched(name) == 0
            answer = await workers.infer("Say yes.", "--tokens", "4")
            assert answer, "over the moved worker, for nobody else serves its layers"
            departure.ask("the test is over")


async def wait_for_worker(
    chain: RpcChain, model: bytes, key: bytes, is_wanted: Callable[[WorkerEntry], bool]
) -> WorkerEntry:
    with trio.fail_after(START_TIMEOUT_S):
        while True:
            entry = (await read_ranges(chain, model)).get(key)
            if entry is not None and is_wanted(entry):
                return entry
            await trio.sleep(POLL_S)
