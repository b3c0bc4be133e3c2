"""Every command of the command line with something missing or wrong: one line, its exit status, never a traceback."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from node.cli import checkout, keys, main
from node.cli.failing import REPORT
from proto_specs.errors import ExitStatus, MyelinError

AWAY = "http://127.0.0.1:1"
HASH = f"0x{'11' * 32}"
PEER = "12D3KooWPeer"
ALICE = ("--account", "dev:alice")
NODELESS = ExitStatus.UNREACHABLE
REFUSED = ExitStatus.REFUSED

CASES: dict[str, tuple[ExitStatus, list[str]]] = {
    "demo": (REFUSED, ["--models", "{tmp}/models"]),
    "localnet up": (REFUSED, ["--workers", "0", "--base", "{tmp}/file/net"]),
    "localnet status": (REFUSED, ["--base", "{tmp}/none"]),
    "localnet kill": (REFUSED, ["alice", "--base", "{tmp}/none"]),
    "localnet start": (REFUSED, ["alice", "--base", "{tmp}/none"]),
    "localnet pause": (REFUSED, ["alice", "--base", "{tmp}/none"]),
    "localnet resume": (REFUSED, ["alice", "--base", "{tmp}/none"]),
    "localnet partition": (REFUSED, ["alice", "--base", "{tmp}/none"]),
    "localnet heal": (REFUSED, ["--base", "{tmp}/none"]),
    "localnet load": (REFUSED, ["--base", "{tmp}/none"]),
    "localnet down": (REFUSED, ["--base", "{tmp}/file/net"]),
    "init": (REFUSED, ["--base", "{tmp}/base", "--chain", "{tmp}/binary"]),
    "run": (REFUSED, ["--base", "{tmp}/none"]),
    "keys new": (REFUSED, ["mine", "--words", "13", "--keys", "{tmp}/keys"]),
    "keys import": (REFUSED, ["mine", "--keys", "{tmp}/keys"]),
    "keys list": (REFUSED, ["--keys", "{tmp}/badkeys"]),
    "keys show": (REFUSED, ["mine", "--keys", "{tmp}/keys"]),
    "tx transfer": (NODELESS, ["dev:bob", "1"]),
    "tx bond": (REFUSED, ["much"]),
    "tx unbond": (NODELESS, ["1"]),
    "tx withdraw": (NODELESS, []),
    "tx register-validator": (NODELESS, ["dev:alice"]),
    "tx retire-worker": (NODELESS, ["dev:bob"]),
    "tx close-session": (REFUSED, ["0x11"]),
    "tx remark": (REFUSED, ["x" * 1025]),
    "tx register-worker": (NODELESS, ["dev:bob", HASH, "0", "1", "1", PEER, "/ip4/127.0.0.1/tcp/1"]),
    "tx delegate": (NODELESS, ["dev:bob", "1"]),
    "tx undelegate": (NODELESS, ["dev:bob", "1"]),
    "tx redelegate": (NODELESS, ["dev:bob", "dev:eve", "1"]),
    "tx claim-rewards": (NODELESS, ["dev:bob"]),
    "tx set-commission": (NODELESS, ["10"]),
    "tx unjail": (NODELESS, []),
    "tx retire-validator": (NODELESS, []),
    "tx register-model": (NODELESS, ["@{tmp}/none"]),
    "tx register-verifier": (NODELESS, [HASH]),
    "tx unregister-verifier": (NODELESS, [HASH]),
    "tx top-up-session": (NODELESS, [HASH, "1"]),
    "tx open-session": (NODELESS, [HASH, HASH, "1", "1", "1"]),
    "tx commit-verdict": (NODELESS, [HASH, HASH]),
    "tx reveal-verdict": (NODELESS, [HASH, "0", "0", "0", "0x", HASH]),
    "tx transfer-all": (NODELESS, ["dev:bob"]),
    "tx move-worker": (NODELESS, [HASH, "0", "1"]),
    "tx leave-worker": (NODELESS, [HASH]),
    "tx report-absent": (NODELESS, [HASH]),
    "tx update-worker": (NODELESS, [HASH, PEER, "1nmyl", "1nmyl", "/ip4/127.0.0.1/tcp/1"]),
    "tx settle": (REFUSED, ["{tmp}/none"]),
    "tx settle-statement": (REFUSED, ["{tmp}/none"]),
    "tx report-equivocation": (REFUSED, ["{tmp}/malformed"]),
    "tx join-settlement": (REFUSED, ["{tmp}/none"]),
    "tx report-double-promise": (REFUSED, ["{tmp}/malformed"]),
    "tx propose-params": (NODELESS, ["staking.x=1"]),
    "tx vote-params": (NODELESS, ["1", "--approve"]),
    "tx batch-all": (REFUSED, ["{tmp}"]),
    "tx batch-each": (REFUSED, ["{tmp}/binary"]),
    "tx as-multi": (REFUSED, ["{tmp}/none", "--threshold", "2", "--other", "dev:bob"]),
    "tx approve-as-multi": (NODELESS, [HASH, "--threshold", "2", "--other", "dev:bob"]),
    "tx cancel-as-multi": (NODELESS, [HASH, "--threshold", "2", "--other", "dev:bob", "--opened-height", "1"]),
    "tx call": (REFUSED, ["{tmp}/malformed"]),
    "query head": (NODELESS, []),
    "query block": (NODELESS, ["1"]),
    "query tx": (NODELESS, [HASH]),
    "query account": (NODELESS, ["dev:alice"]),
    "query validators": (NODELESS, []),
    "query models": (NODELESS, []),
    "query workers": (NODELESS, ["smollm2"]),
    "query request": (NODELESS, [HASH]),
    "query session": (NODELESS, [HASH]),
    "query proof": (NODELESS, ["0x00"]),
    "query call": (NODELESS, ["system_health"]),
    "light": (NODELESS, ["--rpc", AWAY]),
    "db check": (REFUSED, ["--base", "{tmp}/none"]),
    "db repair": (REFUSED, ["--base", "{tmp}/badspec"]),
    "snapshot export": (REFUSED, ["{tmp}/out", "--base", "{tmp}/badspec"]),
    "snapshot import": (REFUSED, ["{tmp}/none", "--base", "{tmp}/none"]),
    "snapshot info": (REFUSED, ["{tmp}/none"]),
    "wal repair": (REFUSED, ["--base", "{tmp}/none"]),
    "signer export": (REFUSED, ["--base", "{tmp}/none"]),
    "signer import": (REFUSED, ["{tmp}/binary", "--base", "{tmp}/none"]),
    "signer serve": (REFUSED, ["--validator", "dev:alice", "--socket", "{tmp}/s", "--base", "{tmp}/none"]),
    "model import": (REFUSED, ["{tmp}/binary", "--models", "{tmp}/models"]),
    "model list": (REFUSED, ["--models", "{tmp}/badmodels"]),
    "model register": (REFUSED, ["none", *ALICE, "--models", "{tmp}/models"]),
    "model fetch": (REFUSED, [HASH, "--layers", "3:1", "--models", "{tmp}/models"]),
    "model verify": (REFUSED, ["none", "--models", "{tmp}/models"]),
    "model score": (REFUSED, ["none", "{tmp}/file", "--models", "{tmp}/models"]),
    "model calibrate": (REFUSED, ["none", "--models", "{tmp}/models"]),
    "model check": (REFUSED, ["none", "--models", "{tmp}/models"]),
    "model plan": (REFUSED, ["{tmp}/file", "--fleet", "{tmp}/none", "--models", "{tmp}/models"]),
    "worker run": (
        REFUSED,
        ["--model", "m", "--layers", "0-3", "--base", "{tmp}/w", *ALICE, "--worker", "dev:bob"],
    ),
    "worker plan": (NODELESS, ["--model", "11" * 32, *ALICE, "--worker", "dev:bob", "--rpc", AWAY]),
    "worker repair": (REFUSED, ["--base", "{tmp}/none"]),
    "worker status": (NODELESS, [*ALICE, "--rpc", AWAY]),
    "gateway run": (REFUSED, ["--account", "nobody", "--open", "--base", "{tmp}/gw", "--keys", "{tmp}/keys"]),
    "gateway keys create": (REFUSED, [" ", "--base", "{tmp}/gw"]),
    "gateway keys list": (REFUSED, ["--base", "{tmp}/file/gw"]),
    "gateway keys revoke": (REFUSED, ["nobody", "--base", "{tmp}/gw"]),
    "gateway usage": (REFUSED, ["--base", "{tmp}/file/gw"]),
    "sim economy": (REFUSED, ["--plot", "{tmp}/file/plots"]),
    "bench gateway": (ExitStatus.WRONG_USAGE, []),
    "bench network": (ExitStatus.WRONG_USAGE, []),
    "bench chain": (ExitStatus.WRONG_USAGE, []),
    "bench inference": (ExitStatus.WRONG_USAGE, []),
    "bench sync": (ExitStatus.WRONG_USAGE, []),
    "bench verify": (ExitStatus.WRONG_USAGE, []),
    "infer": (NODELESS, ["hello", "--rpc", AWAY, "--models", "{tmp}/models"]),
    "chat": (REFUSED, ["--account", "nobody", "--keys", "{tmp}/keys", "--models", "{tmp}/models"]),
}
"""command -> (exit status, arguments with which it cannot do its work)."""

NEEDS_NOTHING = {"sim consensus", "sim network"}
"""They read no file and ask no node, and their options are bounded by the parser: they fail by wrong usage alone."""


def list_commands() -> dict[str, Any]:
    """Every command by its whole name."""

    def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        if not hasattr(command, "list_commands"):
            yield name, command
            return
        for one in command.list_commands(None):
            yield from walk(command.get_command(None, one), f"{name} {one}".strip())

    return dict(walk(typer.main.get_command(main.app), ""))


COMMANDS = list_commands()


def has_json(name: str) -> bool:
    return any(one.name == "as_json" for one in COMMANDS[name].params)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with all that can be wrong."""
    (tmp_path / "file").write_text("a file, where a directory is asked for")
    (tmp_path / "malformed").write_text("{ not json")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "badspec").mkdir()
    (tmp_path / "badspec" / "chain.json").write_text("{ not json")
    (tmp_path / "badkeys").mkdir()
    (tmp_path / "badkeys" / "mine.json").write_bytes(bytes(range(256)))
    model = tmp_path / "badmodels" / ("11" * 32)
    model.mkdir(parents=True)
    (model / "manifest.msgpack").write_bytes(b"no manifest")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    return tmp_path


