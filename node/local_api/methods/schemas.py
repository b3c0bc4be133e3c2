"""JSON Schemas of parameters and results: of records derived, of the rest declared. Knows no method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from node.local_api.methods.params import HASH_BYTES, KEY_BYTES_MAX, KEYS_MAX
from proto_specs.shapes import (
    AccountShape,
    BooleanShape,
    BytesShape,
    IntegerShape,
    ListShape,
    OptionalShape,
    RecordShape,
    TextShape,
    UnionShape,
    get_shape,
)

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
    match get_shape(as_type):
        case BooleanShape():
            return BOOLEAN
        case IntegerShape(int(bits), True):
            return {**INTEGER, "minimum": -(1 << bits - 1), "maximum": (1 << bits - 1) - 1}
        case IntegerShape(bits):
            return INTEGER if bits is None else {**INTEGER, "maximum": (1 << bits) - 1}
        case TextShape() | AccountShape():
            return TEXT
        case BytesShape():
            return BYTES
        case ListShape(item):
            return list_of(_derive(item))
        case OptionalShape(inner):
            return or_null(_derive(inner))
        case UnionShape(is_optional=is_optional):
            return or_null(OBJECT) if is_optional else OBJECT
        case RecordShape(fields=fields):
            return object_of(**{name: _derive(one) for name, one in fields.items()})


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
EVIDENCE = Parameter("evidence", BYTES, "Canonical bytes of evidence, with its tag.")
EXTRINSIC_HASH = Parameter("extrinsic", HASH, "Hash of a transaction.")
MODEL = Parameter("model", HASH, "Model id.")
WORKER = Parameter("worker", HASH, "Worker key.")
SESSION = Parameter("session", HASH, "Session id.")
REQUEST = Parameter("request", HASH, "Request id.")
CHALLENGE = Parameter("challenge", HASH, "Challenge id.")
