"""The real model: import, text, three shards against one, and decoding against prefill, bit for bit."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from inference.engine.ort import ShardSession
from inference.model.fetch import SMOLLM2
from inference.model.graph.shard import ShardRange
from inference.model.importing import import_model
from proto_specs.types.sampling import SamplingParams
from tests.integration.inference.conftest import RealModel, generate

QUESTIONS = (
    "What is the capital of France?",
    "Why is the sky blue?",
    "Write a haiku about rivers.",
    "Name three prime numbers.",
    "How do magnets work?",
    "Translate 'good morning' into Spanish.",
    "What is photosynthesis?",
    "Give me a recipe for pancakes.",
    "Who wrote Hamlet?",
    "What is 12 + 30?",
    "Explain gravity to a child.",
    "List four colours.",
    "What does a compiler do?",
    "Describe the taste of lemon.",
    "When did the Second World War end?",
    "Write a short story about a robot.",
    "What is the boiling point of water?",
    "Give me advice for a job interview.",
    "What is a binary search?",
    "Say something nice.",
)


def test_a_second_import_of_the_real_file_is_recognised(real: RealModel) -> None:
    calls: list[int] = []
    assert (
        import_model(real.gguf, real.store.root, lambda done, total: calls.append(done), name=SMOLLM2.model)
        == real.manifest
    )
    assert len(calls) == 1


def test_the_tokenizer_reproduces_known_ids(real: RealModel) -> None:
    chat = real.tokenizer.render_chat([{"role": "user", "content": "Hi"}])
    assert chat.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert real.tokenizer.encode("Hello world") == [19556, 905]
    assert real.tokenizer.encode("2026") == [34, 32, 34, 38]
    assert real.ask("Hi")[:3].tolist() == [1, 9690, 198]
    for text in ("naïve café — 東京 🚀", "def f(x):\n\treturn x**2\n", "  spaces   and\r\n lines ", "١٢٣ ½ 0x1F"):
        assert real.tokenizer.decode(real.tokenizer.encode(text)) == text


def test_the_model_answers(real: RealModel, whole: ShardSession) -> None:
    assert "Paris" in real.tokenizer.decode(generate([whole], real.ask(QUESTIONS[0]), 12))


def test_three_shards_write_what_one_writes(real: RealModel, whole: ShardSession, shards: list[ShardSession]) -> None:
    for question in QUESTIONS[:3]:
        prompt = real.ask(question)
        assert generate(shards, prompt, 16) == generate([whole], prompt, 16)
    drawn = SamplingParams(900, 50, 950, 2**63 + 5)
    prompt = real.ask(QUESTIONS[15])
    tokens = generate(shards, prompt, 16, drawn)
    assert tokens == generate([whole], prompt, 16, drawn)
    assert tokens != generate([whole], prompt, 16)


@pytest.mark.slow
def test_prompts_of_64_tokens(real: RealModel, whole: ShardSession, shards: list[ShardSession]) -> None:
    """Every fourth question; `make soak` asks twenty over libp2p."""
    prompts = [real.ask(question) for question in QUESTIONS[::4]]
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(lambda: [generate([whole], prompt, 64) for prompt in prompts])
        three = pool.submit(lambda: [generate(shards, prompt, 64) for prompt in prompts])
        assert three.result() == one.result()


@pytest.mark.parametrize("decode_rows", [1, 2])
def test_decode_and_chunked_prefill_equal_prefill(real: RealModel, decode_rows: int) -> None:
    """Bit for bit where a profile asks for it; else single rows differ by no more than 1e-5 of the largest value."""
    profile = dataclasses.replace(real.manifest.profile, decode_rows=decode_rows)
    session = ShardSession(ShardRange(dataclasses.replace(real.manifest, profile=profile), 0, 30), real.directory)
    tokens = real.ask(QUESTIONS[10])[:64]
    expected = session.run(session.open_kv(64), tokens, tuple(range(len(tokens))))
    assert expected.logits is not None
    for cut in (1, 5, 32):
        kv = session.open_kv(64)
        for start in range(0, len(tokens), cut):
            rows = tokens[start : start + cut]
            output = session.run(kv, rows, tuple(range(len(rows))))
            assert output.logits is not None
            for found, wanted in ((output.hidden, expected.hidden), (output.logits, expected.logits)):
                wanted = wanted[start : start + cut]
                if decode_rows == 2:
                    assert_array_equal(found, wanted)
                else:
                    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_threads_change_no_bit(real: RealModel, shards: list[ShardSession]) -> None:
    two = ShardSession(shards[0].shard, real.directory, threads=2)
    tokens = real.ask(QUESTIONS[0])
    one, other = (session.run(session.open_kv(64), tokens) for session in (shards[0], two))
    assert np.array_equal(one.hidden, other.hidden)
