"""Who holds an API key, or only reaches the socket, tries what the key does not allow."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from node.gateway.accounts.keys import KeyInvalid, KeyLimits
from tests.unit.node.gateway.fake_inference import NAME
from tests.unit.node.gateway.running import make_gateway, run_in_thread

BODY = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}]}


def test_a_key_without_budget_takes_no_escrow(tmp_path: Path) -> None:
    """An order that its key cannot pay would still take a slice of the session, which is dead afterwards."""
    with run_in_thread(make_gateway(tmp_path)) as gateway:
        poor = gateway.make_key(KeyLimits(budget=1), "poor")
        several = gateway.make_key(KeyLimits(budget=8 * 120 * 20), "several")  # answers alone, without prompts
        for key, wanted in ((poor, {"max_tokens": 20}), (several, {"max_tokens": 20, "n": 8})):
            named = {"authorization": f"Bearer {key}"}
            refused = httpx.post(f"{gateway.url}/v1/chat/completions", json={**BODY, **wanted}, headers=named)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
        assert not gateway.inference.asked, "the network was not asked"


@pytest.mark.parametrize(
    "host", ["[", "[::1", "]", "127.0.0.1@evil.example", "evil.example#127.0.0.1", "", "localhost."]
)
def test_a_host_that_is_none_is_refused(tmp_path: Path, host: str) -> None:
    with run_in_thread(make_gateway(tmp_path, is_open=True)) as gateway:
        answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=BODY, headers={"host": host})
        assert answer.status_code in (400, 403)
        assert not gateway.inference.asked


@pytest.mark.parametrize("models", [("",), (" ",), ("a\nb",)])
def test_an_empty_list_of_models_is_not_every_model(tmp_path: Path, models: tuple[str, ...]) -> None:
    """As an unset variable of a shell makes it."""
    with run_in_thread(make_gateway(tmp_path)) as gateway, pytest.raises(KeyInvalid, match="every model"):
        gateway.make_key(KeyLimits(models=models), "narrow")


def test_a_dearer_second_path_is_set_aside_too(tmp_path: Path) -> None:
    """Else requests side by side overdraw a key by what the paths of failed attempts cost less, and were promised."""
    with run_in_thread(make_gateway(tmp_path)) as gateway:
        gateway.inference.fail_over_at = 1
        gateway.inference.script = lambda _ask: "x" * 50
        whole = 8 * 120 * 20
        named = {"authorization": f"Bearer {gateway.make_key(KeyLimits(budget=whole), 'tight')}"}
        answer = httpx.post(f"{gateway.url}/v1/chat/completions", json={**BODY, "max_tokens": 20}, headers=named)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota")
