"""A model's shape from its config.json alone: the file, or a directory with it. No weights are needed, nor read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from inference.errors import ModelFormatError
from inference.model.checkpoint.bounded_json import JSON_BYTES_MAX, parse_object
from inference.model.checkpoint.source import Blocks, Values
from inference.model.families.registry import find_family
from inference.model.forms import Role
from inference.model.layout import Part, can_hold
from inference.planning.shape import ChooseForm, ModelShape, make_shape
from proto_specs.types.manifest import Form, UnitKind, WireDtype

CONFIG_FILE = "config.json"
PRECISIONS: Mapping[str, Form] = {
    "fp32": Form.FP32,
    "fp16": Form.FP16,
    "bf16": Form.BF16,
    "fp8": Form.F8_B128,
    "q8": Form.Q8_B32,
    "q4": Form.Q4_B32,
    "q4-min": Form.Q4_B32_MIN,
}
"""What the weights may be stored in: types of checkpoints, GGUF's Q8_0, Q4_0 and Q4_1 (or Q4_K)."""
_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_WIRES = {"fp32": WireDtype.FP32, "fp16": WireDtype.FP16, "bf16": WireDtype.BF16}


class _ConfigOnly:
    """A `Checkpoint` without weights: what families read settings from. A head of its own is taken to be there."""

    is_gguf = False

    def __init__(self, path: Path, settings: Mapping[str, object], kind: str) -> None:
        self.path = path
        self.name = path.parent.name if path.name == CONFIG_FILE else path.stem
        self.settings = settings
        self.kind = kind

    def names(self) -> frozenset[str]:
        return frozenset({"lm_head.weight"})

    def get_shape(self, name: str) -> tuple[int, ...]:
        raise ModelFormatError(f"{self.path.name} alone has no tensor {name:.80}: give the checkpoint's directory")

    def get_form(self, name: str) -> Form:
        self.get_shape(name)
        return Form.FP32

    def read(self, name: str, rows: slice = slice(None)) -> Values:
        raise ModelFormatError(f"{self.path.name} alone has no values of {name:.80}: give the checkpoint's directory")

    def read_blocks(self, name: str, rows: slice = slice(None)) -> Blocks:
        raise ModelFormatError(f"{self.path.name} alone has no values of {name:.80}: give the checkpoint's directory")


def read_config_shape(path: Path, precision: str | None = None, wire_dtype: str = "bf16") -> ModelShape:
    """The shape of the model that a config.json states, every supported family's.

    `precision` is a key of PRECISIONS (None: as the file says, bf16 where it does not). Raises ModelFormatError, in one
    line, for a file that cannot be read, a kind that is not supported, or settings that cannot be run.
    """
    file = path / CONFIG_FILE if path.is_dir() else path
    settings = _flatten(parse_object(_read(file), file.name))
    kind = settings.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise ModelFormatError(f"{file.name} names no model_type: give a model's config.json")
    if wire_dtype not in _WIRES:
        raise ModelFormatError(f"wire dtype {wire_dtype!r:.40} is unknown: use {', '.join(_WIRES)}")
    checkpoint = _ConfigOnly(file, settings, kind)
    family = find_family(checkpoint)
    decoder = family.read_hf(checkpoint)
    family.check(decoder)
    stated = find_precision(settings) if precision is None else precision
    return make_shape(checkpoint.name, family, decoder, _WIRES[wire_dtype], make_chooser(stated))


def make_chooser(precision: str) -> ChooseForm:
    """Forms of parts as an import of such a checkpoint has them: fp32 where a part cannot be held in the form.

    Of fp8 checkpoints the embedding, the head and the router are bf16. Raises ModelFormatError for an unknown one.
    """
    if precision not in PRECISIONS:
        raise ModelFormatError(f"precision {precision!r:.40} is unknown: use {', '.join(PRECISIONS)}")
    wanted = PRECISIONS[precision]

    def choose(kind: UnitKind, index: int, place: int, part: Part) -> Form:
        is_plain = part.role is Role.TABLE or part.name == "router"
        form = Form.BF16 if wanted is Form.F8_B128 and is_plain else wanted
        return form if can_hold(form, part) else Form.FP32

    return choose


def find_precision(settings: Mapping[str, object]) -> str:
    """The precision that a config states."""
    quantised = settings.get("quantization_config")
    if isinstance(quantised, Mapping):
        if quantised.get("quant_method") == "fp8":
            return "fp8"
        raise ModelFormatError(
            "the config is of a quantised checkpoint: say with --precision what it will be stored in"
        )
    return _DTYPES.get(str(settings.get("dtype", settings.get("torch_dtype"))), "bf16")


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(JSON_BYTES_MAX + 1)
    except OSError as error:
        raise ModelFormatError(f"{file} cannot be read ({error.strerror}): give a config.json or a directory") from None


def _flatten(config: Mapping[str, object]) -> dict[str, object]:
    """The language model's settings, as an import has them (`hf_directory.py`)."""
    inner = config.get("text_config")
    settings = {**config, **inner} if isinstance(inner, Mapping) else dict(config)
    settings.pop("text_config", None)
    old = settings.pop("torch_dtype", None)
    if old is not None:
        settings.setdefault("dtype", old)
    return settings
