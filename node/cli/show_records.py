"""Models, workers, requests and sessions: read from the chain's state, and shown as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import WorkerStatus
from consensus.state.reader import StateReader
from node.cli.amounts import format_distance, format_myl
from node.cli.connect import Connection
from node.cli.plain import print_pairs, print_table
from proto_specs.jsonform import to_json
from proto_specs.types.manifest import ServiceClass

Json = dict[str, Any]
PPM_PER_PERCENT = 10_000


def list_model_names(state: StateReader) -> list[tuple[bytes, str]]:
    """(id, name) of every registered model."""
    return [
        (model, manifest.name)
        for model, _ in queries.list_models(state)
        if (manifest := queries.read_manifest(state, model))
    ]


def read_models(state: StateReader, prefix: int) -> list[Json]:
    """Every registered model, with the number of layers that have an active worker."""
    found = []
    for model, record in queries.list_models(state):
        manifest = queries.read_manifest(state, model)
        workers = [one for _, one in queries.list_workers(state, model) if one.status == WorkerStatus.ACTIVE]
        covered = {layer for one in workers for layer in range(one.start, one.end)}
        found.append(
            {
                "model": f"0x{model.hex()}",
                "name": "" if manifest is None else manifest.name,
                **to_json(record, prefix),
                "service_class": ServiceClass(record.service_class).name.lower(),
                "active_workers": len(workers),
                "layers_covered": len(covered),
            }
        )
    return found


def read_workers(state: StateReader, model: bytes, prefix: int) -> list[Json]:
    """Every bonded worker of a model, in the order of their layers."""
    workers = sorted(queries.list_workers(state, model), key=lambda one: (one[1].start, one[1].end, one[0]))
    return [
        {"worker": f"0x{key.hex()}", **to_json(one, prefix), "status": WorkerStatus(one.status).name.lower()}
        for key, one in workers
    ]


def show_models(node: Connection, found: list[Json]) -> None:
    """Print a line for each model."""
    if not found:
        print("no model is registered: `myelin model register` puts one on chain")
        return
    rows = [
        (
            one["model"],
            one["name"],
            f"{one['layers_covered']}/{one['layers']}",
            str(one["active_workers"]),
            one["service_class"],
            format_distance(one["threshold_ppb"]),
        )
        for one in found
    ]
    header = ("model", "name", "layers served", "workers", "class", "threshold")
    print_table(header, rows, right=("layers served", "workers", "threshold"))


def show_workers(node: Connection, found: list[Json]) -> None:
    """Print a line for each worker."""
    if not found:
        print("the model has no worker: `myelin worker run` serves it")
        return
    rows = [
        (
            one["worker"],
            _format_layers(one),
            one["status"],
            format_myl(one["bond"]),
            format_myl(one["earned"]),
            format_myl(one["unresolved"]),
            f"{one['prefill_price']}/{one['decode_price']}",
            f"{one['passes']}/{one['fails']}/{one['unavailable']}",
            node.name(one["operator"]),
        )
        for one in found
    ]
    numbers = ("bond", "earned", "unresolved", "nmyl prefill/decode", "pass/fail/away")
    print_table(("worker", "layers", "status", *numbers, "operator"), rows, right=numbers)


def show_session(node: Connection, found: Json) -> None:
    """Print the escrow and its use."""
    when = "since" if found["status"] == "closed" else "until"
    print_pairs(
        [
            ("session", found["session"]),
            ("status", f"{found['status']}, {when} block {found['close_height']}"),
            ("client", node.name(found["client"])),
            ("model", found["model"]),
            ("max price", f"{found['max_price']} nmyl per layer and token"),
            ("deposit", f"{format_myl(found['deposit'])} since block {found['opened_height']}"),
            ("escrow left", format_myl(found["escrow"])),
            ("bond", f"{format_myl(found['bond'])}{', convicted of a double promise' * found['is_convicted']}"),
            ("released", f"{format_myl(found['released'])} of slices that requests did not use up"),
            ("can be promised", f"positions 0 to {found['promisable']} nmyl"),
            (
                "requests",
                f"{found['requests_settled']} of {found['requests_max']} settled, {found['requests_open']} open",
            ),
        ]
    )
    if found["requests"]:
        print()
        rows = [(str(one["sequence"]), one["request"]) for one in found["requests"]]
        print_table(("sequence", "request"), rows, right=("sequence",))


def show_open_sessions(found: Json) -> None:
    """Print the sessions that an account can close."""
    if not found["sessions"]:
        print("the account has no open session")
        return
    rows = [
        (
            one["session"],
            format_myl(one["escrow"]),
            format_myl(one["deposit"]),
            f"{one['requests_settled']} of {one['requests_max']}",
            str(one["close_height"]),
        )
        for one in found["sessions"]
    ]
    columns = ("left", "deposit", "settled", "ends in block")
    print_table(("session", *columns), rows, right=columns)
    print("`close-session SESSION` ends one. A gateway or chat that runs closes its own.")


def show_request(node: Connection, found: Json) -> None:
    """Print the request, its stages, the verdicts on them, and the payments."""
    prompt, tokens = found["prompt_tokens"], found["tokens"]
    print_pairs(
        [
            ("request" if found["requests"] is None else "statement", found["request"]),
            *([("of it", _name_part(found["part"]))] if "part" in found else []),
            ("status", f"{found['status']}, settled in block {found['settled_height']}"),
            ("session", f"{found['session']}, sequence {found['sequence']}"),
            ("model", f"{found['model']} {found['model_name']}"),
            ("client", node.name(found["client"])),
            ("tokens", f"{prompt} of the prompt, {tokens} generated, {_name_parts(found)}"),
            ("price", f"{format_myl(found['price'])}, {format_myl(found['returned'])} returned"),
            ("root", found["root"]),
        ]
    )
    print()
    print_table(
        ("stage", "layers", "status", "price", "drawn with", "window", "verdict", "distance", "threshold", "operator"),
        [_make_stage_row(node, number, one) for number, one in enumerate(found["stages"])],
        right=("stage", "price", "drawn with", "window", "distance", "threshold"),
    )
    _show_verdicts(node, found["stages"])
    _show_payments(node, "who got what", found["payments"])
    _show_payments(node, "who was slashed", found["slashes"])


def _name_part(part: Json) -> str:
    tokens = f"{part['prompt_tokens']} + {part['tokens']} tokens"
    return f"request {part['request']}, sequence {part['sequence']}: {tokens}, {format_myl(part['price'])}"


def _name_parts(found: Json) -> str:
    """What is drawn from: a request's windows, or a statement's positions."""
    if found["requests"] is None:
        return f"{found['windows']} windows"
    return f"{found['requests']} requests at once, {found['positions']} positions"


def _make_stage_row(node: Connection, number: int, stage: Json) -> tuple[str, ...]:
    challenge = stage["challenge"]
    drawn = ("-", "not drawn yet" if stage["status"] == "awaiting_draw" else "not drawn", "-", "-")
    if challenge is not None:
        outcome = challenge["outcome"] or f"open until block {challenge['reveal_deadline']}"
        distance = format_distance(challenge["distance_ppb"]) if challenge["outcome"] in ("pass", "fail") else "-"
        place = challenge["window"] if challenge["point"] is None else f"at {challenge['point']}"
        drawn = (str(place), outcome, distance, format_distance(challenge["threshold_ppb"]))
    return (
        str(number),
        _format_layers(stage),
        stage["status"].replace("_", " "),
        format_myl(stage["gross"]),
        f"{stage['challenge_ppm'] / PPM_PER_PERCENT:g} %",
        *drawn,
        node.name(stage["operator"]),
    )


def _show_verdicts(node: Connection, stages: list[Json]) -> None:
    rows = []
    for number, challenge in ((number, one["challenge"]) for number, one in enumerate(stages) if one["challenge"]):
        revealed = {one["verifier"]: one for one in challenge["reveals"]}
        for member in challenge["committee"]:
            one = revealed.get(member["verifier"])
            verdict = ("not revealed", "-", "-")
            if one is not None:
                is_measured = one["outcome"] in ("pass", "fail")
                distance = format_distance(one["distance_ppb"]) if is_measured else "-"
                verdict = (one["outcome"], distance, str(one["token_mismatches"]))
            threshold = format_distance(challenge["threshold_ppb"])
            rows.append((str(number), *verdict[:2], threshold, verdict[2], node.name(member["verifier"])))
    if rows:
        numbers = ("distance", "threshold", "wrong tokens")
        print("\nverdicts")
        print_table(("stage", "verdict", *numbers, "verifier"), rows, right=("stage", *numbers))


def _show_payments(node: Connection, title: str, payments: Iterable[Json]) -> None:
    rows = [
        (str(one["height"]), format_myl(one["amount"]), one["as"], one["for"], node.name(one["who"]))
        for one in payments
    ]
    if rows:
        print(f"\n{title}")
        print_table(("block", "amount", "as", "for", "who"), rows, right=("block", "amount"))


def _format_layers(record: Json) -> str:
    return f"{record['start']}-{record['end'] - 1}"
