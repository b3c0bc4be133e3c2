"""POST /v1/chat/completions: what a client may send."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from node.gateway.api.schemas.common import (
    CHOICES_MAX,
    MESSAGES_MAX,
    PARTS_MAX,
    TOOLS_MAX,
    DrawingFields,
    RequestForm,
    SchemaForm,
    StreamOptions,
    Text,
    Tokens,
    ToolForm,
    ToolName,
    refuse_given,
)


class TextPart(RequestForm):
    """A part of a message; text is the only kind that the models here read."""

    type: Literal["text"]
    text: Text


class CalledFunction(RequestForm):
    """A call that the model made in an earlier turn; `arguments` is JSON in a text."""

    name: Text
    arguments: Text = "{}"


class MadeCall(RequestForm):
    """A tool call of an earlier turn."""

    id: Text
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(RequestForm):
    """A turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(max_length=PARTS_MAX)] | None = None
    name: Text | None = None
    tool_calls: Annotated[list[MadeCall] | None, Field(max_length=TOOLS_MAX)] = None
    tool_call_id: Text | None = None

    @model_validator(mode="after")
    def _check(self) -> ChatMessage:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError(f"a message of the role {self.role!r} has a content")
        return self


class NamedFunction(RequestForm):
    """The name of a function."""

    name: ToolName


class NamedTool(RequestForm):
    """The tool that has to be called."""

    type: Literal["function"] = "function"
    function: NamedFunction


class ResponseFormat(RequestForm):
    """What the answer has to be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaForm | None = None


class ChatRequest(DrawingFields):
    """A conversation that the model goes on with."""

    model: Text
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MESSAGES_MAX)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    n: Annotated[int | None, Field(ge=1, le=CHOICES_MAX)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    tools: Annotated[list[ToolForm] | None, Field(max_length=TOOLS_MAX)] = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, given: Any) -> Any:
        names = {
            "functions": ([],),
            "function_call": ("none",),
            "audio": (),
            "prediction": (),
            "web_search_options": (),
            "modalities": (["text"],),
        }
        return refuse_given(given, names)

    @model_validator(mode="after")
    def _check(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        is_forced = self.tool_choice not in (None, "none", "auto")
        if is_forced and not self.tools:
            raise ValueError("tool_choice needs tools")
        chosen = self.response_format
        schema = None if chosen is None or chosen.json_schema is None else chosen.json_schema.json_schema
        if chosen is not None and chosen.type == "json_schema" and schema is None:
            raise ValueError("response_format json_schema needs json_schema.schema")
        return self
