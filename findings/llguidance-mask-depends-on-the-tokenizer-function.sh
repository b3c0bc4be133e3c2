#!/usr/bin/env bash
# llguidance 1.9.1: which tokens a grammar allows depends on the function that tokenizes text, not on the vocabulary alone.
# Three tokenizers over one vocabulary, one JSON schema: where the schema forces text, the allowed tokens are those with which
# the tokenizer would write it; a tokenizer that answers nothing makes the engine pass over the forced text without a word, and
# what is generated then is no JSON. Two engines that should agree (a server and whoever checks it) need the same function, or
# the option `no_forcing`, which allows every token that fits.
# Seen with llguidance 1.9.1 on Python 3.11, tokens allowed at the start and after '{"': at the end of this file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check llguidance==1.9.1
"$folder/venv/bin/python" - <<'PY' | tee "$folder/seen"
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

TOKENS = [b"<eos>", *(bytes([one]) for one in b'a"{}: 12'), b'{"', b'{"a', b'a"', b'":']
SCHEMA = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false}'


class Vocabulary:
    tokens, special_token_ids = TOKENS, [0]
    bos_token_id, eos_token_id = None, 0

    def __init__(self, tokenize):
        self.tokenize = tokenize

    def __call__(self, text):
        return self.tokenize(bytes(text))


def by_bytes(text):
    return [TOKENS.index(bytes([one])) for one in text if bytes([one]) in TOKENS]


def by_longest(text):
    found = []
    while text:
        fitting = max((one for one in TOKENS[1:] if text.startswith(one)), key=len, default=None)
        found += [] if fitting is None else [TOKENS.index(fitting)]
        text = text[len(fitting or b"?") :]
    return found


def not_at_all(_text):
    return []


def list_allowed(matcher):
    mask = matcher.compute_bitmask()
    return [TOKENS[at].decode() for at in range(len(TOKENS)) if mask[at // 8] >> at % 8 & 1]


for option in ("", '\n%llguidance {"no_forcing": true}\n'):
    for tokenize in (by_bytes, by_longest, not_at_all):
        tokenizer = LLTokenizer(TokenizerWrapper(Vocabulary(tokenize)), eos_token=0)
        matcher = LLMatcher(tokenizer, f"start: %json {SCHEMA}{option}")
        first = list_allowed(matcher)
        matcher.consume_token(TOKENS.index(b'{"'))
        print("no_forcing" if option else "default", tokenize.__name__, first, list_allowed(matcher))
PY
diff "$folder/seen" - <<'SEEN'
default by_bytes ['{', '{"', '{"a'] ['a']
default by_longest ['{', '{"', '{"a'] ['a', 'a"']
default not_at_all ['"', ' '] [':', ' ']
no_forcing by_bytes ['{', '{"', '{"a'] ['a', 'a"']
no_forcing by_longest ['{', '{"', '{"a'] ['a', 'a"']
no_forcing not_at_all ['{', '{"', '{"a'] ['a', 'a"']
SEEN
