"""Looks up rows of the embedding in its unit file. The table stays on disk, mapped: a few rows are read at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inference.engine.rows import Hidden, Tokens
from inference.model.forms import unpack_rows
from inference.model.graph.shard import ShardRange
from inference.model.layout import compute_file_name
from inference.model.unit_reader import map_arrays
from proto_specs.types.manifest import UnitKind


class EmbeddingTable:
    """The embedding of a first shard."""

    def __init__(self, shard: ShardRange, directory: Path) -> None:
        """Raises OSError when the unit file is absent."""
        (self._tensor,) = shard.get_tensors(UnitKind.EMBED, 0)
        self._arrays = map_arrays(directory / compute_file_name(UnitKind.EMBED, 0), self._tensor)
        self._scale = np.float32(shard.family.get_embedding_scale(shard.decoder))

    def look_up(self, tokens: Tokens) -> Hidden:
        """[n, C] fp32 rows of [n] token ids of the vocabulary, as the first layer takes them."""
        rows = {name: array[tokens] for name, array in self._arrays.items()}
        values = unpack_rows(self._tensor.form, self._tensor.role, rows)
        return values if self._scale == 1 else values * self._scale
