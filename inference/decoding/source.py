"""Makes the choosers of one stored model's requests. Its vocabulary is read when the first order needs it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from inference.decoding.chooser import TokenChooser
from inference.decoding.grammar import GrammarEngine
from inference.errors import DecodingError, StoreError
from inference.model.store import ShardStore
from inference.model.tokenizer.vocabulary import Vocabulary
from proto_specs.types.manifest import Manifest
from proto_specs.types.sampling import SamplingParams


class ChooserSource:
    """Thread-safe. Keeps the vocabulary and the grammar engine over it once they are made."""

    def __init__(self, store: ShardStore, model: bytes, manifest: Manifest) -> None:
        self._store = store
        self._model = model
        self._eos = frozenset(manifest.eos_tokens)
        self._vocab = manifest.architecture.vocab
        self._lock = threading.Lock()
        self._vocabulary: Vocabulary | None = None
        self._engine: GrammarEngine | None = None

    def make(
        self, params: SamplingParams, prompt: Sequence[int] = (), grammar: bytes = b"", drawn: Sequence[int] = ()
    ) -> TokenChooser:
        """A request's chooser. Takes up to seconds where the rules have stop strings or a grammar: for a thread.

        `prompt`, `grammar`, and the tokens `drawn` under orders before are what came beside the order. Raises
        DecodingError for rules that nobody can follow, GrammarError among them, and for an answer that has ended, and
        StoreError where the model's tokenizer is not in the store.
        """
        if any(one >= self._vocab for one in (*prompt, *drawn)):
            raise DecodingError(f"the prompt has tokens outside the vocabulary of {self._vocab}: encode it anew")
        vocabulary = self._get_vocabulary() if params.stop or params.grammar is not None else None
        state = self._get_engine().compile(params.grammar.kind, grammar) if params.grammar is not None else None
        chooser = TokenChooser(params, self._eos, prompt, vocabulary, state)
        if chooser.resume(drawn):
            raise DecodingError("the answer had ended before: there is nothing to go on from")
        return chooser

    def _get_vocabulary(self) -> Vocabulary:
        with self._lock:
            if self._vocabulary is None:
                try:
                    self._vocabulary = Vocabulary.load(self._store, self._model)
                except StoreError as error:
                    raise StoreError(f"stop strings and grammars need the model's tokenizer: {error}") from error
            return self._vocabulary

    def _get_engine(self) -> GrammarEngine:
        vocabulary = self._get_vocabulary()
        with self._lock:
            if self._engine is None:
                self._engine = GrammarEngine(vocabulary, self._eos, self._vocab)
            return self._engine
