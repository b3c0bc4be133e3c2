"""What a conversation may hold: JSON of bounded size, messages with a role."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from inference.errors import TextTooLong, TokenizerError
from proto_specs.limits import PROMPT_TEXT_BYTES_MAX

MESSAGES_MAX = 1024
VALUES_MAX = 1 << 15
DEPTH_MAX = 32
_RESERVED = frozenset({"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"})


def check_conversation(
    messages: Sequence[Mapping[str, object]],
    tools: Sequence[Mapping[str, object]] | None,
    variables: Mapping[str, object],
) -> None:
    """Raises TokenizerError for what is no conversation or beyond a limit."""
    if not 1 <= len(messages) <= MESSAGES_MAX:
        raise TokenizerError(f"a conversation has 1 to {MESSAGES_MAX} messages, not {len(messages)}")
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or len(message) < 2:
            raise TokenizerError("a message has a role, a text, and what it says: give both")
        if not isinstance(message.get("content"), (str, list, tuple, type(None))):
            raise TokenizerError("a message's content is a text or a list of parts")
    if not all(isinstance(one, Mapping) for one in tools or ()):
        raise TokenizerError("tools are a list of descriptions, each an object")
    if _RESERVED & set(variables):
        raise TokenizerError(f"the names {', '.join(sorted(_RESERVED))} are set by us: use other variables")
    texts = []
    for count, value in enumerate(_walk([list(messages), list(tools or ()), dict(variables)])):
        if count >= VALUES_MAX:
            raise TokenizerError(f"a conversation holds at most {VALUES_MAX} values: shorten it")
        if isinstance(value, str):
            texts.append(value)
    check_text("".join(texts))


def check_text(text: str) -> None:
    """Raises TokenizerError beyond PROMPT_TEXT_BYTES_MAX bytes or for text that is not Unicode (lone surrogates)."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise TokenizerError("the text holds lone surrogates: send valid Unicode") from error
    if size > PROMPT_TEXT_BYTES_MAX:
        raise TextTooLong(f"the text has {size} bytes, at most {PROMPT_TEXT_BYTES_MAX} are allowed: shorten it")


def _walk(value: object, depth: int = 0) -> Iterator[object]:
    """Every value in it, keys too. Raises TokenizerError for what is not JSON or too deep."""
    if depth > DEPTH_MAX:
        raise TokenizerError(f"a conversation is nested at most {DEPTH_MAX} deep: flatten it")
    yield value
    if isinstance(value, Mapping):
        for key, one in value.items():
            if not isinstance(key, str):
                raise TokenizerError("the keys of a conversation's objects are texts")
            yield key
            yield from _walk(one, depth + 1)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _walk(one, depth + 1)
    elif isinstance(value, int):
        if value.bit_length() > 64:
            raise TokenizerError("a number in a conversation has at most 64 bits: write it as a text")
    elif not isinstance(value, (str, float, type(None))):
        raise TokenizerError(f"a conversation is JSON, it cannot hold a {type(value).__name__}")
