"""SmolLM2 in three shards with drafts: the same tokens in fewer calls, greedy and sampled, alone and with others."""

from __future__ import annotations

import pytest

from inference.decoding.source import ChooserSource
from inference.drafting.speculator import Speculator
from inference.engine.batcher import StageBatcher
from inference.engine.engine import StageEngine
from inference.engine.ort import ShardSession
from proto_specs.types.sampling import GrammarKind, SamplingParams, make_grammar
from tests.integration.inference.conftest import RealModel
from tests.unit.inference.engine.drafted_path import Speaker, let_speculate, run_path

GREEDY = SamplingParams(0, 0, 1000, 0)
SAMPLED = SamplingParams(600, 0, 950, 11, 0, 1050, stop=(b"Peter",))
LETTER = (
    "Dear Ms. Andersen,\n\nThank you for your letter of the 14th. We have looked at the three options you described and"
    " would like to go ahead with the second one, the renovation of the east wing, starting in the first week of May."
    " The costs would be shared as follows: our company covers the materials and two thirds of the labour, and the city"
    " covers the remaining third.\n\nKind regards,\nPeter Holm"
)
GRAMMAR = b'start: "Dear Ms. Andersen," /[^?]{40,90}/'


def make(real: RealModel, key: int, question: str, params: SamplingParams, grammar: bytes = b"") -> Speaker:
    prompt = real.ask(question).tolist()
    source = ChooserSource(real.store, real.model_id, real.manifest)
    return Speaker(bytes([key]) * 32, prompt, 72, source.make(params, prompt, grammar))


def run(shards: list[ShardSession], speakers: list[Speaker], is_drafted: bool) -> None:
    for one in speakers if is_drafted else ():
        let_speculate(one, Speculator(one.positions_max), lambda count: 0.16 + 0.002 * count)
    run_path([StageBatcher(StageEngine(session, 2_000)) for session in shards], speakers)


@pytest.mark.slow
def test_drafts_change_no_token_of_smollm2(real: RealModel, shards: list[ShardSession]) -> None:
    ruled = SamplingParams(600, 0, 950, 3, grammar=make_grammar(GrammarKind.LARK, GRAMMAR))

    def make_all() -> list[Speaker]:
        copy = f"Repeat the following letter word for word:\n\n{LETTER}"
        return [
            make(real, 0, copy, GREEDY),
            make(real, 1, copy, SAMPLED),
            make(real, 2, "Tell me about the city of Venice.", SAMPLED),
            make(real, 3, copy, ruled, GRAMMAR),
        ]

    alone = make_all()
    for one in alone:
        run(shards, [one], is_drafted=False)
    together = make_all()
    run(shards, together, is_drafted=True)
    for one, wanted in zip(together, alone, strict=True):
        assert one.drawn == wanted.drawn
    assert len(together[0].drafted) <= len(alone[0].drafted) // 5, "what is copied takes few calls"
    assert sum(together[2].drafted) > 0, "free text is drafted too"
