"""A localnet in its directory: up, down, and faults. Every command reads the state file, acts, and writes it again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import trio

from consensus.runtime.inference import queries
from genesis.spec import compute_genesis_hash, save_spec
from node.client.chain_view import ChainUnreachable
from node.client.rpc import open_rpc
from node.client.rpc_chain import RpcChain
from node.client.rpc_errors import RpcError
from node.full.settings import NodePaths
from node.keys.derivation import KeyKind
from node.keys.keystore import get_dev_key
from node.localnet.commands import WORKER_RUN, WorkerCommand, make_register, make_run
from node.localnet.errors import LocalnetError
from node.localnet.groups import Groups
from node.localnet.namespaces import Namespaces
from node.localnet.plan import LOOPBACK, LocalnetPlan, Partitions, ValidatorPlan, WorkerPlan, build_spec
from node.localnet.proxy import ProxyLink, send_order
from node.localnet.state import FILE_NAME, LocalnetState, Phase, ProcessRecord, load_state, save_state
from node.machine import processes
from node.machine.files import lock_beside
from node.machine.processes import RunState
from node.p2p.address import decode_address
from node.p2p.identity import compute_peer_id
from node.signer.signer import Signer

START_TIMEOUT_S = 60.0
POLL_S = 0.1
TAIL_LINES = 15
WORKER_GRACE_S = 5.0
"""Less than a process is given to end: a worker that is stopped in mid-answer is not killed."""
PROXY = "proxy"
RPC_CALLS_PER_S = 1_000_000
"""High enough to hold no client back: a localnet's RPC is for load."""

Report = Callable[[str], None]


@contextlib.contextmanager
def open_localnet(base: Path) -> Iterator[Localnet]:
    """The net of a directory, for one command at a time. Raises LocalnetError."""
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        lock = lock_beside(base / FILE_NAME)
    except BlockingIOError as error:
        raise LocalnetError(f"another `myelin localnet` command is at work in {base}: wait for its end") from error
    with lock:
        yield Localnet(base, load_state(base))


