"""Text to token ids and back for one model, from its TOKENIZER and CHAT_TEMPLATE units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inference.errors import TokenizerError
from inference.model.store import ShardStore
from inference.model.tokenizer.chat import check_conversation, check_text
from inference.model.tokenizer.codec import Codec
from inference.model.tokenizer.data import TokenizerData, TokenizerKind, TokenType
from inference.model.tokenizer.detokenizer import Detokenizer
from inference.model.tokenizer.shield import Shield
from inference.model.tokenizer.template import ChatTemplate
from inference.model.tokenizer.vocabulary import Vocabulary
from proto_specs.types.manifest import UnitKind


class Tokenizer:
    """Encodes and decodes for one model. Immutable after construction and thread-safe."""

    def __init__(self, data: TokenizerData, chat_template: str, eos_tokens: Sequence[int]) -> None:
        """Raises TokenizerError for a tokenizer we do not reproduce exactly or a template that is not valid."""
        self.eos_tokens = frozenset(eos_tokens)
        self._data = data
        self._codec = Codec(data)
        kinds = (TokenType.CONTROL, TokenType.UNKNOWN)
        self._controls = tuple(one for one, kind in zip(data.tokens, data.types, strict=True) if kind in kinds)
        self._template = ChatTemplate(chat_template) if chat_template else None
        self.template_text = chat_template
        """The chat template's source; empty when the model has none."""

    @staticmethod
    def load(store: ShardStore, model_id: bytes) -> Tokenizer:
        """From a stored model's verified units. Raises StoreError, ModelFormatError or TokenizerError."""
        manifest = store.load_manifest(model_id)
        data = TokenizerData.from_bytes(store.read_unit(model_id, UnitKind.TOKENIZER))
        template = store.read_unit(model_id, UnitKind.CHAT_TEMPLATE).decode("utf-8", errors="replace")
        return Tokenizer(data, template, manifest.eos_tokens)

    @property
    def has_template(self) -> bool:
        """Whether the model has a chat template: conversations can be encoded."""
        return self._template is not None

    @property
    def vocabulary(self) -> Vocabulary:
        """The bytes of every token, for a grammar engine."""
        named = enumerate(zip(self._data.tokens, self._data.types, strict=True))
        controls = {index: token.encode() for index, (token, kind) in named if kind == TokenType.CONTROL}
        return Vocabulary(self._codec.spelled, controls)

    @property
    def vocab(self) -> int:
        """Number of token ids."""
        return len(self._data.tokens)

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Token ids of `text`. Control tokens written out in it are text, unless `allow_special`.

        Raises TokenizerError beyond PROMPT_TEXT_BYTES_MAX bytes or for text that is not Unicode (lone surrogates).
        """
        check_text(text)
        ids = self._codec.encode(text, allow_special)
        if self._data.add_bos and self._data.bos_token is not None:
            ids.insert(0, self._data.bos_token)
        if self._data.add_eos and self._data.eos_token is not None:
            ids.append(self._data.eos_token)
        return ids

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, object]] | None = None,
        **variables: object,
    ) -> list[int]:
        """Token ids of a conversation under the model's template.

        A message has a role and what the template reads, mostly `content`; `variables` (such as documents or
        enable_thinking) are handed to the template. All of it is JSON. A control token written out anywhere in it stays
        text: no user can forge another speaker's turn.
        Raises TokenizerError for malformed or over-long input, or a template that fails, refuses or takes too long.
        """
        check_conversation(messages, tools, variables)
        shield = Shield(self._controls)
        covered = shield.cover({"messages": list(messages), "tools": tools, **variables})
        text = self._render(covered, add_generation_prompt)
        check_text(shield.uncover(text))
        expected = 2 * shield.uncovered
        ids = self._codec.encode(text, allow_special=True, restore=shield.uncover)
        if shield.uncovered != expected:
            raise TokenizerError("a token of this vocabulary cuts what stands for a control token: leave it out")
        return ids

    def render_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, object]] | None = None,
        **variables: object,
    ) -> str:
        """The conversation as the template writes it. Raises TokenizerError as `encode_chat`."""
        check_conversation(messages, tools, variables)
        text = self._render({"messages": list(messages), "tools": tools, **variables}, add_generation_prompt)
        check_text(text)
        return text

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; control tokens give none, bytes that are not UTF-8 give U+FFFD.

        The space that encoding put in front of the text is left out again.
        """
        stream = self.stream()
        return "".join(stream.push(one) for one in ids) + stream.finish()

    def get_token_bytes(self, token: int) -> bytes:
        """The raw bytes a token stands for (none for control tokens). Raises TokenizerError for an unknown id."""
        if not 0 <= token < len(self._codec.spelled):
            raise TokenizerError(f"token {token} is outside the vocabulary of {len(self._codec.spelled)}")
        return self._codec.spelled[token]

    def is_eos(self, token: int) -> bool:
        """Whether generation ends with this token."""
        return token in self.eos_tokens

    def stream(self) -> Detokenizer:
        """A fresh incremental decoder."""
        is_prefixed = self._data.space_prefix and self._data.kind != TokenizerKind.BYTE_LEVEL
        return Detokenizer(self.get_token_bytes, drop_space=is_prefixed)

    def _render(self, variables: dict[str, object], add_generation_prompt: bool) -> str:
        if self._template is None:
            raise TokenizerError("this model has no chat template: send a plain prompt")
        tokens = {"bos_token": self._data.bos_token, "eos_token": self._data.eos_token}
        named = {name: "" if one is None else self._data.tokens[one] for name, one in tokens.items()}
        return self._template.render({**variables, **named, "add_generation_prompt": add_generation_prompt})
