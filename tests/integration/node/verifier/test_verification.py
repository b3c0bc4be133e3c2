"""What workers served is opened to a verifier over libp2p: honest work passes at distance zero, every cheat fails."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.engine.ort import ShardSession
from inference.model.graph.shard import ShardRange
from inference.model.tokenizer.tokenizer import Tokenizer
from inference.serving.client import SettlementSent
from node.verifier.judge import Judge
from proto_specs.types.calls import Outcome, Settle
from tests.actors.cheating import load_doctored
from tests.actors.doctor import Cheat
from tests.integration.conftest import Model
from tests.integration.node.verifier.judging import Verifier
from tests.integration.node.worker.network import Network, open_network

RANGES = [(0, 10), (10, 20), (20, 30)]
TOKENS = 40


@pytest.fixture(scope="module")
def judge(model: Model) -> Judge:
    return Judge(model.store)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    """Doctored weights are large: gone when the test is."""
    yield tmp_path / "doctored"
    shutil.rmtree(tmp_path / "doctored", ignore_errors=True)


async def serve_one(network: Network) -> Settle:
    model = network.model
    prompt = tuple(
        Tokenizer.load(model.store, model.model_id).encode_chat([{"role": "user", "content": "Tell me about whales."}])
    )
    _, end = await network.ask(network.make_order(prompt, TOKENS, 0), prompt)
    assert isinstance(end, SettlementSent), end
    await network.wait_idle()
    (settle,) = network.stages[-1].archive.settlements.values()
    return settle


async def test_honest_openings_pass(model: Model, judge: Judge, tmp_path: Path) -> None:
    async with open_network(model, RANGES) as network:
        settle = await serve_one(network)
        verifier = Verifier(network, judge, tmp_path)
        windows = settle.stage_roots[0].roots.windows
        assert windows >= 2
        for stage in range(3):
            for window in range(windows):
                verdict = await verifier.judge(settle, stage, window)
                assert verdict is not None, (stage, window)
                assert (verdict.outcome, verdict.token_mismatches) == (Outcome.PASS, 0)
                # Single rows go through another kernel than the verifier's many.
                assert verdict.distance_ppb <= model.manifest.profile.threshold_ppb // 10, (stage, window)
                assert any(verdict.fingerprint)
        kept = network.stages[1].archive.disk.openings
        for request, stage in kept.list_kept():
            kept.delete(request, stage)
        assert await verifier.judge(settle, 1, 0) is None, "nobody is accused before the last moment"


def make_cheating(model: Model, cheat: str, stage: int, workspace: Path) -> ShardSession:
    start, end = RANGES[stage]
    directory = model.store.get_directory(model.model_id)
    return load_doctored(directory, workspace, ShardRange(model.manifest, start, end), Cheat(cheat))


@pytest.mark.slow
@pytest.mark.parametrize(("cheat", "cheater"), [("quantise", 0), ("perturb", 1), ("skip", 2)])
async def test_a_doctored_shard_fails_in_every_window_and_the_others_pass(
    model: Model, judge: Judge, tmp_path: Path, workspace: Path, cheat: str, cheater: int
) -> None:
    cheating = make_cheating(model, cheat, cheater, workspace)
    async with open_network(model, RANGES, sessions={cheater: cheating}) as network:
        settle = await serve_one(network)
        verifier = Verifier(network, judge, tmp_path / "verdicts")
        threshold = model.manifest.profile.threshold_ppb
        for stage in range(3):
            for window in range(settle.stage_roots[0].roots.windows):
                verdict = await verifier.judge(settle, stage, window)
                assert verdict is not None
                if stage == cheater:
                    assert verdict.outcome == Outcome.FAIL, (stage, window)
                    assert verdict.distance_ppb > 100 * threshold
                else:
                    assert verdict.outcome == Outcome.PASS, (stage, window)
                    assert verdict.distance_ppb <= threshold // 10
