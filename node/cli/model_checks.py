"""`myelin model score` and `myelin model check`: is an import right, and does this machine compute it right?"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from inference.engine.engine import load_session
from inference.engine.golden import check_golden
from inference.engine.score import score_tokens
from inference.errors import StoreError
from inference.fingerprint import PPB
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer
from node.cli.bars import make_progress
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.options import JsonOption, parse_layers
from node.cli.stored_models import find_model
from proto_specs.limits import PROMPT_TEXT_BYTES_MAX

LayersAtOnceOption = Annotated[
    int | None, typer.Option(min=1, help="Layers held in memory at a time (default: the whole model).")
]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Threads of the model.")]


def score_command(
    model: Annotated[str, typer.Argument(help="Name, id, or the start of an id.")],
    file: Annotated[Path, typer.Argument(help="A text in UTF-8; - reads it from standard input.")],
    layers_at_once: LayersAtOnceOption = None,
    threads: ThreadsOption = 1,
    tokens_max: Annotated[int | None, typer.Option(min=2, help="Score so many tokens of the text at most.")] = None,
    models: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tokens of a text, the log-probability of each after those before it, and the text's perplexity."""
    store = ShardStore(get_models_dir(models))
    model_id = find_model(store, model)
    tokenizer = Tokenizer.load(store, model_id)
    ids = np.array(tokenizer.encode(_read_text(file))[:tokens_max], np.uint32)
    with make_progress(Console(stderr=True), counts_bytes=False) as progress:
        scoring = progress.add_task("score", total=None)
        found = score_tokens(
            store,
            model_id,
            ids,
            lambda done, total: progress.update(scoring, completed=done, total=total),
            layers_at_once,
            threads,
        )
    scores = [None, *found.log_probabilities.tolist()]
    if as_json:
        fields = {
            "model": f"0x{model_id.hex()}",
            "tokens": ids.tolist(),
            "log_probabilities": scores,
            "perplexity": found.perplexity,
        }
        print(json.dumps(fields))
        return
    for token, score in zip(ids.tolist(), scores, strict=True):
        text = json.dumps(tokenizer.decode([token]), ensure_ascii=False)
        print(f"{token:>8}  {'' if score is None else f'{score:9.4f}':>9}  {text}")
    bits = -float(found.log_probabilities.mean()) / math.log(2)
    print(f"{len(ids)} tokens, perplexity {found.perplexity:.4f}, {bits:.4f} bits a token")


def check_command(
    model: Annotated[str, typer.Argument(help="Name, id, or the start of an id.")],
    layers: Annotated[str | None, typer.Option(help="START:END, END not included (default: all).")] = None,
    layers_at_once: LayersAtOnceOption = None,
    threads: ThreadsOption = 1,
    models: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the model's golden windows here: how far this machine is from what its layers must give, and the bound."""
    store = ShardStore(get_models_dir(models))
    model_id = find_model(store, model)
    manifest = store.load_manifest(model_id)
    if not manifest.ranges:
        raise StoreError(f"{manifest.name} has no golden windows: it was imported with --no-calibrate")
    start, end = (0, manifest.architecture.layers) if layers is None else parse_layers(layers)
    step = layers_at_once or end - start
    found: list[tuple[int, int, int]] = []
    for first in range(start, end, step):
        last = min(first + step, end)
        distance = check_golden(load_session(store, model_id, first, last, threads), store, model_id)
        assert distance is not None, "the model has golden windows"
        found.append((first, last, distance))
    allowed = manifest.profile.golden_ppb
    if as_json:
        pieces = [{"start": first, "end": last, "distance_ppb": distance} for first, last, distance in found]
        print(json.dumps({"model": f"0x{model_id.hex()}", "allowed_ppb": allowed, "layers": pieces}))
        return
    for first, last, distance in found:
        print(f"layers {first}:{last} are {distance / PPB:.1e} off, {allowed / PPB:.1e} allowed")


def _read_text(file: Path) -> str:
    """Raises StoreError for what is no text file of a bearable size."""
    try:
        if str(file) == "-":
            data = typer.get_binary_stream("stdin").read(PROMPT_TEXT_BYTES_MAX + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(PROMPT_TEXT_BYTES_MAX + 1)
        text = data.decode()
    except UnicodeDecodeError as error:
        raise StoreError(f"{file} is no text in UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise StoreError(f"cannot read {file}: {error.strerror}") from error
    if len(data) > PROMPT_TEXT_BYTES_MAX:
        raise StoreError(f"{file} is larger than {PROMPT_TEXT_BYTES_MAX} bytes: cut it")
    return text
