"""Calls as people write them: from options of a command, or from JSON, to the chain's records. The one place for both.

A form is an object with the call's name under `type` and its fields by name, as `to_json` shows them: accounts are
addresses or key names, bytes 0x hex or `@FILE`, amounts `1.5`, `250nmyl`, or an integer of nmyl. So what `myelin query`
prints can be read back.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, NoReturn

from node.cli.amounts import parse_amount
from node.cli.errors import CliError
from node.cli.sending import CallSigner
from proto_specs.codec import Fixed, Max, UInt
from proto_specs.types.calls import Call
from proto_specs.types.common import Kind

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
    return _read_union(as_type, form, "call", signer)


def read_fields(cls: type, form: dict[str, Any], signer: CallSigner, where: str = "") -> Any:
    """A record from its fields by name, all of them and no others."""
    where = where or cls.__name__
    hints = typing.get_type_hints(cls, include_extras=True)
    names = [one.name for one in dataclasses.fields(cls)]
    for name in form:
        if name not in names:
            _refuse(where, f"has no field {name!r:.40}: it has {', '.join(names) or 'none'}")
    values = {}
    for name in names:
        if name not in form:
            _refuse(where, f"lacks the field {name}")
        is_amount = name in AMOUNT_FIELDS
        values[name] = _read(hints[name], form[name], f"{where}.{name}", signer, is_amount=is_amount)
    return cls(**values)


def _read(as_type: Any, value: Any, where: str, signer: CallSigner, *, is_amount: bool = False) -> Any:
    marks: tuple[Any, ...] = ()
    if typing.get_origin(as_type) is typing.Annotated:
        as_type, *rest = typing.get_args(as_type)
        marks = tuple(rest)
    origin = typing.get_origin(as_type)
    if origin in (typing.Union, types.UnionType):
        return _read_union(as_type, value, where, signer)
    if origin is tuple:
        return _read_list(typing.get_args(as_type)[0], marks, value, where, signer)
    if as_type is bytes:
        return _read_bytes(marks, value, where, signer)
    if as_type is bool:
        return value if isinstance(value, bool) else _refuse(where, "has to be true or false")
    if as_type is int:
        return _read_int(marks, value, where, is_amount)
    if as_type is str:
        return (
            _check_length(marks, value.encode(), where, value) if isinstance(value, str) else _refuse(where, "is text")
        )
    assert isinstance(as_type, type), "a record: what else calls are made of"
    if not isinstance(value, dict):
        _refuse(where, f"has to be an object: {as_type.__name__}")
    return read_fields(as_type, value, signer, where)


def _read_union(as_type: Any, value: Any, where: str, signer: CallSigner) -> Any:
    members = typing.get_args(as_type)
    if type(None) in members:
        if value is None:
            return None
        (inner,) = (one for one in members if one is not type(None))
        return _read(inner, value, where, signer)
    names = {one.__name__: one for one in members}
    if not isinstance(value, dict) or value.get("type") not in list(names):
        given = value.get("type") if isinstance(value, dict) else value
        _refuse(where, f'is an object with a "type", one of {", ".join(sorted(names))}; not {given!r:.40}')
    fields = {name: one for name, one in value.items() if name != "type"}
    return read_fields(names[value["type"]], fields, signer)


def _read_list(item: Any, marks: tuple[Any, ...], value: Any, where: str, signer: CallSigner) -> Any:
    if not isinstance(value, list):
        _refuse(where, "has to be a list")
    found = tuple(_read(item, one, f"{where}[{at}]", signer) for at, one in enumerate(value))
    return _check_length(marks, found, where, found)


def _read_int(marks: tuple[Any, ...], value: Any, where: str, is_amount: bool) -> int:
    if isinstance(value, str):
        if is_amount:
            return parse_amount(value)
        if value.isascii() and value.isdecimal() and len(value) <= len(str(1 << 64)):
            value = int(value)
    (bits,) = (one.bits for one in marks if isinstance(one, UInt))
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
        _refuse(where, f"has to be an integer from 0 to {(1 << bits) - 1}")
    return value


def _read_bytes(marks: tuple[Any, ...], value: Any, where: str, signer: CallSigner) -> Any:
    if not isinstance(value, str):
        _refuse(where, "has to be text")
    if Kind("account") in marks:
        return signer.find_account(value)
    if value.startswith("@"):
        found = Path(value[1:]).read_bytes()
    else:
        try:
            found = bytes.fromhex(value.removeprefix("0x"))
        except ValueError:
            _refuse(where, f"is no 0x hex: {value!r:.40}")
    return _check_length(marks, found, where, found)


def _check_length(marks: tuple[Any, ...], measured: Any, where: str, value: Any) -> Any:
    for mark in marks:
        if isinstance(mark, Fixed) and len(measured) != mark.length:
            _refuse(where, f"has to have {mark.length} bytes, not {len(measured)}")
        if isinstance(mark, Max) and len(measured) > mark.length:
            _refuse(where, f"is longer than {mark.length}")
    return value


def _refuse(where: str, text: str) -> NoReturn:
    raise FormInvalid(f"{where} {text}")
