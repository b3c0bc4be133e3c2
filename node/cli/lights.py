"""`myelin light`: follows a chain without executing it and believes no node: it verifies every answer."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from consensus.light.attack import classify_attack, list_double_votes, list_evidence
from consensus.light.errors import ForkDetected
from consensus.light.verify import LightParams, Trusted, compute_trusting_period_ms, make_trusted, make_trusted_genesis
from consensus.runtime.balances import state as balances
from consensus.runtime.balances.state import Account
from consensus.state.tree import verify_proof
from genesis.builder import build_genesis
from genesis.spec import ChainSpec, load_spec
from node.cli.connect import DEFAULT_RPC, RpcOption, read_prefix
from node.cli.errors import CliError
from node.cli.keyring import ACCOUNT_HELP, KeysOption, find_account, get_keys_dir, parse_block_id
from node.cli.options import JsonOption
from node.cli.running import run_until_signalled
from node.client.rpc import open_rpc
from node.light.client import Confirmed, NobodyConfirms, fetch_trusted, verify_with_witnesses, walk_back
from node.light.errors import SourceLost
from node.light.rpc_source import RpcSource
from node.light.state_file import LightState, load_state, save_state
from node.machine.files import write_synced
from proto_specs.codec import decode, encode
from proto_specs.jsonform import to_json
from proto_specs.ss58 import encode_address
from proto_specs.types.chain import compute_block_hash
from proto_specs.types.gossip import LightBlock

POLL_S = 1.0
LAG_ATTEMPTS = 5


class NotProven(CliError):
    """What a node answered is not what the verified header commits to, or is not there to be proven."""


class TrustMissing(CliError):
    """Nothing is named to begin from."""


class ForkFound(CliError):
    """Two blocks of one height, both signed by those who were trusted. Nothing may be believed until people decide."""


@dataclass(frozen=True, slots=True)
class _Follower:
    """The sources, the parameters that the operator trusts, and what to show."""

    source: RpcSource
    witnesses: tuple[RpcSource, ...]
    params: LightParams
    prefix: int
    state: Path
    account: bytes | None


def light_command(
    rpc: RpcOption = DEFAULT_RPC,
    trust: Annotated[
        str | None,
        typer.Option(help="HEIGHT:HASH of a block, from who you trust. Needed to begin, and after long absence."),
    ] = None,
    genesis: Annotated[Path | None, typer.Option(help="The chain spec: begin from its validators instead.")] = None,
    witness: Annotated[
        list[str] | None, typer.Option(help="JSON-RPC address of another node to compare with. Several may be named.")
    ] = None,
    height: Annotated[int | None, typer.Option(help="The block to verify (default: the newest).", min=1)] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with every new block.")] = False,
    verify_account: Annotated[
        str | None, typer.Option(help=f"Show what an account has, proven. {ACCOUNT_HELP}")
    ] = None,
    trusting_period_s: Annotated[
        int | None,
        typer.Option(help="How old a block may be that validators are trusted by (default: by --genesis).", min=1),
    ] = None,
    state: Annotated[Path | None, typer.Option(help="File that remembers the last verified block.")] = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a node's newest block against one you trust, and accounts against it; stop at a fork with the evidence."""

    async def run() -> None:
        spec = None if genesis is None else load_spec(genesis)
        async with _open(rpc, witness or [], spec, trusting_period_s, state, verify_account, keys) as follower:
            try:
                start = await _find_start(follower, trust, spec)
                await _verify_all(follower, start, height, follow, as_json)
            except ForkDetected as error:
                path = keep_evidence(error, follower.state)
                taken = await _hand_in(error, (follower.source, *follower.witnesses))
                raise ForkFound(f"{error}; it is in {path}; nodes took {taken} offences of it for a block") from error

    trio.run(run_until_signalled, run)


@asynccontextmanager
async def _open(
    rpc: str,
    witnesses: list[str],
    spec: ChainSpec | None,
    trusting_period_s: int | None,
    state: Path | None,
    account: str | None,
    keys: Path | None,
) -> AsyncIterator[_Follower]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_rpc(rpc))
        prefix = await read_prefix(client) if spec is None else spec.ss58_prefix
        source = RpcSource(client, prefix)
        others = [RpcSource(await stack.enter_async_context(open_rpc(url)), prefix) for url in witnesses]
        genesis_hash = await source.get_genesis_hash() if spec is None else build_genesis(spec).hash
        if spec is not None:
            period_ms = compute_trusting_period_ms(spec.params.staking, spec.block_interval_ms)
        elif trusting_period_s is None:
            raise TrustMissing("name the chain spec with --genesis, or the trusting period with --trusting-period-s")
        if trusting_period_s is not None:
            period_ms = trusting_period_s * 1_000
        who = None if account is None else find_account(account, prefix, keys)
        params = LightParams(genesis_hash, period_ms)
        yield _Follower(source, tuple(others), params, prefix, _get_state_path(state, genesis_hash), who)


