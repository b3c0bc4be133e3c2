"""The OpenRPC document is one, and says what the methods do: their parameters are recorded, their results validated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from referencing import Registry
from referencing.jsonschema import DRAFT7

from consensus.runtime.balances.state import accounts
from node.local_api.methods.all import METHODS, NodeView, call_method
from node.local_api.methods.params import Params
from node.local_api.methods.schemas import Parameter
from node.store.retention import Retention
from proto_specs.codec import encode
from proto_specs.ss58 import encode_address
from proto_specs.types.calls import Delegate, ParamChange, ProposeParams, Undelegate
from proto_specs.types.chain import DuplicateVote, Evidence
from tests.property.proto_specs.shapes import make_smallest
from tests.unit.node.local_api.calling import call
from tests.unit.node.world import ALICE, BOB, MYL, World, sign_call

META = json.loads((Path(__file__).parents[3] / "fixtures" / "openrpc-meta-schema.json").read_text("utf-8"))
JSON_SCHEMA = "https://meta.json-schema.tools"


def view_of(world: World) -> NodeView:
    return NodeView(world.genesis.spec, world.store, world.pool, lambda: 0)


def validate_document(document: Any) -> None:
    """Against the meta-schema, with JSON Schema itself standing where it refers to it. Raises ValidationError."""
    own = {"JSONSchemaObject": {"properties": {"$ref": {"type": "string"}}}}
    stand_in = {"allOf": [{"$ref": "http://json-schema.org/draft-07/schema#"}], "definitions": own}
    resource = DRAFT7.create_resource(stand_in)
    known: Registry[Any] = SPECIFICATIONS.with_resources((one, resource) for one in (JSON_SCHEMA, f"{JSON_SCHEMA}/"))
    jsonschema.Draft7Validator(META, registry=known).validate(document)


def make_samples(world: World) -> dict[str, Any]:
    """A value for each parameter; many methods find something under it."""
    waiting = world.transfer(2)
    unknown = f"0x{'ab' * 32}"
    named = {
        "account": encode_address(BOB.account, 42),
        "operator": encode_address(ALICE.account, 42),
        "key": f"0x{accounts.key(BOB.account).hex()}",
        "keys": [f"0x{accounts.key(BOB.account).hex()}", "0x00"],
        "prefix": "0x",
        "count": 5,
        "block": 2,
        "subject": encode_address(BOB.account, 42),
        "types": ["Transferred"],
        "before": 3,
        "evidence": f"0x{encode(make_smallest(DuplicateVote), Evidence).hex()}",
        "extrinsic": f"0x{encode(waiting).hex()}",
    }
    return {one.name: named.get(one.name, unknown) for found in METHODS.values() for one in found.takes}


def busy(world: World) -> World:
    world.reopen(Retention(is_indexed=True))
    genesis = world.genesis.hash
    world.add_block([world.transfer(0), sign_call(genesis, BOB, 0, Delegate(ALICE.account, 50 * MYL))])
    world.add_block([sign_call(genesis, ALICE, 1, ProposeParams((ParamChange("system.byte_price", 7),)))])
    world.add_block([sign_call(genesis, BOB, 1, Undelegate(ALICE.account, 20 * MYL))])
    return world


def choose(samples: dict[str, Any], one: Parameter) -> Any:
    value = samples[one.name]
    is_hash = one.name == "extrinsic" and one.text.startswith("Hash")
    return f"0x{'ab' * 32}" if is_hash else value


def test_it_is_an_openrpc_document_with_every_method(world: World) -> None:
    document = json.loads(json.dumps(call_method(view_of(world), "rpc.discover", [])))
    validate_document(document)
    assert [one["name"] for one in document["methods"]] == sorted(METHODS)
    for one in document["methods"]:
        assert one["summary"]
        jsonschema.Draft7Validator.check_schema(one["result"]["schema"])
        for parameter in one["params"]:
            jsonschema.Draft7Validator.check_schema(parameter["schema"])
    del document["methods"][0]["name"]
    with pytest.raises(jsonschema.ValidationError):
        validate_document(document)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_parameters_are_taken_as_declared_and_results_are_as_declared(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    samples, found = make_samples(busy(world)), METHODS[name]
    taken: list[str] = []
    take_next = Params._next  # noqa: SLF001

    def record(self: Params, parameter: str) -> Any:
        taken.append(parameter)
        return take_next(self, parameter)

    monkeypatch.setattr(Params, "_next", record)
    values = [choose(samples, one) for one in found.takes]
    for one, value in zip(found.takes, values, strict=True):
        jsonschema.validate(value, one.schema)
    required = len([one for one in found.takes if one.is_required])
    for count in {required, len(values)}:
        taken.clear()
        result = json.loads(json.dumps(call(view_of(world), name, values[:count])))
        assert taken == [one.name for one in found.takes]
        jsonschema.validate(result, found.gives)
    assert [one.is_required for one in found.takes] == [at < required for at in range(len(found.takes))]


def test_records_in_results_are_described_to_the_field(world: World) -> None:
    """A field more or less than declared is seen."""
    busy(world)
    who = encode_address(BOB.account, 42)
    (found,) = call_method(view_of(world), "staking_delegations", [who])
    schema = METHODS["staking_delegations"].gives
    jsonschema.validate([found], schema)
    for wrong in ({**found, "more": 1}, {k: v for k, v in found.items() if k != "pending"}, {**found, "amount": -1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate([wrong], schema)