class Localnet:
    """The net while its lock is held. `state` is the content of the file."""

    def __init__(self, base: Path, state: LocalnetState | None) -> None:
        self._base = base
        self.state = state

    async def up(self, make_plan: Callable[[], LocalnetPlan], report: Report) -> bool:
        """Start every process that does not run; False when all run already. An interrupted first start is made again.

        Raises LocalnetError; then, and when cancelled, no process of the net runs.
        """
        if self.state is not None and self.state.phase is Phase.STARTING:
            report("an earlier start was cut off: it is removed")
            await self.remove()
        if self.state is None:
            plan = make_plan()
            self._save(LocalnetState(plan, Phase.STARTING))
        was_up = self._found.phase is Phase.UP
        if was_up and not self._list_missing():
            return False
        try:
            if not was_up:
                self._make_directories()
            await self._start_missing(report)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._stop_all()
            raise
        self._save(dataclasses.replace(self._found, phase=Phase.UP))
        return True

    async def down(self) -> None:
        """Stop everything; directories stay, and `up` continues with them."""
        is_made = self._found.phase is not Phase.STARTING
        await self._stop_all()
        self._save(dataclasses.replace(self._found, phase=Phase.DOWN if is_made else Phase.STARTING, groups=()))

    async def remove(self) -> None:
        """Stop everything and remove all that the net made in its directory; other files there stay."""
        await self._stop_all()
        plan = self._found.plan
        for name in (*plan.names, *(one.name for one in plan.workers), "logs"):
            shutil.rmtree(self._base / name, ignore_errors=True)
        for name in (f"{PROXY}.json", f"{PROXY}.sock", FILE_NAME):
            (self._base / name).unlink(missing_ok=True)
        self.state = None

    async def kill(self, name: str) -> None:
        """`kill -9` of a process and its children. Raises LocalnetError when it does not run."""
        if not await processes.kill(self._find_process(name).identity):
            raise LocalnetError(f"{name} does not run; `myelin localnet start {name}` starts it")

    async def start(self, name: str) -> None:
        """Start a process that does not run, and wait until it answers. Raises LocalnetError when it runs."""
        self._find_process(name)
        if name not in self._list_missing():
            raise LocalnetError(f"{name} runs already")
        await self._start(name)
        await self._wait_started([name], 0)

    def pause(self, name: str) -> None:
        """SIGSTOP: the process neither runs nor ends. Raises LocalnetError when it does not run."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT. Raises LocalnetError when it does not run."""
        self._signal(name, signal.SIGCONT)

    async def set_groups(self, groups: Groups) -> None:
        """Keep the groups apart; without groups connect all. Raises LocalnetError."""
        state = self._found
        match state.plan.partitions:
            case Partitions.NAMESPACES:
                await Namespaces(self._base, state.plan).set_groups(groups)
            case Partitions.PROXY:
                await send_order(self._base / f"{PROXY}.sock", groups)
            case Partitions.NONE:
                raise LocalnetError("this net was started with --partitions none: its nodes cannot be kept apart")
        self._save(dataclasses.replace(state, groups=groups))

    def get_run_state(self, name: str) -> RunState:
        """Whether a process of the net runs, is paused, or is gone."""
        record = self._found.processes.get(name)
        return RunState.GONE if record is None else processes.get_run_state(record.identity)

    @property
    def _found(self) -> LocalnetState:
        if self.state is None:
            raise LocalnetError(
                f"there is no localnet in {self._base}: `myelin localnet up --base {self._base}` makes one"
            )
        return self.state

    def _save(self, state: LocalnetState) -> None:
        save_state(self._base, state)
        self.state = state

    def _find_process(self, name: str) -> ProcessRecord:
        record = self._found.processes.get(name)
        if record is None:
            raise LocalnetError(
                f"nothing here is called {name}; there are {', '.join(list_process_names(self._found.plan))}"
            )
        return record

    def _signal(self, name: str, number: signal.Signals) -> None:
        if not processes.send_to_group(self._find_process(name).identity, number):
            raise LocalnetError(f"{name} does not run; `myelin localnet start {name}` starts it")

    def _list_missing(self) -> list[str]:
        return [name for name in list_process_names(self._found.plan) if self.get_run_state(name) is RunState.GONE]

    def _make_directories(self) -> None:
        """Make a chain spec and a signer's history for every validator that lacks them."""
        spec = build_spec(self._found.plan)
        (self._base / "logs").mkdir(exist_ok=True)
        for one in self._found.plan.validators:
            paths = NodePaths(self._base / one.name)
            if paths.spec.exists():
                continue
            paths.base.mkdir(mode=0o700, exist_ok=True)
            if not paths.signer.exists():
                key = get_dev_key(one.name, KeyKind.VALIDATOR)
                Signer.initialise(paths.signer, key, compute_genesis_hash(spec))
            save_spec(spec, paths.spec)

    async def _start_missing(self, report: Report) -> None:
        plan = self._found.plan
        if plan.partitions is Partitions.NAMESPACES:
            spaces = Namespaces(self._base, plan)
            if not await spaces.is_whole():
                await self._stop_all()
                await spaces.make()
                await spaces.set_groups(self._found.groups)
        missing = self._list_missing()
        workers = [one.name for one in plan.workers if one.name in missing]
        nodes = [name for name in missing if name not in workers]
        report(f"starting {', '.join(missing)}")
        for name in nodes:
            await self._start(name)
        await self._wait_started(nodes, 1)
        if workers:
            if self._found.phase is Phase.STARTING:
                await self._register_model()
            for name in workers:
                await self._start(name)
            await self._wait_started(workers, 0)

    async def _start(self, name: str) -> None:
        """Start a process, and put it in the state file before anything else can happen."""
        if name == PROXY:
            self._write_proxy_config()
        log = self._base / "logs" / f"{name}.log"
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
        }  # several thread pools on few cores slow each other down
        identity = processes.spawn(self._make_argv(name), log, environment)
        record = ProcessRecord(identity, time.time_ns() // 1_000_000)
        state = self._found
        self._save(dataclasses.replace(state, processes={**state.processes, name: record}))
        await trio.lowlevel.checkpoint()

    def _make_argv(self, name: str) -> tuple[str, ...]:
        plan = self._found.plan
        if name == PROXY:
            return (sys.executable, "-m", "node.localnet.proxy", str(self._base / f"{PROXY}.json"))
        for worker in plan.workers:
            if worker.name == name:
                return self._make_worker_argv(worker)
        one = plan.find_validator(name)
        options = ["--rpc-host", one.rpc_host, "--rpc-calls-per-s", str(RPC_CALLS_PER_S)]
        options += ["--listen", f"/ip4/{one.host}/tcp/{one.port}"]
        options += ["--no-discover"]  # all peers are named, and a discovered address would bypass the proxy
        options += ["--models", plan.models] if plan.workers else ["--no-verify"]
        for peer in list_peer_addresses(plan, one):
            options += ["--peer", peer]
        argv = make_run(self._base / name, name, one.rpc_port, options)
        return Namespaces(self._base, plan).wrap(name, argv) if plan.partitions is Partitions.NAMESPACES else argv

    def _make_worker_argv(self, worker: WorkerPlan) -> tuple[str, ...]:
        plan = self._found.plan
        command = WorkerCommand(
            name=worker.name,
            base=self._base / worker.name,
            model=plan.model,
            models=Path(plan.models),
            start=worker.start,
            end=worker.end,
            rpc_url=plan.find_validator(worker.validator).rpc_url,
        )
        options = ("--listen", f"/ip4/{plan.worker_host}/tcp/0", "--grace", str(WORKER_GRACE_S))
        return command.make_argv(worker.program or WORKER_RUN, options)

    def _write_proxy_config(self) -> None:
        plan = self._found.plan
        ports = {one.name: one.port for one in plan.validators}
        links = [ProxyLink(one.source, one.dest, one.port, ports[one.dest]) for one in plan.links]
        config = {
            "links": [dataclasses.asdict(one) for one in links],
            "groups": self._found.groups,
            "delay_ms": plan.delay_ms,
            "socket": str(self._base / f"{PROXY}.sock"),
        }
        (self._base / f"{PROXY}.json").write_text(json.dumps(config), "utf-8")

    async def _register_model(self) -> None:
        plan = self._found.plan
        first = plan.validators[0]
        argv = make_register(plan.model, Path(plan.models), first.rpc_url, first.name)
        done = await trio.run_process(argv, capture_stdout=True, capture_stderr=True, check=False)
        if done.returncode != 0:
            raise LocalnetError(f"the model was not registered: {done.stderr.decode(errors='replace').strip()}")

    async def _wait_started(self, names: list[str], height: int) -> None:
        """Wait until each validator has this height, and each worker serves. Raises LocalnetError."""
        with trio.move_on_after(START_TIMEOUT_S) as waiting:
            for name in names:
                while not await self._is_ready(name, height):
                    if self.get_run_state(name) is RunState.GONE:
                        raise LocalnetError(f"{name} ended by itself; its log ends:\n{self.read_log_tail(name)}")
                    await trio.sleep(POLL_S)
        if not waiting.cancelled_caught:
            return
        tails = "\n".join(self.read_log_tail(name) for name in names)
        raise LocalnetError(f"no answer of all in {START_TIMEOUT_S:.0f} s; the ends of the logs:\n{tails}")

    async def _is_ready(self, name: str, height: int) -> bool:
        plan = self._found.plan
        if name == PROXY:
            return (self._base / f"{PROXY}.sock").exists()
        try:
            if name not in plan.names:
                return await is_serving(plan, name)
            async with open_rpc(plan.find_validator(name).rpc_url) as rpc:
                return int((await rpc.call("system_health"))["height"]) >= height
        except (ChainUnreachable, RpcError):
            return False

    def read_log_tail(self, name: str) -> str:
        """The last lines that a process wrote."""
        log = self._base / "logs" / f"{name}.log"
        lines = log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:] if log.exists() else []
        return "\n".join(f"  {name}| {line}" for line in lines)

    async def _stop_all(self) -> None:
        """Stop workers first, then validators together, the proxy and namespaces last."""
        state = self._found
        workers = [one.name for one in state.plan.workers]
        for names in (workers, list(state.plan.names), [PROXY]):
            async with trio.open_nursery() as nursery:
                for name in names:
                    if name in state.processes:
                        nursery.start_soon(processes.stop, state.processes[name].identity)
        (self._base / f"{PROXY}.sock").unlink(missing_ok=True)
        if state.plan.partitions is Partitions.NAMESPACES:
            await Namespaces(self._base, state.plan).remove()
        self._save(dataclasses.replace(self._found, processes={}))


