"""A path on delayed links takes as long as they say, and gives the answer of one without."""

from __future__ import annotations

import itertools
import statistics

from benchmarks.network.delays import LinkSpeed, open_path
from tests.integration.conftest import Model

PROMPT = [5, 6, 7, 8]
DELAY_MS = 30.0


def test_links_take_their_time(model: Model) -> None:
    layers = model.manifest.architecture.layers
    cuts = [0, layers // 2, layers]
    with open_path(model.store.root, model.model_id, cuts) as path:
        (near,) = path.client.ask([PROMPT], 6)
    delayed = LinkSpeed(DELAY_MS, rate_mbit=100)
    with open_path(model.store.root, model.model_id, cuts, lambda source, _: delayed if source >= 0 else None) as path:
        (far,) = path.client.ask([PROMPT], 6)
    assert far.tokens == near.tokens
    gaps_ms = [1e3 * (after - before) for before, after in itertools.pairwise(far.times_s)]
    assert statistics.median(gaps_ms) >= 2 * DELAY_MS, "there to the last stage, and back to the first"
    assert statistics.median(gaps_ms) < 4 * DELAY_MS
