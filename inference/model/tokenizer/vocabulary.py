"""The bytes of every token, without what cuts text into tokens: for rules that read what a model writes."""

from __future__ import annotations

from dataclasses import dataclass

from inference.model.store import ShardStore
from inference.model.tokenizer.data import TokenizerData, TokenizerKind, TokenType
from inference.model.tokenizer.pipeline_parts import is_byte_level
from inference.model.tokenizer.spelling import spell_byte_level, spell_sentencepiece
from proto_specs.types.manifest import UnitKind


@dataclass(frozen=True)
class Vocabulary:
    """`spelled`: each token's bytes, none for tokens that are no text. `controls`: names of control tokens by id."""

    spelled: tuple[bytes, ...]
    controls: dict[int, bytes]

    @staticmethod
    def load(store: ShardStore, model_id: bytes) -> Vocabulary:
        """From a stored model's verified TOKENIZER unit. Raises StoreError, ModelFormatError or TokenizerError."""
        data = TokenizerData.from_bytes(store.read_unit(model_id, UnitKind.TOKENIZER))
        named = enumerate(zip(data.tokens, data.types, strict=True))
        controls = {index: token.encode() for index, (token, kind) in named if kind == TokenType.CONTROL}
        return Vocabulary(spell_tokens(data), controls)

    def get_bytes(self, token: int) -> bytes:
        """The bytes of a token; none for control tokens and ids outside the vocabulary."""
        return self.spelled[token] if 0 <= token < len(self.spelled) else b""


def spell_tokens(data: TokenizerData) -> tuple[bytes, ...]:
    """The bytes that each token stands for. Raises TokenizerError for a vocabulary that is not what its kind says."""
    in_bytes = data.kind == TokenizerKind.BYTE_LEVEL
    if data.kind == TokenizerKind.PIPELINE:
        in_bytes = is_byte_level(data)
    return (spell_byte_level if in_bytes else spell_sentencepiece)(data.tokens, data.types)
