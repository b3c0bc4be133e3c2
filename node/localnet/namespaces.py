"""Network namespaces: each validator has its own, joined by bridges in a hub; a partition gives each group a bridge.

Linux and root only. Each validator has two interfaces: `eth0` to the hub, where its peers are, and `mgmt` to this
machine, by which its RPC is reached. Nothing is forwarded between the two, so a partition does not affect the RPC.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import trio

from node.localnet.errors import LocalnetError
from node.localnet.groups import Groups
from node.localnet.plan import LocalnetPlan

Argv = tuple[str, ...]
PREFIX_LENGTH = 30
COMMAND_TIMEOUT_S = 20.0
_INTERFACES = Path("/sys/class/net")


def find_ip() -> str | None:
    """The path of `ip`, which ordinary users' PATH often lacks."""
    return shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def is_permitted() -> bool:
    """Whether this process may make namespaces and links in them, found by making and removing one."""
    ip = find_ip()
    if ip is None or os.geteuid() != 0:
        return False
    name = f"mlprobe{os.getpid()}"
    lines = (f"netns add {name}", f"link add {name}a type veth peer name {name}b netns {name}", f"link del {name}a")
    try:
        return all(
            subprocess.run([ip, *line.split()], capture_output=True, check=False).returncode == 0 for line in lines
        )
    finally:
        subprocess.run([ip, "netns", "del", name], capture_output=True, check=False)


class Namespaces:
    """The namespaces of a net; their names follow from its directory."""

    def __init__(self, base: Path, plan: LocalnetPlan) -> None:
        ip = find_ip()
        if ip is None:
            raise LocalnetError("there is no `ip` command: use --partitions proxy")
        self._ip = ip
        self._plan = plan
        self._prefix = f"ml{hashlib.blake2b(str(base).encode(), digest_size=3).hexdigest()}"
        self._hub = f"{self._prefix}-hub"

    def wrap(self, name: str, argv: Argv) -> Argv:
        """The command line that runs `argv` in a validator's namespace, under the same process id."""
        return (self._ip, "netns", "exec", self._namespace(name), *argv)

    async def make(self) -> None:
        """Make all namespaces and links anew, with all validators connected. Raises LocalnetError."""
        await self.remove()
        names = self._plan.names
        await self._run("netns", "add", self._hub)
        host, hub = [f"netns add {self._namespace(name)}" for name in names], []
        for at, one in enumerate(self._plan.validators):
            space, mgmt = self._namespace(one.name), self._get_mgmt(at)
            host += [
                f"link add p{at} netns {self._hub} type veth peer name eth0 netns {space}",
                f"link add {mgmt} type veth peer name mgmt netns {space}",
                f"addr add {_neighbour(one.rpc_host)}/{PREFIX_LENGTH} dev {mgmt}",
                f"link set {mgmt} up",
            ]
            hub += [f"link add br{at} type bridge", f"link set br{at} up", f"link set p{at} up"]
        host.append(f"addr add {self._plan.worker_host}/32 dev {self._get_mgmt(0)}")
        await self._batch(host)
        await self._batch(hub, self._hub)
        for one in self._plan.validators:
            inside = [
                "link set lo up",
                f"addr add {one.host}/24 dev eth0",
                "link set eth0 up",
                f"addr add {one.rpc_host}/{PREFIX_LENGTH} dev mgmt",
                "link set mgmt up",
                f"route add {self._plan.worker_host} via {_neighbour(one.rpc_host)}",
            ]
            await self._batch(inside, self._namespace(one.name))
        await self.set_groups((names,))

    async def is_whole(self) -> bool:
        """Whether every namespace exists; after a restart of the machine none does."""
        return set(map(self._namespace, self._plan.names)) | {self._hub} <= await self._list()

    async def set_groups(self, groups: Groups) -> None:
        """Put each group on a bridge of its own. Raises LocalnetError."""
        places = {name: at for at, name in enumerate(self._plan.names)}
        moves = [
            f"link set p{places[name]} master br{at}"
            for at, group in enumerate(groups or (self._plan.names,))
            for name in group
        ]
        await self._batch(moves, self._hub)

    async def remove(self) -> None:
        """Remove what exists of the namespaces. No process may run in them any more.

        Links disappear with their namespaces, but later; links on this machine are removed by name, at once.
        """
        for at in range(len(self._plan.validators)):
            if (_INTERFACES / self._get_mgmt(at)).exists():
                with contextlib.suppress(LocalnetError):  # its namespace went before, and took the link along just now
                    await self._run("link", "del", self._get_mgmt(at))
        for name in sorted(await self._list() & {self._hub, *map(self._namespace, self._plan.names)}):
            await self._run("netns", "del", name)

    def _namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def _get_mgmt(self, at: int) -> str:
        """The name of this machine's end of a management link; Linux allows 15 letters."""
        return f"{self._prefix}m{at}"

    async def _list(self) -> set[str]:
        listed = await self._run("netns", "list")
        return {line.split()[0] for line in listed.splitlines() if line.strip()}

    async def _batch(self, lines: Sequence[str], namespace: str | None = None) -> None:
        inside = ("-n", namespace) if namespace else ()
        await self._run(*inside, "-batch", "-", stdin="\n".join(lines).encode() + b"\n")

    async def _run(self, *arguments: str, stdin: bytes = b"") -> str:
        command = f"`ip {' '.join(arguments)}`"
        try:
            with trio.fail_after(COMMAND_TIMEOUT_S):
                done = await trio.run_process(
                    [self._ip, *arguments], stdin=stdin, capture_stdout=True, capture_stderr=True, check=False
                )
        except trio.TooSlowError as error:
            raise LocalnetError(f"{command} did not end within {COMMAND_TIMEOUT_S:.0f} s") from error
        if done.returncode != 0:
            raise LocalnetError(f"{command} failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode()


def _neighbour(address: str) -> str:
    """The address of a management link's other end: the address before."""
    head, _, last = address.rpartition(".")
    return f"{head}.{int(last) - 1}"
