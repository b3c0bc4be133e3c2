"""POST /v1/messages and /v1/messages/count_tokens, Anthropic's API: what a client may send."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from node.gateway.api.schemas.common import (
    MESSAGES_MAX,
    PARTS_MAX,
    TOOLS_MAX,
    JsonSchema,
    RequestForm,
    Stops,
    Text,
    Tokens,
    ToolName,
    refuse_given,
)


class TextBlock(RequestForm):
    """A text."""

    type: Literal["text"]
    text: Text


class ToolUseBlock(RequestForm):
    """A call that the model made in an earlier turn."""

    type: Literal["tool_use"]
    id: Text
    name: Text
    input: dict[str, Any]


class ToolResultBlock(RequestForm):
    """What a call gave."""

    type: Literal["tool_result"]
    tool_use_id: Text
    content: Text | Annotated[list[TextBlock], Field(max_length=PARTS_MAX)] | None = None


Block = Annotated[TextBlock | ToolUseBlock | ToolResultBlock, Field(discriminator="type")]


class AnthropicTurn(RequestForm):
    """A turn of the conversation."""

    role: Literal["user", "assistant"]
    content: Text | Annotated[list[Block], Field(min_length=1, max_length=PARTS_MAX)]


class AnthropicTool(RequestForm):
    """A tool that the model may call."""

    type: Literal["custom"] | None = None
    name: ToolName
    description: Text | None = None
    input_schema: JsonSchema


class AnthropicToolChoice(RequestForm):
    """Whether and what to call."""

    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool | None = None


class CountTokensRequest(RequestForm):
    """A conversation whose tokens are counted."""

    model: Text
    messages: Annotated[list[AnthropicTurn], Field(min_length=1, max_length=MESSAGES_MAX)]
    system: Text | Annotated[list[TextBlock], Field(max_length=PARTS_MAX)] | None = None
    tools: Annotated[list[AnthropicTool] | None, Field(max_length=TOOLS_MAX)] = None
    tool_choice: AnthropicToolChoice | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, given: Any) -> Any:
        names = {"thinking": ({"type": "disabled"},), "mcp_servers": ([],), "container": ()}
        return refuse_given(given, names)

    @model_validator(mode="after")
    def _check_choice(self) -> CountTokensRequest:
        choice = self.tool_choice
        if choice is not None and choice.type in ("any", "tool") and not self.tools:
            raise ValueError("tool_choice needs tools")
        if choice is not None and choice.type == "tool" and choice.name is None:
            raise ValueError("tool_choice of the type tool needs a name")
        return self


class MessagesRequest(CountTokensRequest):
    """A conversation that the model goes on with."""

    max_tokens: Tokens
    stop_sequences: Stops | None = None
    stream: bool | None = None
    temperature: Annotated[float | None, Field(ge=0, le=1)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=0, lt=1 << 32)] = None
