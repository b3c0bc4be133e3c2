"""What the schemas share: fields of drawing, tools and formats, and how unsupported ones are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from proto_specs.limits import LOGIT_BIAS_MAX, STOP_BYTES_MAX, STOPS_MAX

CHOICES_MAX = 8
TOOLS_MAX = 64
MESSAGES_MAX = 1024
PARTS_MAX = 256
TEXT_CHARS_MAX = 1 << 20
TOKENS_MAX = 1 << 20

Text = Annotated[str, Field(max_length=TEXT_CHARS_MAX)]
Tokens = Annotated[int, Field(ge=1, le=TOKENS_MAX)]
Stops = Annotated[list[Annotated[str, Field(max_length=STOP_BYTES_MAX)]], Field(max_length=STOPS_MAX)]
ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
JsonSchema = dict[str, Any]


class RequestForm(BaseModel):
    """A request's body: fields that we do not know are ignored, as the originals do."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)


class DrawingFields(RequestForm):
    """How tokens are drawn, in OpenAI's words; `top_k`, `min_p` and `repetition_penalty` are common extras."""

    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=-1, lt=1 << 32)] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=-(1 << 63), lt=1 << 64)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    repetition_penalty: Annotated[float | None, Field(ge=0.01, le=10)] = None
    logit_bias: Annotated[dict[str, float] | None, Field(max_length=LOGIT_BIAS_MAX)] = None
    stop: str | Stops | None = None


class StreamOptions(RequestForm):
    """`include_usage`: a last chunk says how many tokens there were."""

    include_usage: bool | None = False


class FunctionForm(RequestForm):
    """A function that the model may call."""

    name: ToolName
    description: Text | None = None
    parameters: JsonSchema | None = None
    strict: bool | None = None


class ToolForm(RequestForm):
    """A tool; functions are the only kind."""

    type: Literal["function"] = "function"
    function: FunctionForm


class SchemaForm(RequestForm):
    """A named JSON schema."""

    name: Text | None = None
    description: Text | None = None
    json_schema: Annotated[JsonSchema | None, Field(alias="schema")] = None
    strict: bool | None = None


def refuse_given(given: object, names: Mapping[str, tuple[object, ...]]) -> object:
    """Raises ValueError for a field that is given with other values than those under which it means nothing."""
    if isinstance(given, dict):
        for name, harmless in names.items():
            value = given.get(name)
            if value is not None and not any(value == one and type(value) is type(one) for one in harmless):
                raise ValueError(f"{name} is not supported here: leave it out")
    return given
