"""POST /v1/responses: what a client may send, of the part that is text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from node.gateway.api.schemas.common import (
    MESSAGES_MAX,
    PARTS_MAX,
    JsonSchema,
    RequestForm,
    Text,
    Tokens,
    refuse_given,
)


class ItemPart(RequestForm):
    """A part of an item; text is the only kind."""

    type: Literal["input_text", "output_text", "text"]
    text: Text


class InputItem(RequestForm):
    """A turn of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[ItemPart], Field(min_length=1, max_length=PARTS_MAX)]


class TextFormat(RequestForm):
    """What the answer has to be."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Text | None = None
    json_schema: Annotated[JsonSchema | None, Field(alias="schema")] = None


class TextSettings(RequestForm):
    """The text part's settings."""

    format: TextFormat | None = None


class ResponsesRequest(RequestForm):
    """A text or a conversation that the model answers."""

    model: Text
    input: Text | Annotated[list[InputItem], Field(min_length=1, max_length=MESSAGES_MAX)]
    instructions: Text | None = None
    max_output_tokens: Tokens | None = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    stream: bool | None = None
    text: TextSettings | None = None
    metadata: dict[str, str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, given: Any) -> Any:
        names = {
            "previous_response_id": (),
            "conversation": (),
            "background": (False,),
            "tools": ([],),
            "tool_choice": ("auto", "none"),
            "prompt": (),
            "top_logprobs": (0,),
            "max_tool_calls": (),
        }
        return refuse_given(given, names)

    @model_validator(mode="after")
    def _check(self) -> ResponsesRequest:
        chosen = None if self.text is None else self.text.format
        if chosen is not None and chosen.type == "json_schema" and chosen.json_schema is None:
            raise ValueError("text.format json_schema needs a schema")
        return self
