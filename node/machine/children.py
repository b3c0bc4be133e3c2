"""Child processes of the demo: started with a log each, watched, stopped in order. Knows nothing of what they run."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from proto_specs.errors import MyelinError

STOP_TIMEOUT_S = 10.0
TAIL_LINES = 15


class ProcessDied(MyelinError):
    """A child ended by itself. The message holds the end of its log."""


@dataclass
class Child:
    """One running process."""

    name: str
    process: trio.Process
    log: Path

    def read_tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"  {self.name}| {line}" for line in lines)

    def check_alive(self) -> None:
        """Raises ProcessDied when the process has ended."""
        code = self.process.poll()
        if code is not None:
            raise ProcessDied(f"{self.name} ended with status {code}; the end of {self.log}:\n{self.read_tail()}")


@dataclass
class Children:
    """The processes of one network, in the order they were started; stopped in the reverse order."""

    log_directory: Path
    environment: Mapping[str, str]
    started: list[Child] = field(default_factory=list)

    async def start(self, name: str, argv: Sequence[str]) -> Child:
        """Start a process whose output goes to `<log_directory>/<name>.log`."""
        self.log_directory.mkdir(parents=True, exist_ok=True)
        log = self.log_directory / f"{name}.log"
        with log.open("ab") as output:
            process = await trio.lowlevel.open_process(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output.fileno(),
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops its children in order
            )
        child = Child(name, process, log)
        self.started.append(child)
        return child

    def check_alive(self) -> None:
        """Raises ProcessDied when any process has ended."""
        for child in self.started:
            child.check_alive()

    async def stop(self) -> None:
        """Ask every process to end, the last started first; kill those that do not within 10 s."""
        for child in reversed(self.started):
            if child.process.poll() is not None:
                continue
            child.process.send_signal(signal.SIGTERM)
            with trio.move_on_after(STOP_TIMEOUT_S):
                await child.process.wait()
            if child.process.poll() is None:
                child.process.kill()
                await child.process.wait()
        self.started.clear()
