"""Byte-level BPE through the `tokenizers` library: text without control tokens to token ids."""

from __future__ import annotations

from collections.abc import Callable

import tokenizers
from tokenizers import Regex, models, pre_tokenizers

from inference.errors import TokenizerError
from inference.model.tokenizer.data import TokenizerData, TokenType
from inference.model.tokenizer.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer

Encode = Callable[[str], list[int]]


def build_byte_level(data: TokenizerData) -> Encode:
    """What encodes a piece of text. Tokens that are no text cannot come out of it.

    Bytes that the vocabulary has no token for are left out, as the reference does.
    Raises TokenizerError for a pre-tokenizer we do not reproduce or merges that do not fit the vocabulary.
    """
    try:
        pre = PRE_TOKENIZERS[data.pre]
    except KeyError:
        raise TokenizerError(
            f"pre-tokenizer {data.pre!r} is not supported: use a model with one of {', '.join(PRE_TOKENIZERS)}"
        ) from None
    made = tokenizers.Tokenizer(build_bpe(data, ignore_merges=pre.is_whole_word_first))
    made.pre_tokenizer = _build_pre_tokenizer(pre)
    return lambda text: list(made.encode(text, add_special_tokens=False).ids)


def build_bpe(data: TokenizerData, **options: object) -> models.BPE:
    """The library's BPE over the tokens that are text. Raises TokenizerError for merges that do not fit them."""
    kinds = (TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.BYTE)
    pairs = enumerate(zip(data.tokens, data.types, strict=True))
    vocab = {token: index for index, (token, kind) in pairs if kind in kinds}
    try:
        merges = [(left, right) for left, right in (one.split(" ") for one in data.merges)]
        return models.BPE(vocab=vocab, merges=merges, **options)
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(
            f"the tokenizer's merges do not fit its vocabulary: {' '.join(str(error).split())}"
        ) from error


def _build_pre_tokenizer(pre: PreTokenizer) -> pre_tokenizers.PreTokenizer:
    splits = [pre_tokenizers.Split(Regex(one), behavior="isolated") for one in pre.expressions]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
