"""Fleets from TOML: what is stated is what is planned with, and what is not exactly a fleet is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.planning.fleet import FleetError, FleetLink
from inference.planning.fleet_text import EXAMPLE_FLEET, KINDS_MAX, TEXT_BYTES_MAX, parse_fleet, read_fleet

MACHINE = '[[machine]]\nname = "a"\nmemory_gib = 8\nbandwidth_gb_s = 50\ncompute_tflops = 2\n'


def test_the_example_is_a_fleet_with_what_it_says() -> None:
    fleet = parse_fleet(EXAMPLE_FLEET.encode())
    gpu, desktop = fleet.kinds
    assert (gpu.name, gpu.count, gpu.memory_bytes) == ("rtx4090", 2, 24 << 30)
    assert gpu.bytes_per_s == pytest.approx(1008e9 * 0.6)
    assert gpu.flops == pytest.approx(82e12 * 0.4)
    assert gpu.layer_s == pytest.approx(150e-6)
    assert (desktop.decode_layer_s, desktop.prefill_layer_s) == (pytest.approx(900e-6), pytest.approx(60e-6))
    assert [gpu.name_member(one) for one in range(2)] == ["rtx4090-1", "rtx4090-2"]
    assert fleet.machines == 4
    assert (fleet.hop_s, fleet.stage_s, fleet.open_s) == (pytest.approx(350e-6), 0, 0)


def test_fixed_costs_are_those_that_are_stated() -> None:
    fleet = parse_fleet(("stage_us = 20\nopen_us = 3000\n" + MACHINE + "call_us_per_layer = 7\n").encode())
    assert (fleet.stage_s, fleet.open_s) == (pytest.approx(20e-6), pytest.approx(3e-3))
    assert fleet.kinds[0].call_layer_s == pytest.approx(7e-6)


def test_links_are_those_of_names_then_of_sites_then_the_long_way_round() -> None:
    text = "hop_us = 1000\n" + "".join(
        MACHINE.replace('"a"', f'"{name}"')
        + f'site = "{site}"\nlatency_ms = {latency}\nup_mbit_s = 8\ndown_mbit_s = 80\n'
        for name, site, latency in (("a", "x", 10), ("b", "x", 20), ("c", "y", 40))
    )
    text += '[[link]]\nbetween = ["x", "x"]\ndelay_ms = 2\nmbit_s = 800\n'
    text += '[[link]]\nbetween = ["c", "a"]\ndelay_ms = 5\nmbit_s = 16\n'
    text += '[[link]]\nbetween = ["client", "y"]\ndelay_ms = 3\n'
    fleet = parse_fleet(text.encode())
    a, b, c = fleet.kinds

    def get(source: object, target: object) -> tuple[float, float]:
        link = fleet.get_link(source, target)  # type: ignore[arg-type]
        return round(link.delay_s * 1e3, 6), link.bytes_per_s

    assert get(a, b) == get(b, a) == get(a, a) == (3, 100e6)
    assert get(a, c) == get(c, a) == (6, 2e6)
    assert get(b, c) == (61, 1e6)
    assert get(fleet.client, c)[0] == 4
    assert get(fleet.client, a)[0] == 11
    assert FleetLink(0.5, 100).compute_seconds(50) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has 0 machines"),
        ("{", "is no TOML"),
        ("machine = 1", "no list"),
        ("machine = [1]", "is no table"),
        (MACHINE + "colour = 1", "which is not known"),
        ("speed = 1\n" + MACHINE, "which is not known"),
        (MACHINE.replace("= 8", '= "8"'), "not a number from"),
        (MACHINE.replace("= 8", "= true"), "not a number from"),
        (MACHINE.replace("= 8", "= nan"), "not a number from"),
        (MACHINE.replace("= 8", "= -8"), "not a number from"),
        (MACHINE.replace("memory_gib = 8\n", ""), "lacks memory_gib"),
        (MACHINE.replace("bandwidth_gb_s = 50\n", ""), "lacks bandwidth_gb_s"),
        (MACHINE.replace("compute_tflops = 2\n", ""), "lacks compute_tflops"),
        (MACHINE.replace('"a"', '"client"'), "give it another name"),
        (MACHINE.replace('"a"', '""'), "give it another name"),
        (MACHINE.replace('"a"', f'"{"a" * 41}"'), "not a text of up to"),
        (MACHINE + "count = 1.5", "whole number"),
        (MACHINE + "count = 1001", "not a number from"),
        (MACHINE + "count = 600\n" + MACHINE.replace('"a"', '"b"') + "count = 600", "has 1200 machines"),
        (MACHINE + MACHINE, "give each its own name"),
        (MACHINE + 'site = "a"', "give each its own name"),
        (MACHINE * (KINDS_MAX + 1), "no list of up to"),
        (MACHINE + '[[link]]\nbetween = ["a"]\ndelay_ms = 1', "has no two ends"),
        (MACHINE + '[[link]]\nbetween = ["a", "b"]\ndelay_ms = 1', "no machine and no site"),
        (MACHINE + '[[link]]\nbetween = ["a", "a"]', "lacks delay_ms"),
        (MACHINE + '[[link]]\nbetween = ["a", "a"]\ndelay_ms = 1\n' * 2, "is there twice"),
        ("head_room = 1\n" + MACHINE, "not a number from"),
        ("a = " + "[" * 2000, "is no TOML"),
    ],
)
def test_what_is_no_fleet_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(FleetError, match=said) as caught:
        parse_fleet(text.encode())
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_a_fleet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="--example-fleet"):
        read_fleet(tmp_path / "none.toml")
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (TEXT_BYTES_MAX + 1))
    with pytest.raises(FleetError, match="longer than"):
        read_fleet(large)
    with pytest.raises(FleetError, match="no TOML"):
        parse_fleet(b"\xff")
