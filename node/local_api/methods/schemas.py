"""JSON Schemas of parameters and results: of records derived, of the rest declared. Knows no method."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any

from node.local_api.methods.params import HASH_BYTES, KEY_BYTES_MAX, KEYS_MAX
from proto_specs.codec import UInt
from proto_specs.types.common import Kind

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer", "minimum": 0}
BOOLEAN: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
ARRAY: Schema = {"type": "array"}
BYTES: Schema = {"type": "string", "pattern": "^0x([0-9a-fA-F]{2})*$"}
HASH: Schema = {"type": "string", "pattern": f"^0x[0-9a-fA-F]{{{2 * HASH_BYTES}}}$"}
_KEY: Schema = {"type": "string", "pattern": f"^0x([0-9a-fA-F]{{2}}){{0,{KEY_BYTES_MAX}}}$"}
_ONE_BLOCK: Schema = {"anyOf": [INTEGER, HASH, {"type": "null"}]}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a method. Optional ones come last, and null stands for one left out."""

    name: str
    schema: Schema
    text: str
    is_required: bool = True


def list_of(item: Schema) -> Schema:
    """Any number of them."""
    return {"type": "array", "items": item}


def or_null(schema: Schema) -> Schema:
    """It, or null for what is not there."""
    return {"anyOf": [schema, {"type": "null"}]}


def one_of(*schemas: Schema) -> Schema:
    """Any of them."""
    return {"anyOf": list(schemas)}


def object_of(**fields: Schema) -> Schema:
    """An object with exactly these fields."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def schema_of(as_type: Any, **more: Schema) -> Schema:
    """A record as `proto_specs.jsonform` writes it; with `more` fields beside its own."""
    found = _derive(as_type)
    if not more:
        return found
    return object_of(**more, **found["properties"])


def _derive(as_type: Any) -> Schema:
    marks: tuple[Any, ...] = ()
    if typing.get_origin(as_type) is typing.Annotated:
        as_type, *rest = typing.get_args(as_type)
        marks = tuple(rest)
    origin = typing.get_origin(as_type)
    if origin in (typing.Union, types.UnionType):
        members = [one for one in typing.get_args(as_type) if one is not type(None)]
        inner = _derive(members[0]) if len(members) == 1 else OBJECT
        return or_null(inner) if type(None) in typing.get_args(as_type) else inner
    if origin is tuple:
        return list_of(_derive(typing.get_args(as_type)[0]))
    if as_type is bytes:
        return TEXT if Kind("account") in marks else BYTES
    if as_type is int:
        bits = [one.bits for one in marks if isinstance(one, UInt)]
        return {**INTEGER, "maximum": (1 << bits[0]) - 1} if bits else INTEGER
    if as_type in (bool, str):
        return BOOLEAN if as_type is bool else TEXT
    hints = typing.get_type_hints(as_type, include_extras=True)
    return object_of(**{one.name: _derive(hints[one.name]) for one in dataclasses.fields(as_type)})


ACCOUNT = Parameter("account", TEXT, "An SS58 address of this chain, or its 32 bytes as 0x hex.")
OPERATOR = Parameter("operator", TEXT, "A validator's operator: an SS58 address, or its 32 bytes as 0x hex.")
BLOCK = Parameter("block", _ONE_BLOCK, "A height or block hash; the last block when left out.", is_required=False)
BLOCKS = Parameter(
    "block", one_of(_ONE_BLOCK, list_of(_ONE_BLOCK)), "A block, or a list of up to 256.", is_required=False
)
KEY = Parameter("key", _KEY, "A state key.")
KEYS = Parameter("keys", {**list_of(_KEY), "minItems": 1, "maxItems": KEYS_MAX}, "State keys.")
PREFIX = Parameter("prefix", _KEY, "What the keys start with.")
COUNT = Parameter("count", {"type": "integer", "minimum": 1, "maximum": 1024}, "How many at most.")
START_KEY = Parameter("start", or_null(_KEY), "The last key of the page before.", is_required=False)
START_HASH = Parameter("start", or_null(HASH), "The last call hash of the page before.", is_required=False)
EXTRINSIC = Parameter("extrinsic", BYTES, "Canonical bytes of a transaction.")
EXTRINSIC_HASH = Parameter("extrinsic", HASH, "Hash of a transaction.")
MODEL = Parameter("model", HASH, "Model id.")
WORKER = Parameter("worker", HASH, "Worker key.")
SESSION = Parameter("session", HASH, "Session id.")
REQUEST = Parameter("request", HASH, "Request id.")
CHALLENGE = Parameter("challenge", HASH, "Challenge id.")
