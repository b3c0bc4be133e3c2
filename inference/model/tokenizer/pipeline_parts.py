"""Which pipelines of a tokenizer.json we accept. Loads no library: whoever needs a vocabulary's bytes alone reads it.

What is kept out: parts that we have not checked, and expressions that are not on our list, since an expression of a
stranger's may take time without bound.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from inference.errors import TokenizerError
from inference.model.tokenizer import pre_tokenizers
from inference.model.tokenizer.data import TokenizerData
from inference.model.tokenizer.spelling import SPACE

_KEYS = {"normalizer", "pre_tokenizer", "is_byte_level", "late", "byte_fallback", "fuse_unk", "ignore_merges"}
_PARTS: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    "NFC": {},
    "Prepend": {"prepend": (SPACE,)},
    "Replace": {"pattern": ({"String": " "},), "content": (SPACE,)},
    "ByteLevel": {"add_prefix_space": (True, False), "trim_offsets": (True, False), "use_regex": (True, False)},
    "Digits": {"individual_digits": (True, False)},
    "Metaspace": {
        "replacement": (SPACE,),
        "prepend_scheme": ("always", "never", "first"),
        "split": (True, False),
        "add_prefix_space": (True, False),
    },
}
"""Parts of a pipeline, with their options and the values of these that were checked."""
_NORMALIZERS = {"NFC", "Prepend", "Replace"}
_PRE_TOKENIZERS = {"ByteLevel", "Digits", "Metaspace"}
_EXPRESSIONS = frozenset(
    expression for one in pre_tokenizers.PRE_TOKENIZERS.values() for expression in one.expressions
) | {pre_tokenizers.GPT2.replace("'s|'t|'re|'ve|'m|'ll|'d", "'(?:[sdmt]|ll|ve|re)"), pre_tokenizers.LINES}


def is_byte_level(data: TokenizerData) -> bool:
    """Whether tokens are spelled in GPT-2's byte alphabet. Raises TokenizerError for a pipeline not on our list."""
    return bool(parse_pipeline(data.pipeline)["is_byte_level"])


def check_parts(normalizer: object, pre_tokenizer: object) -> None:
    """Raises TokenizerError for a normalizer or pre-tokenizer, parsed from JSON, that is not on our list."""
    for part in _walk(normalizer, "normalizers"):
        _check_part(part, _NORMALIZERS, "normalizer")
    for part in _walk(pre_tokenizer, "pretokenizers"):
        if part.get("type") == "Split":
            _check_split(part)
        else:
            _check_part(part, _PRE_TOKENIZERS, "pre-tokenizer")


def parse_pipeline(text: str) -> dict[str, Any]:
    """The parts of a tokenizer unit's pipeline. Raises TokenizerError for one not on our list."""
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"the tokenizer's pipeline is not JSON ({error}): fetch the unit again") from error
    if not isinstance(parts, dict) or set(parts) != _KEYS:
        raise TokenizerError("the tokenizer's pipeline has other fields than ours: fetch the unit again")
    switches = ("is_byte_level", "byte_fallback", "fuse_unk", "ignore_merges")
    if not all(type(parts[one]) is bool for one in switches):
        raise TokenizerError("a switch of the tokenizer's pipeline is neither true nor false: fetch the unit again")
    if not isinstance(parts["late"], list) or not all(type(one) is int for one in parts["late"]):
        raise TokenizerError("the tokenizer's pipeline lists no token ids: fetch the unit again")
    check_parts(parts["normalizer"], parts["pre_tokenizer"])
    return parts


def _walk(part: object, members: str, depth: int = 0) -> Iterator[dict[str, Any]]:
    if part is None:
        return
    if not isinstance(part, dict) or depth > 4:
        raise TokenizerError("a part of the tokenizer's pipeline is no object: fetch the model again")
    if part.get("type") != "Sequence":
        yield part
        return
    inner = part.get(members)
    if set(part) != {"type", members} or not isinstance(inner, list) or len(inner) > 16:
        raise TokenizerError("a sequence in the tokenizer's pipeline is malformed: fetch the model again")
    for one in inner:
        yield from _walk(one, members, depth + 1)


def _check_part(part: dict[str, Any], known: set[str], what: str) -> None:
    name = part.get("type")
    if name not in known:
        raise TokenizerError(f"the {what} {name!r} is not supported: we could not reproduce this tokenizer exactly")
    allowed = _PARTS[str(name)]
    for option, value in part.items():
        if option != "type" and value not in allowed.get(option, ()):
            raise TokenizerError(
                f"the {what} {name} with {option} = {value!r} is not supported: we could not reproduce it exactly"
            )


def _check_split(part: dict[str, Any]) -> None:
    pattern = part.get("pattern")
    behavior, invert = part.get("behavior"), part.get("invert", False)
    is_known = False
    if isinstance(pattern, dict) and set(pattern) == {"Regex"}:
        expression = str(pattern["Regex"]).replace("\r", r"\r").replace("\n", r"\n")
        is_known = expression in {one.replace("\r", r"\r").replace("\n", r"\n") for one in _EXPRESSIONS}
        # What an expression of ours does not match stays a piece or, kept alone, is nothing: all characters match one.
        is_known &= (behavior, invert) == ("Isolated", False) or (
            (behavior, invert) == ("Removed", True) and expression.endswith(r"|\s+")
        )
    elif pattern == {"String": " "}:
        is_known = behavior in ("Isolated", "MergedWithPrevious", "MergedWithNext") and invert is False
    if not is_known or set(part) - {"type", "pattern", "behavior", "invert"}:
        shown = str(pattern)[:80]
        raise TokenizerError(f"splitting text at {shown} is not supported: use a model with a known pre-tokenizer")
