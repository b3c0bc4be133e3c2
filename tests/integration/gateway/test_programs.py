"""The npm package `openai`, the `llm` command and `litellm`, as they are installed by anybody."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway.installs import install_npm, install_pip
from tests.integration.gateway.network import GatewayNet

pytestmark = pytest.mark.slow

PROGRAMS = Path(__file__).parent / "programs"
QUESTION = "What is the capital of France?"


def run(argv: list[str], stdin: str = "", **environment: str) -> str:
    named = {**os.environ, **environment}
    done = subprocess.run(argv, capture_output=True, text=True, input=stdin, timeout=120, check=False, env=named)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_openai_of_npm(net: GatewayNet) -> None:
    argv = ["node", str(PROGRAMS / "openai_client.mjs"), str(install_npm()), f"{net.url}/v1", net.key, net.model]
    told: dict[str, Any] = json.loads(run(argv))
    assert "Paris" in told["whole"]
    assert told["whole"] == told["streamed"] == told["responded"]
    assert told["usage"]["completion_tokens"] > 0
    assert (told["finish"], told["call"]["name"]) == ("tool_calls", "get_weather")
    assert list(json.loads(told["call"]["arguments"])) == ["city"]
    assert isinstance(told["json"]["sure"], bool)
    assert told["error"] == [404, "model_not_found", True]
    assert told["pieces"] >= 40
    left = net.wait_for(told["aborted"], lambda one: one["progress"] != "open", 10)
    assert left["progress"] == "cancelled"
    assert left["generated_tokens"] < 200


def test_the_llm_command(net: GatewayNet, tmp_path: Path) -> None:
    llm = str(install_pip() / "llm")
    model = {"model_id": "myelin", "model_name": net.model, "api_base": f"{net.url}/v1", "api_key_name": "myelin"}
    lines = [f"{'-' if at == 0 else ' '} {name}: {json.dumps(value)}" for at, (name, value) in enumerate(model.items())]
    (tmp_path / "extra-openai-models.yaml").write_text("\n".join(lines) + "\n")
    (tmp_path / "keys.json").write_text(json.dumps({"myelin": net.key}))
    options = ["-m", "myelin", "-o", "temperature", "0", "-o", "max_tokens", "24"]
    streamed = run([llm, *options, QUESTION], LLM_USER_PATH=str(tmp_path))
    assert "Paris" in streamed
    assert run([llm, *options, "--no-stream", QUESTION], LLM_USER_PATH=str(tmp_path)) == streamed
    talk = run([llm, "chat", *options], f"{QUESTION}\nAnd of Spain?\nexit\n", LLM_USER_PATH=str(tmp_path))
    assert talk.count("\n> ") == 3
    assert "Paris" in talk


def test_litellm(net: GatewayNet) -> None:
    argv = [str(install_pip() / "python"), str(PROGRAMS / "litellm_client.py"), f"{net.url}/v1", net.key, net.model]
    told = json.loads(run(argv, LITELLM_LOCAL_MODEL_COST_MAP="True").splitlines()[-1])
    assert "Paris" in told["whole"]
    assert told["whole"] == told["streamed"]
    assert told["total"] > 24
