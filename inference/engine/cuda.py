"""Whether a CUDA device can be used, and how: found out before the runtime is asked, which says it on its log alone.

The runtime itself falls back to the CPU where anything is missing. Nothing here imports it (ort.py does).
"""

from __future__ import annotations

import contextlib
import ctypes
import io
from collections.abc import Callable, Collection, Mapping

from inference.engine.device import Device
from inference.errors import DeviceError
from proto_specs.types.manifest import Manifest, ServiceClass

PROVIDER = "CUDAExecutionProvider"
DRIVER = "libcuda.so.1"
_LIBRARIES = ("libcudart.so.{0}", "libcublasLt.so.{0}", "libcublas.so.{0}", "libcurand.so.10")
"""What the provider is linked with, by CUDA's major version. It is not loaded itself: the runtime must be the first."""

SESSION_SETTINGS: Mapping[str, str] = {
    "session.disable_cpu_ep_fallback": "1",
    "session.record_ep_graph_assignment_info": "1",
}


def make_provider_options(device: Device) -> dict[str, str]:
    """Options of the provider. TF32 would round inputs of products to 10 bits, far beyond the exact class."""
    return {
        "device_id": str(device.number),
        "use_tf32": "0",
        "enable_cudnn": "0",  # no operator of our graphs is a convolution
        "arena_extend_strategy": "kSameAsRequested",  # KV memory is large: doubling would waste as much again
    }


def require_cuda(device: Device, available: Collection[str], version: str, preload: Callable[[], object]) -> None:
    """Raises DeviceError, with the reason, unless this machine and this runtime can compute on the device.

    `available` are the runtime's providers, `version` is the CUDA it was built with, `preload` loads CUDA's libraries
    from site packages.
    """
    if PROVIDER not in available:
        raise DeviceError(f"{device}: this build of onnxruntime has no CUDA: install onnxruntime-gpu, or use cpu")
    count = _count_gpus(device)
    if device.number >= count:
        raise DeviceError(f"{device}: {count} GPUs are visible here, counted from 0: name one of them, or use cpu")
    try:
        _load(version)
    except OSError:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            preload()
        try:
            _load(version)
        except OSError as error:
            raise DeviceError(
                f"{device}: libraries of CUDA {version} are missing ({error}): `pip install 'onnxruntime-gpu[cuda]'"
                f" 'nvidia-cublas=={version.split('.')[0]}.*'`, or use cpu"
            ) from error


def require_exact(device: Device, manifest: Manifest) -> None:
    """Raises DeviceError for the fast class: its products round rows to int8, which CUDA's kernel does not."""
    if manifest.service_class == ServiceClass.FAST:
        raise DeviceError(f"{device}: {manifest.name} is of the fast class, int8 products of CPUs: use cpu for it")


def _count_gpus(device: Device) -> int:
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        raise DeviceError(f"{device}: no NVIDIA driver is here ({error}): install it, or use cpu") from error
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        raise DeviceError(f"{device}: no GPU is visible here (CUDA driver says {code}): check `nvidia-smi`, or use cpu")
    return count.value


def _load(version: str) -> None:
    for name in _LIBRARIES:
        ctypes.CDLL(name.format(version.split(".")[0]))


def check_placement(
    device: Device, providers: Collection[str], options: Mapping[str, str], nodes: Mapping[str, Collection[str]]
) -> None:
    """Raises DeviceError unless a session is what was asked for.

    `providers` are those it got, `options` the CUDA provider's, `nodes` the operators that each provider took.
    """
    if PROVIDER not in providers:
        raise DeviceError(f"{device}: the runtime fell back to {', '.join(providers)}: see its log, or use cpu")
    wrong = {key: options.get(key) for key, value in make_provider_options(device).items() if options.get(key) != value}
    if wrong:
        raise DeviceError(f"{device}: the runtime did not take the options {wrong}: use another version of it, or cpu")
    elsewhere = sorted({one for name, kinds in nodes.items() if name != PROVIDER for one in kinds})
    if elsewhere:
        raise DeviceError(f"{device}: the runtime puts {', '.join(elsewhere)} on another device: use cpu")