def run(name: str, place: Path, *more: str) -> Any:
    arguments = [one.replace("{tmp}", str(place)) for one in CASES[name][1]]
    if name.startswith("tx "):
        arguments += [*ALICE, "--rpc", AWAY]
    if name.startswith("query "):
        arguments += ["--rpc", AWAY]
    return CliRunner().invoke(main.app, [*name.split(), *arguments, *more], input="")


def test_every_command_has_a_case() -> None:
    assert sorted(COMMANDS) == sorted({*CASES, *NEEDS_NOTHING})


@pytest.mark.parametrize("name", CASES)
def test_a_command_that_cannot_do_its_work_says_so_in_one_line(name: str, place: Path) -> None:
    done = run(name, place)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == CASES[name][0], done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    if name == "query call":
        assert json.loads(done.stderr)["message"]
    else:
        assert done.stderr.startswith("error: ")
    assert len(done.stderr) > len("error: \n")


@pytest.mark.parametrize("name", [one for one in CASES if has_json(one)])
def test_with_json_the_line_is_an_object(name: str, place: Path) -> None:
    done = run(name, place, "--json")
    assert done.exit_code == CASES[name][0], (done.stderr, done.exception)
    assert done.stderr.count("\n") == 1, done.stderr
    found = json.loads(done.stderr)
    assert found["error"].isidentifier()
    assert found["message"]


