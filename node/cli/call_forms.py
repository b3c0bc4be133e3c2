"""Calls as people write them: from options of a command, or from JSON, to the chain's records. The one place for both.

A form is an object with the call's name under `type` and its fields by name, as `to_json` shows them: accounts are
addresses or key names, bytes 0x hex or `@FILE`, amounts `1.5`, `250nmyl`, or an integer of nmyl. So what `myelin query`
prints can be read back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from node.cli.amounts import parse_amount
from node.cli.errors import CliError
from node.cli.sending import CallSigner
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
from proto_specs.types.calls import Call

AMOUNT_FIELDS = frozenset({"amount", "bond", "deposit", "max_price", "prefill_price", "decode_price"})
"""Balances, which are integers on chain like heights and counts: told apart by name."""

FILE_BYTES_MAX = 1 << 20


class FormInvalid(CliError):
    """What was written is no such call. The message names the field."""


def load_json(path: Path) -> Any:
    """The JSON in a file. Raises FormInvalid, OSError."""
    if path.stat().st_size > FILE_BYTES_MAX:
        raise FormInvalid(f"{path} is longer than any transaction: name the file of one call")
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormInvalid(f"{path} is no JSON ({error}): correct the file") from error


def read_call(form: Any, signer: CallSigner, as_type: Any = Call) -> Any:
    """The call of a form, one of the union `as_type`. Raises FormInvalid, AddressError, KeystoreError, OSError."""
    return _read(as_type, form, "call", signer)


def read_fields(cls: type, form: dict[str, Any], signer: CallSigner, where: str = "") -> Any:
    """A record from its fields by name, all of them and no others."""
    where = where or cls.__name__
    shape = get_shape(cls)
    assert isinstance(shape, RecordShape), f"{where} is a record"
    for name in form:
        if name not in shape.fields:
            _refuse(where, f"has no field {name!r:.40}: it has {', '.join(shape.fields) or 'none'}")
    values = {}
    for name, as_type in shape.fields.items():
        if name not in form:
            _refuse(where, f"lacks the field {name}")
        is_amount = name in AMOUNT_FIELDS and isinstance(get_shape(as_type), IntegerShape)
        if is_amount and isinstance(form[name], str):
            values[name] = parse_amount(form[name])
        else:
            values[name] = _read(as_type, form[name], f"{where}.{name}", signer)
    return cls(**values)


def _read(as_type: Any, value: Any, where: str, signer: CallSigner) -> Any:
    match get_shape(as_type):
        case BooleanShape():
            return value if isinstance(value, bool) else _refuse(where, "has to be true or false")
        case IntegerShape(int(bits), is_signed):
            return _read_int(bits, value, where, is_signed)
        case TextShape(length_max):
            if not isinstance(value, str):
                _refuse(where, "is text")
            _check_length(len(value.encode()), None, length_max, where)
            return value
        case AccountShape():
            return signer.find_account(value) if isinstance(value, str) else _refuse(where, "has to be text")
        case BytesShape(length, length_max):
            found = _read_bytes(value, where)
            _check_length(len(found), length, length_max, where)
            return found
        case ListShape(item, length_max):
            if not isinstance(value, list):
                _refuse(where, "has to be a list")
            items = tuple(_read(item, one, f"{where}[{at}]", signer) for at, one in enumerate(value))
            _check_length(len(items), None, length_max, where)
            return items
        case OptionalShape(inner):
            return None if value is None else _read(inner, value, where, signer)
        case UnionShape(members, is_optional=False):
            return _read_variant(members, value, where, signer)
        case RecordShape(cls):
            if not isinstance(value, dict):
                _refuse(where, f"has to be an object: {cls.__name__}")
            return read_fields(cls, value, signer, where)
        case shape:
            raise TypeError(f"{where}: no call has a field of {shape}")


def _read_variant(members: tuple[type, ...], value: Any, where: str, signer: CallSigner) -> Any:
    classes = {one.__name__: one for one in members}
    if not isinstance(value, dict) or value.get("type") not in list(classes):
        given = value.get("type") if isinstance(value, dict) else value
        _refuse(where, f'is an object with a "type", one of {", ".join(sorted(classes))}; not {given!r:.40}')
    fields = {name: one for name, one in value.items() if name != "type"}
    return read_fields(classes[value["type"]], fields, signer)


def _read_int(bits: int, value: Any, where: str, is_signed: bool) -> int:
    low, top = (-(1 << bits - 1), 1 << bits - 1) if is_signed else (0, 1 << bits)
    if isinstance(value, str) and value.isascii() and len(value) <= len(str(1 << 64)):
        digits = value.removeprefix("-") if is_signed else value
        value = int(value) if digits.isdecimal() else value
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < top:
        _refuse(where, f"has to be an integer from {low} to {top - 1}")
    return value


def _read_bytes(value: Any, where: str) -> bytes:
    if not isinstance(value, str):
        _refuse(where, "has to be text")
    if value.startswith("@"):
        return Path(value[1:]).read_bytes()
    try:
        return bytes.fromhex(value.removeprefix("0x"))
    except ValueError:
        _refuse(where, f"is no 0x hex: {value!r:.40}")


def _check_length(measured: int, length: int | None, length_max: int | None, where: str) -> None:
    if length is not None and measured != length:
        _refuse(where, f"has to have {length} bytes, not {measured}")
    if length_max is not None and measured > length_max:
        _refuse(where, f"is longer than {length_max}")


def _refuse(where: str, text: str) -> NoReturn:
    raise FormInvalid(f"{where} {text}")
