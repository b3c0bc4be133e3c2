"""Text to token ids and back: byte-level BPE from the TOKENIZER unit, chat template from the CHAT_TEMPLATE unit.

The template is the model owner's code: it runs in jinja2's immutable sandbox and its output is bounded.
"""

from __future__ import annotations

import codecs
import secrets
from collections.abc import Mapping, Sequence
from typing import NoReturn

import jinja2
import tokenizers
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import models, pre_tokenizers

from inference.errors import TokenizerError
from inference.model.gguf import TokenizerData
from inference.model.store import ShardStore
from proto_specs.limits import PROMPT_TEXT_BYTES_MAX
from proto_specs.types.manifest import UnitKind

MESSAGES_MAX = 1024
_NORMAL, _CONTROL = 1, 3
# Pre-tokenizers by llama.cpp's name; each entry was checked text by text against llama.cpp.
_PRE_TOKENIZERS = ("smollm",)


class Tokenizer:
    """Encodes and decodes for one model. Immutable after construction and thread-safe."""

    def __init__(self, data: TokenizerData, chat_template: str, eos_tokens: Sequence[int]) -> None:
        """Raises TokenizerError for a pre-tokenizer we do not reproduce exactly or merges that make no vocabulary."""
        if data.pre not in _PRE_TOKENIZERS:
            raise TokenizerError(
                f"pre-tokenizer {data.pre!r} is not supported: use a model with one of {', '.join(_PRE_TOKENIZERS)}"
            )
        self.eos_tokens = frozenset(eos_tokens)
        self._data = data
        self._special_ids = frozenset(i for i, kind in enumerate(data.types) if kind == _CONTROL)
        self._special_texts = tuple(sorted((data.tokens[i] for i in self._special_ids), key=len, reverse=True))
        self._with_special = _build_bpe(data)
        self._with_special.add_special_tokens(
            [tokenizers.AddedToken(data.tokens[i], special=True, normalized=False) for i in sorted(self._special_ids)]
        )
        self._plain = _build_bpe(data)
        self._bytes = _spell_tokens(data)
        self._template = _compile_template(chat_template)

    @staticmethod
    def load(store: ShardStore, model_id: bytes) -> Tokenizer:
        """From a stored model's verified units. Raises StoreError, ModelFormatError or TokenizerError."""
        manifest = store.load_manifest(model_id)
        data = TokenizerData.from_bytes(store.read_unit(model_id, UnitKind.TOKENIZER))
        template = store.read_unit(model_id, UnitKind.CHAT_TEMPLATE).decode("utf-8", errors="replace")
        return Tokenizer(data, template, manifest.eos_tokens)

    @property
    def vocab(self) -> int:
        """Number of token ids."""
        return len(self._data.tokens)

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Token ids of `text`. Control tokens written out in it are text, unless `allow_special`.

        Raises TokenizerError beyond PROMPT_TEXT_BYTES_MAX bytes or for text that is not Unicode (lone surrogates).
        """
        _check_text(text)
        ids = list((self._with_special if allow_special else self._plain).encode(text, add_special_tokens=False).ids)
        return ids if self._data.bos_token is None else [self._data.bos_token, *ids]

    def encode_chat(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation of {"role", "content"} under the model's template.

        A control token written out in a message stays text: no user can forge another speaker's turn.
        Raises TokenizerError for malformed messages, over-long text, or a template that fails or refuses.
        """
        _check_messages(messages)
        shields: dict[str, str] = {}
        safe = [self._shield(message, shields) for message in messages]
        text = self.render_chat(safe, add_generation_prompt)
        ids: list[int] = []
        for shield in shields:
            before, found, text = text.partition(shield)
            if not found:
                raise TokenizerError("the chat template reorders or drops messages that hold control tokens")
            ids += self._with_special.encode(before, add_special_tokens=False).ids
            ids += self._plain.encode(shields[shield], add_special_tokens=False).ids
        return ids + list(self._with_special.encode(text, add_special_tokens=False).ids)

    def render_chat(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as the template writes it. Raises TokenizerError as `encode_chat`."""
        if self._template is None:
            raise TokenizerError("this model has no chat template: send a plain prompt")
        _check_messages(messages)
        try:
            bos = self._data.tokens[self._data.bos_token] if self._data.bos_token is not None else ""
            text = self._template.render(
                messages=[dict(one) for one in messages], add_generation_prompt=add_generation_prompt, bos_token=bos
            )
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            raise TokenizerError(f"the model's chat template refuses these messages: {error}") from error
        _check_text(text)
        return text

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; control tokens give none, bytes that are not UTF-8 give U+FFFD."""
        return b"".join(self.get_token_bytes(one) for one in ids).decode("utf-8", errors="replace")

    def get_token_bytes(self, token: int) -> bytes:
        """The raw bytes a token stands for (none for control tokens). Raises TokenizerError for an unknown id."""
        if not 0 <= token < len(self._bytes):
            raise TokenizerError(f"token {token} is outside the vocabulary of {len(self._bytes)}")
        return self._bytes[token]

    def is_eos(self, token: int) -> bool:
        """Whether generation ends with this token."""
        return token in self.eos_tokens

    def stream(self) -> Detokenizer:
        """A fresh incremental decoder."""
        return Detokenizer(self)

    def _shield(self, message: Mapping[str, str], shields: dict[str, str]) -> dict[str, str]:
        """The message with each written-out control token replaced by a random text no one can have typed."""
        shielded: dict[str, str] = {}
        for key in ("role", "content"):
            text = message[key]
            position = 0
            while (found := self._find_special(text, position)) is not None:
                start, special = found
                shield = f"shield{secrets.token_hex(16)}"
                shields[shield] = special
                text = text[:start] + shield + text[start + len(special) :]
                position = start + len(shield)
            shielded[key] = text
        return shielded

    def _find_special(self, text: str, start: int) -> tuple[int, str] | None:
        found = [(place, one) for one in self._special_texts if (place := text.find(one, start)) >= 0]
        return min(found, key=lambda pair: (pair[0], -len(pair[1])), default=None)


class Detokenizer:
    """Turns a stream of tokens into a stream of text that is valid UTF-8 at every step."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Text this token completes; a character that needs more tokens is held back."""
        return self._decoder.decode(self._tokenizer.get_token_bytes(token))

    def finish(self) -> str:
        """What was held back at the end: U+FFFD for an unfinished character, else nothing."""
        return self._decoder.decode(b"", final=True)


def _build_bpe(data: TokenizerData) -> tokenizers.Tokenizer:
    vocab = {token: index for index, token in enumerate(data.tokens)}
    try:
        merges = [(left, right) for left, right in (one.split(" ", 1) for one in data.merges)]
        made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"the tokenizer's merges do not fit its vocabulary: {error}") from error
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return made


