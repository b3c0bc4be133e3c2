"""Devices as text, and every reason why a CUDA device cannot be used."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from inference.engine import cuda
from inference.engine.device import CPU, Device
from inference.engine.ort import ShardSession
from inference.errors import DeviceError
from inference.model.graph.provider import Provider
from inference.model.graph.shard import ShardRange
from proto_specs.types.manifest import ServiceClass
from tests.unit.inference.conftest import TinyModel

FIRST = Device(Provider.CUDA)
BOTH = (cuda.PROVIDER, "CPUExecutionProvider")


@pytest.mark.parametrize("text", ["cpu", "cuda:0", "cuda:1", "cuda:999"])
def test_text_is_read_and_written(text: str) -> None:
    assert str(Device.parse(text)) == text


def test_cuda_is_the_first_gpu() -> None:
    assert Device.parse("cuda") == FIRST
    assert Device.parse("cpu") == CPU


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:01", "cuda:1000", "cuda:0\n", " cpu", "cpu:0", "x" * 100])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="write cpu, cuda, or cuda:N") as caught:
        Device.parse(text)
    assert "\n" not in str(caught.value)


Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Sets what the driver says and which libraries load."""

    def make(gpus: int = 1, code: int = 0, missing: str = "") -> None:
        def count(place: object) -> int:
            place._obj.value = gpus  # type: ignore[attr-defined]  # noqa: SLF001
            return 0

        def load(name: str) -> SimpleNamespace:
            if missing and name.startswith(missing):
                raise OSError(f"{name}: cannot open shared object file")
            return SimpleNamespace(cuInit=lambda _: code, cuDeviceGetCount=count)

        monkeypatch.setattr(ctypes, "CDLL", load)

    return make


def require(device: Device = FIRST, available: tuple[str, ...] = BOTH) -> None:
    cuda.require_cuda(device, available, "13.0", lambda: print("noise"))


def test_a_machine_with_all_of_it_is_accepted_until_one_thing_is_missing(machine: Machine) -> None:
    machine()
    require()
    machine(gpus=0)
    with pytest.raises(DeviceError):
        require()


def test_a_runtime_without_cuda(machine: Machine) -> None:
    machine()
    with pytest.raises(DeviceError, match="install onnxruntime-gpu"):
        require(available=("CPUExecutionProvider",))


def test_no_driver(machine: Machine) -> None:
    machine(missing="libcuda.so")
    with pytest.raises(DeviceError, match=r"no NVIDIA driver is here \(libcuda.so.1: cannot open"):
        require()


@pytest.mark.parametrize(("gpus", "code"), [(0, 0), (1, 100)])
def test_no_gpu(machine: Machine, gpus: int, code: int) -> None:
    machine(gpus, code)
    with pytest.raises(DeviceError, match=f"CUDA driver says {code}"):
        require()


def test_a_gpu_of_a_number_that_is_not_here(machine: Machine) -> None:
    machine(gpus=2)
    require(Device.parse("cuda:1"))
    with pytest.raises(DeviceError, match="cuda:2: 2 GPUs are visible"):
        require(Device.parse("cuda:2"))


def test_libraries_that_are_missing(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine(missing="libcublasLt")
    with pytest.raises(DeviceError, match=r"libraries of CUDA 13.0 are missing \(libcublasLt.so.13: cannot open"):
        require()
    assert capsys.readouterr().out == "", "what the runtime prints is kept off the terminal"


def check(providers: tuple[str, ...] = BOTH, nodes: dict[str, set[str]] | None = None, **options: str) -> None:
    nodes = nodes if nodes is not None else {cuda.PROVIDER: {"Gemm"}}
    cuda.check_placement(FIRST, providers, cuda.make_provider_options(FIRST) | options, nodes)


def test_a_session_as_it_was_asked_for_and_one_with_a_node_elsewhere() -> None:
    check()
    with pytest.raises(DeviceError, match="puts Gather on another device"):
        check(nodes={cuda.PROVIDER: {"Gemm"}, "CPUExecutionProvider": {"Gather"}})


def test_a_session_that_fell_back() -> None:
    with pytest.raises(DeviceError, match="fell back to CPUExecutionProvider"):
        check(("CPUExecutionProvider",))


def test_a_session_with_tf32() -> None:
    with pytest.raises(DeviceError, match=r"did not take the options \{'use_tf32': '1'\}"):
        check(use_tf32="1")


def test_a_node_on_another_device() -> None:
    with pytest.raises(DeviceError, match="puts Cast, Shape on another device"):
        check(nodes={cuda.PROVIDER: {"Gemm"}, "CPUExecutionProvider": {"Shape", "Cast"}})


def test_the_fast_class_is_of_cpus(model: TinyModel) -> None:
    fast = replace(model.manifest, service_class=ServiceClass.FAST)
    with pytest.raises(DeviceError, match="of the fast class"):
        ShardSession(ShardRange(fast, 0, 1), model.directory, device=FIRST)
