"""The execution profiles of imported models: how far honest work may differ, measured (docs/models.md)."""

from __future__ import annotations

from proto_specs.types.manifest import ExecutionProfile, ServiceClass, WireDtype

_ENGINE, _PROVIDER = "onnxruntime-1.31", "cpu"
_THRESHOLD_PPB = {WireDtype.FP32: 40_000, WireDtype.FP16: 15_000, WireDtype.BF16: 8_000}
_TOKEN_MARGIN_MICRO = 2_000

# With activations rounded to int8, noise of 1e-7 becomes 3e-2 of a window, 6e-2 of a row, and a logit.
_FAST_THRESHOLD_PPB = 150_000_000
_FAST_GOLDEN_PPB = 80_000_000
_FAST_TOKEN_MARGIN_MICRO = 2_100_000


def make_profile(service_class: ServiceClass, wire_dtype: WireDtype, decode_rows: int = 1) -> ExecutionProfile:
    """The profile of a model in a class whose boundaries carry that dtype, on the CPU provider.

    Models with experts have two decode rows: where a difference of 1e-7 makes a row take another expert, an honest
    row would be far off (decision 0014).
    """
    if service_class is ServiceClass.FAST:
        return ExecutionProfile(
            precision="int8",
            engine=_ENGINE,
            provider=_PROVIDER,
            threshold_ppb=_FAST_THRESHOLD_PPB,
            token_margin_micro=_FAST_TOKEN_MARGIN_MICRO,
            decode_rows=decode_rows,
            golden_ppb=_FAST_GOLDEN_PPB,
        )
    return ExecutionProfile(
        precision="fp32",
        engine=_ENGINE,
        provider=_PROVIDER,
        threshold_ppb=_THRESHOLD_PPB[wire_dtype],
        token_margin_micro=_TOKEN_MARGIN_MICRO,
        decode_rows=decode_rows,
        golden_ppb=_THRESHOLD_PPB[WireDtype.FP32] // 10,
    )
