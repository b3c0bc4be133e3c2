"""What a model needs to read and write text: its tokenizer, its chat template, and the tokens an answer ends with."""

from __future__ import annotations

from dataclasses import dataclass

from inference.errors import ModelFormatError
from inference.model.checkpoint.source import Checkpoint
from inference.model.tokenizer.from_gguf import read_gguf_chat_template, read_gguf_end_tokens, read_gguf_tokenizer
from inference.model.tokenizer.from_hf import read_hf_chat_template, read_hf_end_tokens, read_hf_tokenizer
from inference.model.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class ModelText:
    """The units TOKENIZER and CHAT_TEMPLATE, and the manifest's end-of-sequence tokens, ascending."""

    tokenizer: bytes
    chat_template: str
    eos_tokens: tuple[int, ...]


def read_text(checkpoint: Checkpoint, vocab: int) -> ModelText:
    """The text half of a checkpoint whose embedding has `vocab` rows.

    The tokenizer is built once, so that one that cannot work is refused here: nobody registers a model that cannot
    answer. Raises ModelFormatError or TokenizerError with the reason.
    """
    if checkpoint.is_gguf:
        data = read_gguf_tokenizer(checkpoint.settings)
        eos = read_gguf_end_tokens(checkpoint.settings, data)
        template = read_gguf_chat_template(checkpoint.settings)
    else:
        data = read_hf_tokenizer(checkpoint.path, vocab)
        eos = read_hf_end_tokens(checkpoint.path, data)
        template = read_hf_chat_template(checkpoint.path)
    if len(data.tokens) > vocab:
        raise ModelFormatError(
            f"the tokenizer of {checkpoint.path.name} has {len(data.tokens)} tokens for {vocab} rows"
        )
    if not eos:
        raise ModelFormatError(f"{checkpoint.path.name} names no token that ends an answer: convert it again")
    Tokenizer(data, template, eos)
    return ModelText(data.to_bytes(), template, eos)
