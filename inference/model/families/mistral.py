"""Mistral: the plain decoder with a sliding window in every layer. Its GGUF files call it llama, and are read there."""

from __future__ import annotations

from inference.model.checkpoint.source import Checkpoint
from inference.model.families.family import Family
from inference.model.families.plain import LAYERS_MAX, read_plain_hf
from inference.model.families.reading import Stated
from inference.model.families.windows import WindowedDecoder, make_windows


class Mistral(Family):
    """Mistral 7B, Nemo, Small and their kin. Only the first 7B has a window, which its GGUF files do not state."""

    name = "mistral"
    hf_kinds = ("mistral",)
    decoder = WindowedDecoder

    def read_hf(self, checkpoint: Checkpoint) -> WindowedDecoder:
        """As `Family.read_hf`."""
        stated = Stated(checkpoint, defaults={"sliding_window": 4096, "num_key_value_heads": 8})
        layers = stated.integer("num_hidden_layers", most=LAYERS_MAX)
        windows = make_windows(stated.integer("sliding_window", 0, least=0), range(layers))
        decoder = read_plain_hf(checkpoint, stated, WindowedDecoder, **windows)
        stated.finish()
        return decoder


FAMILY = Mistral()
