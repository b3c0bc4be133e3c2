"""POST /v1/completions: what a client may send."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from node.gateway.api.schemas.common import (
    CHOICES_MAX,
    TOKENS_MAX,
    DrawingFields,
    StreamOptions,
    Text,
    refuse_given,
)

PROMPTS_MAX = 64
TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 32)]], Field(max_length=TOKENS_MAX)]


class CompletionRequest(DrawingFields):
    """Texts, or token ids, that the model goes on with."""

    model: Text
    prompt: (
        Text
        | TokenIds
        | Annotated[list[Text], Field(max_length=PROMPTS_MAX)]
        | Annotated[list[TokenIds], Field(max_length=PROMPTS_MAX)]
    )
    max_tokens: Annotated[int | None, Field(ge=0, le=TOKENS_MAX)] = None
    n: Annotated[int | None, Field(ge=1, le=CHOICES_MAX)] = None
    best_of: int | None = None
    echo: bool | None = None
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, given: Any) -> Any:
        return refuse_given(given, {"suffix": ("",)})

    @model_validator(mode="after")
    def _check(self) -> CompletionRequest:
        if self.best_of not in (None, 1, self.n or 1):
            raise ValueError("best_of is not supported: leave it out, or give it n's value")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens 0 generates nothing: it is for echo")
        return self
