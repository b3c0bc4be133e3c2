"""A small model that runs ahead of a large one: it drafts what it would say itself.

It draws by the order's own seed. Noise belongs to a position and a token, so where the two models' chances are alike
they mostly draw alike, at any temperature. Its KV memory follows the answer: what was drafted wrong is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from inference.decoding.draw import sample
from inference.decoding.penalties import Penalties
from inference.drafting.draft import NOTHING, Draft, count_right
from inference.engine.engine import ForwardCall, StageEngine
from inference.engine.rows import Hidden, StageOutput
from inference.errors import DraftModelError, ModelError
from inference.model.store import find_unit
from proto_specs.types.manifest import Manifest, UnitKind
from proto_specs.types.sampling import SamplingParams

CONFIDENCES = (0.2, 0.4, 0.6, 0.75, 0.85, 0.93, 0.98)
"""A drafted token's grade is the number of these that the model's own probability of it reaches."""
CONFIDENCE_PRIORS = (0.15, 0.35, 0.5, 0.65, 0.75, 0.85, 0.92, 0.97)
"""How many tokens of a grade are right, to begin with."""


def require_same_tokenizer(draft: Manifest, target: Manifest) -> None:
    """Raises DraftModelError where a model cannot draft for the target, whatever is loaded of either."""
    roots = [find_unit(one, UnitKind.TOKENIZER).root for one in (draft, target)]
    if roots[0] != roots[1]:
        raise DraftModelError(
            f"{draft.name} has another tokenizer than {target.name}: choose a draft model of its family"
        )


class DraftModel:
    """A whole model for drafts, shared by all requests for one target. Its calls block for the time they compute."""

    def __init__(self, engine: StageEngine, target: Manifest) -> None:
        """Raises DraftModelError unless the model is whole and has the target's tokenizer."""
        shard = engine.shard
        if not (shard.is_first and shard.is_last):
            raise DraftModelError(f"drafts need all layers of {shard.manifest.name}: load it whole")
        require_same_tokenizer(shard.manifest, target)
        self.engine = engine
        self.vocab = min(shard.architecture.vocab, target.architecture.vocab)
        """Tokens that both models have: files pad their vocabularies differently."""

    def open(self, request_id: bytes, positions_max: int, params: SamplingParams) -> ModelDrafter:
        """Drafts for a request of up to `positions_max` positions, as many of them as the model's context holds.

        Raises KvExhaustedError when too much is promised to others.
        """
        positions = min(positions_max, self.engine.shard.architecture.context_max)
        self.engine.open(request_id, positions)
        return ModelDrafter(self, request_id, positions, params)


class ModelDrafter:
    """One request's tokens, and how far the draft model has read them. Not thread-safe."""

    def __init__(self, model: DraftModel, request_id: bytes, positions_max: int, params: SamplingParams) -> None:
        self._model = model
        self._request_id = request_id
        self._positions_max = positions_max
        # A grammar's state would have to be taken back with the draft; what it forbids is drafted wrong, and shows.
        self._params = replace(params, stop=(), grammar=None, logprobs=0, prompt_logprobs=False)
        self._penalties: Penalties | None = None
        self._tokens: list[int] = []
        self._read: list[int] = []
        """The tokens in KV memory: known ones, and behind them drafted ones."""

    def extend(self, tokens: Sequence[int]) -> None:
        """Tokens that follow: first the prompt in one piece, then the answer as it comes."""
        if self._penalties is None:
            self._penalties = Penalties(self._params, tokens)
        else:
            for token in tokens:
                self._penalties.add(token)
        self._tokens += tokens

    def close(self) -> None:
        """Free the memory."""
        self._model.engine.close(self._request_id)

    def catch_up(self) -> None:
        """Read all known tokens but the newest: while the prompt is on its way, this costs nobody time.

        Raises EngineError.
        """
        if len(self._tokens) > 1 and self._take_back() < len(self._tokens) - 1:
            self._run(self._tokens[len(self._read) : -1], ())

    def propose(self, count_max: int, estimate: Callable[[int], float], chance_min: float) -> Draft:
        """What the model would say next: up to `count_max` tokens, while they are likely enough to be right.

        `estimate` gives a grade's chance; when all of them together have less than `chance_min`, no more are drafted.
        Nothing where the context ends or the model cannot go on: a draft is never a reason to fail.
        """
        count_max = min(count_max, self._positions_max - len(self._tokens) + 1)
        if count_max < 1 or self._penalties is None or not self._tokens:
            return NOTHING
        penalties = self._penalties.fork()
        tokens: list[int] = []
        grades: list[int] = []
        chance = 1.0
        try:
            rows = self._tokens[min(self._take_back(), len(self._tokens) - 1) :]
            while True:
                logits = self._run(rows, (len(rows) - 1,)).logits
                assert logits is not None, "they were asked for"
                token, grade = self._draw(logits[0], penalties)
                chance *= estimate(grade)
                tokens.append(token)
                grades.append(grade)
                if len(tokens) == count_max or chance < chance_min:
                    break
                penalties.add(token)
                rows = [token]
        except ModelError:
            pass
        return Draft(tuple(tokens), tuple(grades))

    def _take_back(self) -> int:
        """Forget what was read and does not stand, and the newest token if that was read; how many are read then."""
        length = min(count_right(self._read, self._tokens), len(self._tokens) - 1)
        if length < len(self._read):
            self._model.engine.truncate(self._request_id, length)
            del self._read[length:]
        return length

    def _run(self, tokens: Sequence[int], asked: tuple[int, ...]) -> StageOutput:
        """Read tokens. Raises EngineError: nobody else's memory is taken for a draft."""
        call = ForwardCall(self._request_id, len(self._read), np.array(tokens, np.uint32), asked)
        (output,) = self._model.engine.forward_batch([call])
        if isinstance(output, ModelError):
            raise output
        self._read += tokens
        return output

    def _draw(self, logits: Hidden, penalties: Penalties) -> tuple[int, int]:
        """The token that the model says next, and its grade."""
        known = logits[: self._model.vocab]
        adjusted = known if penalties.is_off else penalties.apply(known)
        token = sample(adjusted, self._params, len(self._read) - 1)
        values = np.exp(known.astype(np.float64) - known.max())
        share = float(values[token] / values.sum())
        return token, sum(one <= share for one in CONFIDENCES)