def _compile_template(source: str) -> jinja2.Template | None:
    if not source:
        return None
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise TokenizerError(f"the model's chat template is not valid: {error}") from error


def _spell_tokens(data: TokenizerData) -> tuple[bytes, ...]:
    """The bytes each token stands for; none for control tokens."""
    strange = set(data.types) - {_NORMAL, _CONTROL}
    if strange:
        raise TokenizerError(
            f"token types {sorted(strange)} are not supported: use a model with normal and control tokens only"
        )
    try:
        return tuple(
            b"" if kind == _CONTROL else bytes(BYTE_OF_CHAR[char] for char in token)
            for token, kind in zip(data.tokens, data.types, strict=True)
        )
    except KeyError as error:
        raise TokenizerError(
            f"the vocabulary is not byte-level: a token holds {error.args[0]!r}; use a byte-level BPE"
        ) from error


def _check_messages(messages: Sequence[Mapping[str, str]]) -> None:
    if not 1 <= len(messages) <= MESSAGES_MAX:
        raise TokenizerError(f"a conversation has 1 to {MESSAGES_MAX} messages, not {len(messages)}")
    for message in messages:
        if set(message) != {"role", "content"} or not all(isinstance(one, str) for one in message.values()):
            raise TokenizerError("a message has a role and a content, both text, and nothing else")
    _check_text("".join(one["role"] + one["content"] for one in messages))


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(str(message))


def _check_text(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise TokenizerError("the text holds lone surrogates: send valid Unicode") from error
    if size > PROMPT_TEXT_BYTES_MAX:
        raise TokenizerError(f"the text has {size} bytes, at most {PROMPT_TEXT_BYTES_MAX} are allowed: shorten it")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in of every byte, inverted."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [one for one in range(256) if one not in printable]
    return {chr(one): one for one in printable} | {chr(256 + place): one for place, one in enumerate(others)}


BYTE_OF_CHAR = _byte_alphabet()
