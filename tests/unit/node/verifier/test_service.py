"""Which models a verifier registers for: those it could judge, whatever else lies in its store."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import trio

from inference.engine.device import CPU, Device
from inference.model.graph.provider import Provider
from inference.model.store import ShardStore
from node.verifier.judge import Judge
from node.verifier.service import keep_registered
from proto_specs.types.calls import RegisterVerifier
from proto_specs.types.manifest import Manifest, ServiceClass
from tests.property.inference.serving.harness import make_manifest as make_shapeless
from tests.unit.inference.conftest import TinyModel, model

__all__ = ["model"]


class FakeAccount:
    """An account on a chain that knows every model, and of no verifier."""

    def __init__(self) -> None:
        self.public_key = b"v" * 32
        self.chain = SimpleNamespace(get_manifest=self._get, read=self._read)
        self.registered: list[bytes] = []

    async def _get(self, _model: bytes) -> bool:
        return True

    async def _read(self, *_: object) -> tuple[bytes, ...]:
        return ()

    async def execute(self, call: RegisterVerifier) -> None:
        self.registered.append(call.model)


async def register(store: ShardStore, device: Device) -> list[bytes]:
    account = FakeAccount()
    with trio.move_on_after(0.5):
        await keep_registered(account, store, Judge(store, device), set())  # type: ignore[arg-type]
    return account.registered


def change_form(manifest: Manifest) -> Manifest:
    units = tuple(replace(one, forms=(0,) * (len(one.forms) - 1)) if one.forms else one for one in manifest.units)
    return replace(manifest, units=units)


async def test_a_model_that_cannot_be_judged_is_passed_over(model: TinyModel, tmp_path) -> None:
    """The attack: a manifest that no build can run, whose challenges would all go unanswered."""
    store = ShardStore(tmp_path)
    store.save_manifest(replace(model.manifest, architecture=replace(model.manifest.architecture, family="none")))
    store.save_manifest(change_form(model.manifest))
    store.save_manifest(make_shapeless())
    honest = store.save_manifest(model.manifest)
    assert await register(store, CPU) == [honest]


@pytest.mark.parametrize("service_class", ServiceClass)
async def test_a_gpu_does_not_judge_the_fast_class(
    model: TinyModel,
    tmp_path,
    service_class: ServiceClass,
) -> None:
    store = ShardStore(tmp_path)
    stored = store.save_manifest(replace(model.manifest, service_class=service_class))
    found = await register(store, Device(Provider.CUDA))
    assert found == ([stored] if service_class is ServiceClass.EXACT else [])
    assert await register(store, CPU) == [stored]
