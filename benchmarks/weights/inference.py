"""Scenarios of inference: each call with its work in later blocks, however the request ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.manifests import build_manifest
from benchmarks.weights.sample import NOTHING, Measurement, Sample
from benchmarks.weights.serving import CLIENT, SESSION_KEY, Serving, build_verdict
from benchmarks.weights.worlds import MYL, SEATS, VALIDATORS, get_payer, get_validator
from consensus.runtime.inference.state import SEQUENCES_CHUNK, DueKind, challenges, due
from genesis.dev import DevIdentity
from proto_specs.codec import encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.limits import COMMITTEE_MAX, MODEL_LAYERS_MAX, STAGES_MAX, STATEMENT_REQUESTS_MAX, WORKER_ADDRESSES_MAX
from proto_specs.types import calls
from proto_specs.types.promise_calls import JoinSettlement, PromisedByOrder, ReportDoublePromise
from proto_specs.types.request import Leaf, sign_order, sign_output

NEWCOMER = get_payer(110)
STAGES = (1, 8, 24, STAGES_MAX)
CHUNKS = (1, 8, 64)
Settling = calls.Settle | calls.SettleStatement


def measure() -> Iterator[Measurement]:
    """Measure all calls of inference."""
    yield from _measure_registrations()
    yield from _measure_absence()
    yield from _measure_sessions()
    for is_silent, scenario in ((True, "a silent committee"), (False, "a committee that commits and never reveals")):
        for stages in STAGES:
            serving = _serve(stages)
            call: Settling = serving.build_settlement()
            yield Measurement("Settle", scenario, "stages", stages, _measure_settlement(serving, call, is_silent))
        for stages in STAGES:
            serving = _serve(stages, SEQUENCES_CHUNK)
            call = serving.build_statement(1)
            sample = _measure_settlement(serving, call, is_silent)
            yield Measurement("SettleStatement", scenario, "stages", stages, sample)
    for chunks in CHUNKS:
        serving = _serve(1, STATEMENT_REQUESTS_MAX)
        sample = _measure_settlement(serving, serving.build_statement(chunks), is_silent=True)
        yield Measurement("SettleStatement", "numbers in many chunks", "chunks", chunks, sample)
    for stages in STAGES:
        yield Measurement("JoinSettlement", "one stage", "path", stages, _measure_joining(stages, 1))
        yield Measurement("JoinSettlement", "a silent committee", "stages", stages, _measure_joining(stages, stages))
        yield Measurement("ReportDoublePromise", "compensated", "path", stages, _measure_double_promise(stages))
    yield from _measure_verdicts()
    yield from _measure_report()


def _measure_registrations() -> Iterator[Measurement]:
    serving = Serving(1)
    rig, operator = serving.rig, serving.workers[0]
    for layers in (1, MODEL_LAYERS_MAX // 4, MODEL_LAYERS_MAX):
        manifest = encode(build_manifest(layers, name="registered"))
        call = calls.RegisterModel(manifest)
        yield Measurement("RegisterModel", "layers", "bytes", len(manifest), rig.measure_call(NEWCOMER, call))
    for addresses in (0, WORKER_ADDRESSES_MAX):
        new = serving.build_worker(NEWCOMER, 0, addresses)
        yield Measurement("RegisterWorker", "new", "addresses", addresses, rig.measure_call(NEWCOMER, new))
        update = serving.build_update(operator, addresses)
        yield Measurement("UpdateWorker", "update", "addresses", addresses, rig.measure_call(operator, update))
    pair = Serving(2)
    move = calls.MoveWorker(pair.workers[0].worker_key.public_key, 0, 2)
    yield Measurement("MoveWorker", "first move", "", 0, pair.rig.measure_call(pair.workers[0], move))
    second = calls.RegisterModel(encode(build_manifest(2)))
    rig.block((CLIENT, second))
    last = max((get_validator(number) for number in range(VALIDATORS)), key=lambda one: one.consensus_key.public_key)
    verifying = calls.RegisterVerifier(hash_tagged(Tag.MANIFEST, second.manifest))
    yield Measurement("RegisterVerifier", "last of the set", "", 0, rig.measure_call(last, verifying))
    rig.block((last, verifying))
    leaving = calls.UnregisterVerifier(verifying.model)
    sample = rig.measure_call(last, leaving)
    rig.block((last, leaving))
    rig.skip_to(rig.height + rig.spec.params.inference.verifier_notice_blocks - 1)
    yield Measurement("UnregisterVerifier", "until it is drawn no more", "", 0, sample + rig.measure_hooks())
    retire = calls.RetireWorker(operator.worker_key.public_key)
    sample = rig.measure_call(operator, retire)
    rig.block((operator, retire))
    rig.skip_to(rig.height + rig.spec.params.inference.worker_unbonding_blocks - 1)
    yield Measurement("RetireWorker", "until the bond is free", "", 0, sample + rig.measure_hooks())


def _measure_absence() -> Iterator[Measurement]:
    """Measure the report that marks a worker and deletes all others, leaving, and the return with new prices."""
    serving = Serving(1)
    rig, operator, key = serving.rig, serving.workers[0], serving.workers[0].worker_key.public_key
    yield Measurement("LeaveWorker", "leaves", "", 0, rig.measure_call(operator, calls.LeaveWorker(key)))
    quorum = 2 * VALIDATORS // 3 + 1
    report = calls.ReportAbsent(key)
    rig.block(*((get_validator(number), report) for number in range(quorum - 1)))
    sample = rig.measure_call(get_validator(quorum - 1), report)
    rig.block((get_validator(quorum - 1), report))
    for addresses in (0, WORKER_ADDRESSES_MAX):
        back = serving.build_update(operator, addresses)
        yield Measurement("UpdateWorker", "return", "addresses", addresses, rig.measure_call(operator, back))
    rig.skip_to(rig.height + rig.spec.params.inference.absence_blocks - 1)
    yield Measurement("ReportAbsent", "the quorum, until it is forgotten", "", 0, sample + rig.measure_hooks())


def _measure_sessions() -> Iterator[Measurement]:
    """Measure a session without a settlement: opened, expired, forgotten; or closed before."""
    serving = Serving(1, session_expiry_blocks=15, retention_blocks=100)
    rig = serving.rig
    sample = rig.measure_call(CLIENT, serving.build_session())
    topping_up = calls.TopUpSession(serving.session, MYL)
    yield Measurement("TopUpSession", "topped up", "", 0, rig.measure_call(CLIENT, topping_up))
    closing = calls.CloseSession(serving.session)
    yield Measurement("CloseSession", "closing", "", 0, rig.measure_call(CLIENT, closing))
    yield Measurement("OpenSession", "until it is forgotten", "", 0, sample + _sum_deadlines(serving))


def _serve(stages: int, requests_max: int = 1) -> Serving:
    """A setting in which no verifier is left for another round."""
    return Serving(
        stages,
        verifiers=SEATS,
        requests_max=requests_max,
        committee_size=SEATS,
        fails_min=1,
        contest_committee_size=0,
        retention_blocks=100,
        session_expiry_blocks=300,
    )


def _measure_settlement(serving: Serving, call: Settling, is_silent: bool) -> Sample:
    """Measure a settlement: settled, drawn in every stage, resolved at the deadlines, forgotten with its session.

    No verifier is left for another round: the members whose silence calls it are slashed and pay for it (contest.py).
    """
    rig = serving.rig
    sample = rig.measure_call(serving.workers[0], call)
    rig.block((serving.workers[0], call))
    rig.skip_to(rig.height + 1)
    sample += rig.measure_hooks()
    rig.block()
    if not is_silent:
        for place in range(SEATS):
            rig.block(*(_find_verdicts(serving, place)))
    return sample + _sum_deadlines(serving)


def _measure_joining(stages: int, brought: int) -> Sample:
    """Measure a settlement of the first stages of a path: pending, drawn, resolved at the deadlines, forgotten."""
    serving = Serving(
        stages, verifiers=SEATS, committee_size=SEATS, fails_min=1, contest_committee_size=0, retention_blocks=100
    )
    whole = serving.build_settlement()
    call = JoinSettlement(whole.order, whole.voucher, whole.stage_roots[:brought])
    sample = serving.rig.measure_call(serving.workers[0], call)
    serving.rig.block((serving.workers[0], call))
    return sample + _sum_deadlines(serving)


def _measure_double_promise(stages: int) -> Sample:
    """Measure a report of two orders: all signatures are verified, every worker of the path is compensated."""
    serving = Serving(stages)
    whole = serving.build_settlement()
    other = sign_order(replace(whole.order.order, tokens_max=99), SESSION_KEY)
    call = ReportDoublePromise(whole.order, whole.voucher, PromisedByOrder(other))
    return serving.rig.measure_call(NEWCOMER, call)


def _sum_deadlines(serving: Serving) -> Sample:
    """The cost of everything still due, block by block. Heights without due work are skipped.

    Whether a verifier's registration may be forgotten is asked for ever, and is not of the call that is measured.
    """
    rig, total = serving.rig, NOTHING
    while waiting := [key[0] for key in due.iterate(rig.state) if key[1] != DueKind.VERIFIER_EXPIRY]:
        rig.skip_to(waiting[0] - 1)
        total += rig.measure_hooks()
        rig.block()
    return total


def _find_verdicts(serving: Serving, place: int) -> Iterator[tuple[DevIdentity, calls.CommitVerdict]]:
    """The commitment of a seat in every open challenge."""
    known = {get_validator(number).account: get_validator(number) for number in range(VALIDATORS)}
    for (challenge_id,), challenge in challenges.iterate(serving.rig.state):
        who = known[challenge.committee[place].verifier]
        yield who, build_verdict(challenge_id, who, place)[0]


def _measure_verdicts() -> Iterator[Measurement]:
    """Measure committees of all sizes. A reveal pays an equal share of the cost of all, with the last one's count."""
    known = {get_validator(number).account: get_validator(number) for number in range(VALIDATORS)}
    for seats in (1, SEATS, 3 * SEATS, COMMITTEE_MAX):
        serving = Serving(1, committee_size=seats, fails_min=1, contest_committee_size=0)
        rig = serving.rig
        rig.block((serving.workers[0], serving.build_settlement()))
        rig.skip_to(rig.height + 2)
        (((challenge_id,), challenge),) = challenges.iterate(rig.state)
        members = [known[one.verifier] for one in challenge.committee]
        verdicts = [build_verdict(challenge_id, who, place) for place, who in enumerate(members)]
        commit = rig.measure_call(members[-1], verdicts[-1][0])
        yield Measurement("CommitVerdict", f"{seats} seats", "", 0, commit)
        rig.block(*((who, commit) for who, (commit, _) in zip(members, verdicts, strict=True)))
        others = NOTHING
        if seats > 1:
            others = rig.measure_call(members[0], verdicts[0][1]).multiply(seats - 1)
        rig.block(*((who, reveal) for who, (_, reveal) in zip(members[:-1], verdicts[:-1], strict=True)))
        last = rig.measure_call(members[-1], verdicts[-1][1])
        yield Measurement("RevealVerdict", f"{seats} seats", "", 0, (others + last).divide(seats))


def _measure_report() -> Iterator[Measurement]:
    """Measure a report: both leaves are verified, the bond falls below the minimum, the worker is ejected."""
    serving = Serving(1, equivocation_slash_permille=1_000)
    rig, worker = serving.rig, serving.workers[0].worker_key
    zero = bytes(32)
    leaves = [Leaf(zero, 1, 0, 0, 32, 64, 0, bytes([place]) * 32, zero, zero) for place in (1, 2)]
    signatures = [sign_output(leaf, worker) for leaf in leaves]
    call = calls.ReportEquivocation(worker.public_key, True, leaves[0], signatures[0], leaves[1], signatures[1])
    sample = rig.measure_call(NEWCOMER, call)
    rig.block((NEWCOMER, call))
    rig.skip_to(rig.height + rig.spec.params.inference.worker_unbonding_blocks - 1)
    yield Measurement("ReportEquivocation", "ejected, released", "", 0, sample + rig.measure_hooks())
