"""Which tokens end a generation: those a checkpoint names and, by llama.cpp's list, those known by their text."""

from __future__ import annotations

from collections.abc import Iterable

from inference.errors import ModelFormatError
from inference.model.tokenizer.data import TokenizerData, TokenType
from proto_specs.limits import EOS_TOKENS_MAX

_END_TEXTS = frozenset(
    {
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
        "<|endoftext|>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>",
        "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[", "<|fim_pad|>", "<fim-pad>",
        "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>",
        "<|file_sep|>",
    }
)  # fmt: skip
_S = "</s>"


def is_end_text(token: str) -> bool:
    """Whether a token of this text ends generations in every vocabulary that has it as a special token."""
    return token in _END_TEXTS


def find_end_tokens(data: TokenizerData, stated: Iterable[int]) -> tuple[int, ...]:
    """`stated` and the control tokens known by their text, sorted.

    Raises ModelFormatError when there is none, or more than a manifest can name.
    """
    controls = {token: index for index, token in enumerate(data.tokens) if data.types[index] == TokenType.CONTROL}
    found = {index for token, index in controls.items() if is_end_text(token) or token == _S}
    texts = {data.tokens[index] for index in found}
    # Where <|end|> ends a channel and not the answer, <|return|> or <|flush|> ends the answer.
    if "<|end|>" in texts and {"<|call|>", "<|calls|>"} & texts and {"<|return|>", "<|flush|>"} & texts:
        found.discard(controls["<|end|>"])
    found |= set(stated)
    if not 1 <= len(found) <= EOS_TOKENS_MAX:
        raise ModelFormatError(
            f"the model names {len(found)} tokens that end a generation, 1 to {EOS_TOKENS_MAX} are allowed: "
            "state its eos token"
        )
    return tuple(sorted(found))
