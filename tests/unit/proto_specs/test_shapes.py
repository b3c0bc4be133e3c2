"""Shapes of declared types: one for each kind of field, its bounds with it, and none for what no record holds."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from proto_specs.codec import U16, Max, record
from proto_specs.shapes import (
    AccountShape,
    BooleanShape,
    BytesShape,
    IntegerShape,
    ListShape,
    OptionalShape,
    RecordShape,
    Shape,
    TextShape,
    UnionShape,
    get_shape,
)
from proto_specs.types.calls import Remark, Transfer
from proto_specs.types.common import AccountId, Hash32


@record
class Pair:
    """Two fields."""

    first: U16
    second: Hash32


@pytest.mark.parametrize(
    ("as_type", "shape"),
    [
        (bool, BooleanShape()),
        (int, IntegerShape(None)),
        (U16, IntegerShape(16)),
        (str, TextShape(None)),
        (Annotated[str, Max(7)], TextShape(7)),
        (AccountId, AccountShape()),
        (bytes, BytesShape(None, None)),
        (Hash32, BytesShape(32, None)),
        (Annotated[bytes, Max(7)], BytesShape(None, 7)),
        (tuple[U16, ...], ListShape(U16, None)),
        (Annotated[tuple[AccountId, ...], Max(7)], ListShape(AccountId, 7)),
        (Hash32 | None, OptionalShape(Hash32)),
        (Pair | None, OptionalShape(Pair)),
        (Transfer | Remark, UnionShape((Transfer, Remark), is_optional=False)),
        (Transfer | Remark | None, UnionShape((Transfer, Remark), is_optional=True)),
        (Pair, RecordShape(Pair, {"first": U16, "second": Hash32})),
    ],
)
def test_a_declared_type_has_one_shape(as_type: Any, shape: Shape) -> None:
    assert get_shape(as_type) == shape


def test_fields_keep_their_order() -> None:
    shape = get_shape(Pair)
    assert isinstance(shape, RecordShape)
    assert list(shape.fields) == ["first", "second"]


@pytest.mark.parametrize("as_type", [float, dict, list[int], type(None)])
def test_other_types_have_none(as_type: Any) -> None:
    with pytest.raises(TypeError, match="no JSON form"):
        get_shape(as_type)