@pytest.mark.parametrize("name", sorted(NEEDS_NOTHING))
def test_wrong_usage_is_no_traceback(name: str) -> None:
    done = CliRunner().invoke(main.app, [*name.split(), "--seeds", "0"])
    assert done.exit_code == ExitStatus.WRONG_USAGE
    assert "Traceback" not in done.output


def fail_in_keys(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """`myelin keys list --json` as a process, with a fault in it. The exit status."""

    def fail(directory: Path | None) -> Path:
        raise error

    monkeypatch.setattr(keys, "get_keys_dir", fail)
    monkeypatch.setattr(sys, "argv", ["myelin", "keys", "list", "--json"])
    with pytest.raises(SystemExit) as caught:
        main.main()
    return int(caught.value.code or 0)


@pytest.mark.parametrize("bug", [RuntimeError("a bug"), ExceptionGroup("several", [AssertionError("a bug")])])
def test_a_bug_shows_its_traceback_and_where_to_report_it(
    bug: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fail_in_keys(monkeypatch, bug) == ExitStatus.REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert any("Traceback (most recent call last)" in one for one in lines)
    assert any("a bug" in one for one in lines)
    assert lines[-1] == REPORT


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (MyelinError("no"), 1, '{"error": "MyelinError", "message": "no"}\n'),
        (KeyboardInterrupt(), 130, ""),
        (BaseExceptionGroup("", [BaseExceptionGroup("", [KeyboardInterrupt()])]), 130, ""),
        (ExceptionGroup("", [MyelinError("no")]), 1, '{"error": "MyelinError", "message": "no"}\n'),
    ],
)
def test_what_comes_out_of_a_nursery_is_unwrapped(
    error: BaseException,
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fail_in_keys(monkeypatch, error) == status
    assert capsys.readouterr().err == said