async def _find_start(follower: _Follower, trust: str | None, spec: ChainSpec | None) -> Trusted:
    """The operator's block, else the remembered one, else genesis. Raises TrustMissing, LightError, SourceLost."""
    genesis_hash = follower.params.genesis
    if trust is not None:
        return await fetch_trusted(*parse_block_id(trust), follower.source, genesis_hash)
    remembered = load_state(follower.state, genesis_hash)
    if remembered is not None:
        return await fetch_trusted(remembered.height, remembered.block_hash, follower.source, genesis_hash)
    if spec is None:
        raise TrustMissing("name a block you trust with --trust HEIGHT:HASH, or the chain spec with --genesis")
    return make_trusted_genesis(genesis_hash, spec.genesis_time_ms, build_genesis(spec).validators)


async def _verify_all(follower: _Follower, start: Trusted, height: int | None, follow: bool, as_json: bool) -> None:
    """Verify a block; with `follow`, verify every new block until the process is asked to stop."""
    trusted = start
    while True:
        target = height or await _read_newest(follower)
        if target <= trusted.height:
            if not follow or trusted is start:
                block = await walk_back(trusted, target, follower.source, follower.params)
                await _show(follower, Confirmed(block, make_trusted(block), 0, (), ()), as_json)
        else:
            found = await _verify(follower, trusted, target)
            trusted = found.trusted
            save_state(follower.state, LightState(follower.params.genesis, trusted.height, trusted.block_hash))
            await _show(follower, found, as_json)
        if not follow:
            return
        height = None
        await trio.sleep(POLL_S)


async def _read_newest(follower: _Follower) -> int:
    block = await follower.source.get_block(0)
    if block is None:
        raise NotProven("the chain has no block yet: try again in a moment")
    return block.header.height


async def _verify(follower: _Follower, trusted: Trusted, target: int) -> Confirmed:
    """Verify a block. Witnesses a block behind are asked again for a few seconds. Raises LightError, SourceLost."""
    for _ in range(LAG_ATTEMPTS):
        try:
            return await _verify_once(follower, trusted, target)
        except NobodyConfirms:
            await trio.sleep(POLL_S)
    return await _verify_once(follower, trusted, target)


async def _verify_once(follower: _Follower, trusted: Trusted, target: int) -> Confirmed:
    witnesses, params = follower.witnesses, follower.params
    return await verify_with_witnesses(trusted, target, follower.source, witnesses, params, _read_clock_ms)


async def _show(follower: _Follower, found: Confirmed, as_json: bool) -> None:
    header = found.block.header
    shown: dict[str, Any] = {
        "height": header.height,
        "block": f"0x{found.trusted.block_hash.hex()}",
        "time_ms": header.time_ms,
        "state_root": f"0x{header.state_root.hex()}",
        "validators": len(found.block.validators.members),
        "steps": found.steps,
        "agreeing": list(found.agreeing),
        "dropped": list(found.dropped),
        "verified": True,
    }
    if follower.account is not None:
        shown["account"] = await _read_account(follower, found.block, follower.account)
    if as_json:
        print(json.dumps(shown), flush=True)
        return
    for name, value in shown.items():
        print(f"{name:11} {', '.join(value) if isinstance(value, list) else value}", flush=True)


async def _read_account(follower: _Follower, block: LightBlock, who: bytes) -> dict[str, Any]:
    """Nonce and balances after the block, proven under its state root. Raises NotProven."""
    key, height = balances.accounts.key(who), block.header.height
    proven = await follower.source.get_proven(key, height)
    if proven is None:
        raise NotProven(f"{follower.source.name} does not keep the state after block {height}: ask an archive node")
    value, proof = proven
    if not verify_proof(block.header.state_root, key, value, proof):
        raise NotProven(f"the proof does not hold under block {height}: do not trust {follower.source.name}")
    account = Account(0, 0, 0) if value is None else decode(Account, value)
    address = encode_address(who, follower.prefix)
    return {"address": address, "exists": value is not None, **to_json(account, follower.prefix)}


async def _hand_in(error: ForkDetected, sources: Sequence[RpcSource]) -> int:
    """Hand the evidence to every node, each of which judges it by its own chain; how often one took some."""
    taken = 0
    for source in sources:
        for evidence in list_evidence(error.attack):
            try:
                taken += await source.submit_evidence(evidence)
            except SourceLost:
                break
    return taken


def keep_evidence(error: ForkDetected, path: Path) -> Path:
    """Write both blocks, and the double votes in them, to a file beside the state; returns its path."""
    attack = error.attack
    found = {
        "kind": classify_attack(attack).value,
        "common_height": attack.common_height,
        "common": f"0x{attack.common_hash.hex()}",
        "blocks": [f"0x{compute_block_hash(one.header).hex()}" for one in (attack.first, attack.second)],
        "double_votes": [f"0x{encode(one).hex()}" for one in list_double_votes(attack)],
        "evidence": f"0x{encode(attack).hex()}",
    }
    target = path.with_suffix(".fork.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_synced(target, (json.dumps(found, indent=1) + "\n").encode())
    return target


def _get_state_path(state: Path | None, genesis_hash: bytes) -> Path:
    return state or get_keys_dir(None).with_name("light") / f"{genesis_hash.hex()[:16]}.json"


def _read_clock_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
