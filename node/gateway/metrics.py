"""What /metrics tells, named after OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import trio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from node.gateway.errors import translate

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_MODEL = "gen_ai_request_model"
_OPERATION = "gen_ai_operation_name"


class GatewayMetrics:
    """Counters of one gateway, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        names = (_OPERATION, _MODEL, "error_type")
        self._duration = self._make_histogram("gen_ai_server_request_duration_seconds", "From ask to end.", names)
        self._first = self._make_histogram(
            "gen_ai_server_time_to_first_token_seconds", "To the first token.", (_MODEL,)
        )
        self._each = self._make_histogram("gen_ai_server_time_per_output_token_seconds", "Between tokens.", (_MODEL,))
        labels = (_OPERATION, _MODEL, "gen_ai_token_type")
        self._tokens = Counter("gen_ai_client_token_usage", "Tokens.", labels, registry=self._registry)
        self._cost = Counter("myelin_gateway_cost_nmyl", "What answers cost.", (_MODEL,), registry=self._registry)
        self._outcomes = Counter("myelin_gateway_outcomes", "Final outcomes.", ("resolution",), registry=self._registry)
        self._lost = Counter(
            "myelin_gateway_paths_failed", "Asks that failed.", ("error_type",), registry=self._registry
        )
        self._moves = Counter("myelin_gateway_moves", "Workers lost in mid-answer.", (_MODEL,), registry=self._registry)
        self._pauses = self._make_histogram(
            "myelin_gateway_move_pause_seconds", "From a worker's loss to the next token.", (_MODEL,)
        )
        self._active = Gauge("myelin_gateway_requests_active", "Calls under way.", registry=self._registry)
        self._first_of: dict[str, Histogram] = {}
        self._each_of: dict[str, Histogram] = {}

    def show_escrow(self, read_reserved: Callable[[], int]) -> None:
        """Tell what is set aside for requests under way."""
        gauge = Gauge(
            "myelin_gateway_escrow_promised_nmyl", "Highest price of calls under way.", registry=self._registry
        )
        gauge.set_function(read_reserved)

    def show_sessions(self, count_sessions: Callable[[], int]) -> None:
        """Tell how many sessions are open."""
        gauge = Gauge("myelin_gateway_sessions", "Open sessions.", registry=self._registry)
        gauge.set_function(count_sessions)

    @contextlib.contextmanager
    def measure(self, operation: str, model: str) -> Iterator[None]:
        """Time a call, and count its failure."""
        began_s = trio.current_time()
        fault = ""
        self._active.inc()
        try:
            yield
        except BaseException as error:
            known = translate(error)
            fault = "cancelled" if known is None else known.code or known.kind
            if known is not None and known.status >= 500:
                self._lost.labels(fault).inc()
            raise
        finally:
            self._active.dec()
            self._duration.labels(operation, model, fault).observe(trio.current_time() - began_s)

    def note_token(self, model: str, seconds: float, *, is_first: bool) -> None:
        """A token came, so long after the call began or after the one before."""
        known = self._first_of if is_first else self._each_of
        made = known.get(model)
        if made is None:
            made = known[model] = (self._first if is_first else self._each).labels(model)
        made.observe(seconds)

    def note_usage(self, operation: str, model: str, prompt: int, generated: int, cost: int) -> None:
        """A choice is over."""
        self._tokens.labels(operation, model, "input").inc(prompt)
        self._tokens.labels(operation, model, "output").inc(generated)
        self._cost.labels(model).inc(cost)

    def note_move(self, model: str, pause_s: float) -> None:
        """A worker was lost in mid-answer, and the next token came so much later; 0: none did."""
        self._moves.labels(model).inc()
        if pause_s:
            self._pauses.labels(model).observe(pause_s)

    def note_outcome(self, resolution: str) -> None:
        """The chain is done with a request."""
        self._outcomes.labels(resolution).inc()

    def write(self) -> bytes:
        """All of it as text."""
        return generate_latest(self._registry)

    def _make_histogram(self, name: str, text: str, labels: tuple[str, ...]) -> Histogram:
        return Histogram(name, text, labels, buckets=_SECONDS, registry=self._registry)