async def is_serving(plan: LocalnetPlan, name: str) -> bool:
    """Whether the worker is active on chain, answers there, and its model has a verifier. Raises ChainUnreachable.

    One that was started again is on chain before it listens, at the addresses of its last life.
    """
    (worker,) = [one for one in plan.workers if one.name == name]
    key = get_dev_key(name, KeyKind.WORKER).public_key
    async with open_rpc(plan.find_validator(worker.validator).rpc_url) as rpc:
        chain = await RpcChain.connect(rpc)
        entry = await chain.get_worker(key)
        if entry is None or not entry.is_active or not await _listens(entry.addresses):
            return False
        return bool(await chain.read(queries.list_verifiers, bytes.fromhex(plan.model)))


async def _listens(addresses: tuple[str, ...]) -> bool:
    """Whether somebody accepts connections at one of the addresses."""
    for text in addresses:
        address, _ = decode_address(text)
        assert address is not None, "workers announce addresses to dial"
        try:
            await (await trio.open_tcp_stream(LOOPBACK, int(address.value_for_protocol("tcp") or 0))).aclose()
        except OSError:
            continue
        return True
    return False


def list_process_names(plan: LocalnetPlan) -> tuple[str, ...]:
    """The processes' names in the order of their start."""
    proxy = (PROXY,) if plan.partitions is Partitions.PROXY else ()
    return (*proxy, *plan.names, *(one.name for one in plan.workers))


def list_peer_addresses(plan: LocalnetPlan, one: ValidatorPlan) -> list[str]:
    """The addresses at which a validator dials its peers: their own, or the proxy's."""
    ports = {link.dest: link.port for link in plan.links if link.source == one.name}
    found = []
    for other in plan.validators:
        if other.name != one.name:
            peer = compute_peer_id(get_dev_key(other.name, KeyKind.NODE).seed)
            host, port = (LOOPBACK, ports[other.name]) if plan.links else (other.host, other.port)
            found.append(f"/ip4/{host}/tcp/{port}/p2p/{peer}")
    return found
