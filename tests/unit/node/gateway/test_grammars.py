"""Schemas are bounded before an engine sees them."""

from __future__ import annotations

from typing import Any

import pytest

from node.gateway.errors import ApiRefusal
from node.gateway.grammars import write_schema


def nest(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def test_a_schema_keeps_the_order_of_its_properties() -> None:
    schema = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}}
    text = '{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"integer"}}}'
    assert write_schema(schema, "x") == text


@pytest.mark.parametrize(
    "schema",
    [
        nest(30),
        {"enum": ["x"] * 3_000},
        {"enum": ["x" * 40_000]},
        {"$ref": "http://example.com/x"},
        {"anyOf": [{"$ref": 5}]},
        {"pattern": "a" * 257},
        {"maxLength": 1_001},
        {"minItems": 1e9},
    ],
)
def test_what_is_beyond_a_bound_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ApiRefusal) as caught:
        write_schema(schema, "response_format")
    assert (caught.value.status, caught.value.code) == (400, "invalid_json_schema")


def test_what_is_within_is_taken() -> None:
    write_schema({**nest(15), "$defs": {"a": {"pattern": "a" * 256, "maxLength": 1_000}}, "$ref": "#/$defs/a"}, "x")
