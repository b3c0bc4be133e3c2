"""A Hugging Face directory (safetensors and config.json) as a `Checkpoint`. Knows no family, no tokenizer, no graph."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.errors import ModelFormatError
from inference.model.checkpoint.bounded_json import JSON_BYTES_MAX, parse_object
from inference.model.checkpoint.e4m3 import E4M3_VALUES, NAN_BITS
from inference.model.checkpoint.mapping import map_file
from inference.model.checkpoint.safetensors_header import LENGTH_BYTES, SafeTensor, scan_safetensors
from inference.model.checkpoint.source import Blocks, Values
from proto_specs.types.manifest import Form

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
SHARDS_MAX = 512
SCALE_SUFFIX = "_scale_inv"
SCALE_BLOCK = 128
"""An fp8 matrix has one scale for each square of so many rows and columns (DeepSeek-V3, section 3.3)."""
_FORMS = {"F32": Form.FP32, "F16": Form.FP16, "BF16": Form.BF16, "F8_E4M3": Form.F8_B128}
_ITEM_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "|u1"}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class _ShardTensor:
    """A tensor and the map of the shard it lies in."""

    tensor: SafeTensor
    data: mmap.mmap


class HfDirectory:
    """An open directory: `Checkpoint`. The files stay mapped; values are computed from the rows asked for."""

    is_gguf = False

    def __init__(self, path: Path, settings: Mapping[str, object], places: Mapping[str, _ShardTensor]) -> None:
        self.path = path
        self.name = _compute_name(path)
        self.settings = settings
        kind = settings.get("model_type")
        if not isinstance(kind, str) or not kind:
            raise ModelFormatError(f"{CONFIG_FILE} in {path.name} names no model_type: fetch it again")
        self.kind = kind
        self._places = places
        self._scales = {
            name + SCALE_SUFFIX
            for name, place in places.items()
            if place.tensor.dtype == "F8_E4M3" and name + SCALE_SUFFIX in places
        }
        _check_quantisation(path, settings)

    def names(self) -> frozenset[str]:
        """Every tensor there is, without the scales of fp8 ones."""
        return frozenset(self._places.keys() - self._scales)

    def get_shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape, [..., out, in]. Raises ModelFormatError for a tensor that is absent."""
        return self._get_place(name).tensor.shape

    def get_form(self, name: str) -> Form:
        """The form of the tensor's dtype. Raises ModelFormatError for a dtype of no weights."""
        tensor = self._get_place(name).tensor
        if tensor.dtype not in _FORMS or not tensor.shape:
            what = tensor.dtype if tensor.shape else "a single number"
            raise ModelFormatError(f"{name} is {what}, no type of weights: save the model as BF16, F16 or F32")
        return _FORMS[tensor.dtype]

    def read(self, name: str, rows: slice = slice(None)) -> Values:
        """fp32 values of rows along the first axis; of fp8 those times their scales, rounded once."""
        self.get_form(name)
        place = self._get_place(name)
        start, stop, step = rows.indices(place.tensor.shape[0])
        assert step == 1, "rows are consecutive"
        stop = max(start, stop)
        with np.errstate(all="ignore"):  # what is no number is refused below
            values = _decode(place.tensor.dtype, _read_items(place, start, stop))
            if place.tensor.dtype == "F8_E4M3":
                scales = self._read_scales(place.tensor, start, stop)
                values *= np.repeat(scales, SCALE_BLOCK, axis=1)[:, : values.shape[1]]
        if not np.isfinite(values).all():
            raise ModelFormatError(f"{name} in {self.path.name} holds NaN or infinity: it is damaged, fetch it again")
        return values

    def read_blocks(self, name: str, rows: slice = slice(None)) -> Blocks:
        """Rows of an fp8 matrix whose columns are whole blocks: codes of e4m3, and each row's scales."""
        place = self._get_place(name)
        start, stop, step = rows.indices(place.tensor.shape[0])
        assert step == 1, "rows are consecutive"
        assert place.tensor.dtype == "F8_E4M3", "other types have no blocks"
        codes = _read_items(place, start, stop).astype(np.uint8)
        scales = self._read_scales(place.tensor, start, stop)
        with np.errstate(all="ignore"):  # what is no number is refused
            is_finite = np.isfinite(scales * E4M3_VALUES[NAN_BITS - 1]).all()
        if (codes & 127 == NAN_BITS).any() or not is_finite:
            raise ModelFormatError(f"{name} in {self.path.name} holds NaN or infinity: it is damaged, fetch it again")
        return Blocks(codes, scales, None)

    def _get_place(self, name: str) -> _ShardTensor:
        place = self._places.get(name)
        if place is None:
            raise ModelFormatError(f"{self.path.name} lacks the tensor {name}: it is incomplete, fetch it again")
        return place

    def _read_scales(self, tensor: SafeTensor, start: int, stop: int) -> Values:
        """The scales of each row from `start` to `stop`, [rows, blocks of K]."""
        place = self._places.get(tensor.name + SCALE_SUFFIX)
        if place is None or len(tensor.shape) != 2:
            raise ModelFormatError(f"{tensor.name} is fp8 without scales of its blocks: use the checkpoint in BF16")
        wanted = tuple(-(-size // SCALE_BLOCK) for size in tensor.shape)
        if place.tensor.shape != wanted or place.tensor.dtype not in ("F32", "BF16", "F16"):
            raise ModelFormatError(
                f"{place.tensor.name} is {place.tensor.dtype} {place.tensor.shape}, not F32 {wanted}: "
                f"only scales of {SCALE_BLOCK} x {SCALE_BLOCK} blocks are supported, use the checkpoint in BF16"
            )
        first = start // SCALE_BLOCK
        scales = _decode(place.tensor.dtype, _read_items(place, first, -(-stop // SCALE_BLOCK)))
        of_rows: Values = scales[np.arange(start, stop) // SCALE_BLOCK - first]
        return of_rows


def open_hf(directory: Path) -> HfDirectory:
    """Open a directory with config.json and model.safetensors, whole or in the shards of its index.

    Raises ModelFormatError for files that are missing, damaged, or outside the directory, and for pickled weights.
    """
    config = parse_object(_read_small(directory, CONFIG_FILE), f"{CONFIG_FILE} in {directory.name}")
    if (directory / WEIGHTS_FILE).exists():
        places = _open_shard(directory, WEIGHTS_FILE)
    elif (directory / INDEX_FILE).exists():
        places = _open_shards(directory)
    else:
        raise _explain_absence(directory)
    return HfDirectory(directory, _flatten_settings(config), _flatten_names(directory, places))


def _open_shards(directory: Path) -> dict[str, _ShardTensor]:
    index = parse_object(_read_small(directory, INDEX_FILE), f"{INDEX_FILE} in {directory.name}")
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFormatError(f"{INDEX_FILE} in {directory.name} has no weight_map: fetch it again")
    if not all(isinstance(file, str) for file in weight_map.values()):
        raise ModelFormatError(f"{INDEX_FILE} in {directory.name} names no files: it is damaged, fetch it again")
    files: list[str] = list(dict.fromkeys(weight_map.values()))
    if len(files) > SHARDS_MAX:
        raise ModelFormatError(f"{INDEX_FILE} in {directory.name} names {len(files)} files: it is damaged")
    places: dict[str, _ShardTensor] = {}
    for file in files:
        found = _open_shard(directory, file)
        stray = found.keys() - {name for name, where in weight_map.items() if where == file}
        if stray:
            raise ModelFormatError(
                f"{INDEX_FILE} does not list {min(stray)!r:.80} of {file}: fetch the directory again"
            )
        places |= found
    absent = weight_map.keys() - places.keys()
    if absent:
        raise ModelFormatError(f"{weight_map[min(absent)]} lacks the tensor {min(absent)!r:.80}: fetch it again")
    return places


def _open_shard(directory: Path, file: str) -> dict[str, _ShardTensor]:
    if not file.endswith(".safetensors"):
        raise ModelFormatError(
            f"{INDEX_FILE} in {directory.name} names {file!r:.80}, no file of weights: fetch it again"
        )
    data = map_file(_locate(directory, file), LENGTH_BYTES)
    return {one.name: _ShardTensor(one, data) for one in scan_safetensors(data, file)}


def _flatten_names(directory: Path, places: Mapping[str, _ShardTensor]) -> dict[str, _ShardTensor]:
    """The tensors of a multimodal model's language model by the names they have where that is all: as its settings."""
    flat: dict[str, _ShardTensor] = {}
    for name, place in places.items():
        plain = name.removeprefix("language_model.")  # transformers 4
        if plain.startswith("model.language_model."):  # transformers 5
            plain = "model." + plain.removeprefix("model.language_model.")
        if plain in flat:
            raise ModelFormatError(f"{directory.name} has the tensor {plain!r:.80} twice: fetch it again")
        flat[plain] = place
    return flat


def _locate(directory: Path, file: str) -> Path:
    """The file's path. Raises ModelFormatError for one outside the directory, other than the cache it is a view of."""
    if Path(file).name != file or "\\" in file or "\0" in file:
        raise ModelFormatError(f"{directory.name} names {file!r:.80}, which is no file of its own: fetch it again")
    try:
        root = directory.resolve(strict=True)
        path = (directory / file).resolve(strict=True)
    except FileNotFoundError as error:
        raise ModelFormatError(f"{directory.name} lacks {file}: fetch the whole directory") from error
    except (OSError, RuntimeError) as error:
        raise ModelFormatError(f"{file} in {directory.name} cannot be read: check its permissions") from error
    # Hugging Face's own cache keeps files as blobs/HASH beside snapshots/REVISION, whose entries are links to them.
    homes = [root, root.parent.with_name("blobs")] if root.parent.name == "snapshots" else [root]
    if path.parent not in homes:
        raise ModelFormatError(f"{file} is a link out of {directory.name}: put the file itself there")
    return path


def _read_small(directory: Path, file: str) -> bytes:
    data = map_file(_locate(directory, file), 1)
    if len(data) > JSON_BYTES_MAX:
        raise ModelFormatError(f"{file} in {directory.name} is {len(data)} bytes long: it is damaged, fetch it again")
    return data[:]


def _explain_absence(directory: Path) -> ModelFormatError:
    pickles = sorted(path.name for path in directory.iterdir() if path.suffix in _PICKLES)
    if pickles:
        return ModelFormatError(
            f"{directory.name} has its weights in {pickles[0]}, a pickle that can run code: "
            "load it where that is safe and save it with save_pretrained(safe_serialization=True)"
        )
    return ModelFormatError(f"{directory.name} has neither {WEIGHTS_FILE} nor {INDEX_FILE}: fetch the whole directory")


def _flatten_settings(config: dict[str, object]) -> dict[str, object]:
    """The language model's settings: those of `text_config`, then those that stand beside it. `dtype` is named so."""
    inner = config.get("text_config")
    settings = {**config, **inner} if isinstance(inner, dict) else dict(config)
    settings.pop("text_config", None)
    old = settings.pop("torch_dtype", None)
    if old is not None:
        settings.setdefault("dtype", old)
    return settings


def _check_quantisation(path: Path, settings: Mapping[str, object]) -> None:
    stated = settings.get("quantization_config")
    if stated is None:
        return
    method = stated.get("quant_method") if isinstance(stated, dict) else stated
    if method != "fp8" or not isinstance(stated, dict):
        raise ModelFormatError(
            f"{path.name} is quantised with {method!r:.40}: use the plain checkpoint, or a GGUF of it"
        )
    if stated.get("weight_block_size") != [SCALE_BLOCK, SCALE_BLOCK]:
        raise ModelFormatError(f"{path.name} is fp8 without scales of {SCALE_BLOCK} x {SCALE_BLOCK}: use the plain one")


def _compute_name(path: Path) -> str:
    full = path.absolute()
    if full.parent.name == "snapshots":  # of the cache: models--OWNER--NAME/snapshots/REVISION
        return full.parent.parent.name.rpartition("--")[2]
    return full.name


def _read_items(place: _ShardTensor, start: int, stop: int) -> NDArray[np.generic]:
    """Rows `start` to `stop` along the first axis, as they are stored."""
    tensor = place.tensor
    width = tensor.size // tensor.shape[0]
    raw = np.frombuffer(place.data, np.uint8, (stop - start) * width, tensor.offset + start * width)
    return raw.view(_ITEM_TYPES[tensor.dtype]).reshape(stop - start, *tensor.shape[1:])


def _decode(dtype: str, items: NDArray[np.generic]) -> Values:
    if dtype == "BF16":
        return (items.astype(np.uint32) << 16).view(np.float32)
    if dtype == "F8_E4M3":
        values: Values = E4M3_VALUES[items.astype(np.uint8, copy=False)]
        return values
    return items.astype(np.float32)
