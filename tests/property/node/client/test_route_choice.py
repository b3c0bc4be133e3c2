"""Routes over a model's workers: no dead one while a live path exists, mended as little as possible, no oscillation."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.routing import LayerOffer, NoPathError, Prefer, choose_path
from node.client.chain_view import WorkerEntry
from node.client.routes import Route, Routes
from node.client.worker_memory import WorkerMemory
from tests.unit.node.client.listings import ASK, ListingChain, make_entry, make_report

LAYERS = 6
ENTRIES = st.lists(
    st.tuples(st.integers(0, LAYERS - 1), st.integers(1, LAYERS), st.integers(0, 12), st.integers(1, 9)),
    min_size=1,
    max_size=10,
).map(
    lambda rows: [
        (make_entry(f"w{at}", start, min(LAYERS, start + width), price), 1_000 * pace)
        for at, (start, width, price, pace) in enumerate(rows)
    ]
)


def run(chain: ListingChain, memory: WorkerMemory, use: object) -> object:
    async def main() -> object:
        return await use(Routes(chain, memory))  # type: ignore[operator]

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def find_all(entries: list[WorkerEntry], at: int = 0) -> Iterator[tuple[WorkerEntry, ...]]:
    if at == LAYERS:
        yield ()
    for one in entries:
        if one.start == at:
            for rest in find_all(entries, one.end):
                yield (one, *rest)


def make_chain(entries: list[WorkerEntry]) -> ListingChain:
    return ListingChain({one.worker: one for one in entries})


async def break_down(memory: WorkerMemory, how: dict[bytes, str]) -> None:
    now_s = trio.current_time()
    for worker, way in how.items():
        if way == "failed":
            memory.note_failed(worker, now_s)
        elif way == "silent":
            memory.note_silent(worker, now_s)
        else:
            memory.note_report(worker, make_report(worker, is_leaving=True), 0.01, now_s)


@settings(max_examples=200, deadline=None)
@given(listed=ENTRIES, data=st.data(), prefer=st.sampled_from(list(Prefer)))
def test_no_dead_worker_while_a_live_path_exists_and_never_above_the_price(listed, data, prefer) -> None:
    entries = [entry for entry, _ in listed]
    names = st.sampled_from([one.worker for one in entries])
    how = data.draw(st.dictionaries(names, st.sampled_from(["failed", "silent", "leaving"])))
    excluded = data.draw(st.sets(names, max_size=2)) | set()
    had_path_before = data.draw(st.booleans())
    memory = WorkerMemory()
    ask = dataclasses.replace(ASK, prefer=prefer, max_price=10)

    async def use(routes: Routes) -> Route | None:
        for entry, pace in listed:
            memory.note_report(entry.worker, make_report(entry.worker, decode_us=pace), 0.01, trio.current_time())
        try:
            if had_path_before:
                await routes.choose(ask, ())
            await break_down(memory, how)
            return await routes.choose(ask, excluded)
        except NoPathError:
            return None

    route = run(make_chain(entries), memory, use)
    payable = [one for one in entries if one.decode_price <= 10 and one.worker not in excluded]
    live = [one for one in payable if one.worker not in how]
    if route is None:
        usable = (
            entries if had_path_before and not any(find_all([e for e in entries if e.decode_price <= 10])) else payable
        )
        assert not any(find_all([one for one in usable if one.decode_price <= 10]))
        return
    assert isinstance(route, Route)
    assert all(one in payable for one in route.workers)
    dead = sum(one.worker in how for one in route.workers)
    if any(find_all(live)):
        assert not dead
    else:
        assert dead == min(sum(one.worker in how for one in path) for path in find_all(payable))


@settings(max_examples=200, deadline=None)
@given(listed=ENTRIES, data=st.data())
def test_a_continuation_replaces_lost_ranges_only_and_the_best_way(listed, data) -> None:
    whole = data.draw(st.integers(1, 9).map(lambda pace: (make_entry("whole"), 1_000 * pace)))
    listed = [*listed, whole]
    entries = [entry for entry, _ in listed if entry.decode_price <= 10]
    memory = WorkerMemory()
    paces = {entry.worker: pace for entry, pace in listed}

    async def use(routes: Routes) -> tuple[Route, set[bytes], Route | None]:
        for worker, pace in paces.items():
            memory.note_report(worker, make_report(worker, decode_us=pace), 0.01, trio.current_time())
        route = await routes.choose(ASK, ())
        lost = data.draw(st.sets(st.sampled_from([one.worker for one in route.workers]), min_size=1))
        try:
            return route, lost, await routes.choose_continuation(ASK, route.path, lost, ())
        except NoPathError:
            return route, lost, None

    route, lost, mended = run(make_chain(entries), memory, use)  # type: ignore[misc]
    live = [one for one in entries if one.worker not in lost]
    stays = [one for one in route.workers if one.worker not in lost]
    fitting = [path for path in find_all(live) if all(one in path for one in stays)]
    if mended is None:
        assert not any(find_all(live))
        return
    assert not lost & {one.worker for one in mended.workers}
    if fitting:
        assert all(one in mended.workers for one in stays)
        gone = [one for one in live if all(one.end <= stay.start or stay.end <= one.start for stay in stays)]
        offers = [
            LayerOffer(
                one.worker, one.start, one.end, one.prefill_price, one.decode_price, 0, 100, paces[one.worker], 10_000
            )
            for one in (*stays, *gone)
        ]
        best = choose_path(offers, LAYERS, prompt_tokens=len(ASK.prompt), new_tokens=ASK.tokens_max, max_price=10)
        assert [one.worker for one in best] == [one.worker for one in mended.workers]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), prices=st.sampled_from([(1, 1), (1, 2), (10, 1)]), edge=st.sampled_from([1.0, 1.1]))
def test_noise_makes_the_choice_change_at_most_a_few_times_an_hour(seed, prices, edge) -> None:
    """Two paths that are equal, or just a tenth apart, each measured with 20 % of noise every ten seconds."""
    rng = random.Random(seed)
    memory = WorkerMemory()
    entries = [make_entry("a", price=prices[0]), make_entry("b", price=prices[1])]
    true_us = {entries[0].worker: 10_000.0, entries[1].worker: 10_000.0 * edge}

    async def use(routes: Routes) -> list[bytes]:
        taken = []
        for _ in range(360):
            for worker, decode_us in true_us.items():
                noisy = round(decode_us * rng.uniform(0.8, 1.2))
                memory.note_report(
                    worker, make_report(worker, decode_us=noisy), 0.02 * rng.uniform(0.8, 1.2), trio.current_time()
                )
            taken.append((await routes.choose(ASK, ())).workers[0].worker)
            await trio.sleep(10)
        return taken

    taken = run(make_chain(entries), memory, use)
    assert isinstance(taken, list)
    assert sum(one != then for one, then in itertools.pairwise(taken)) <= 6


@settings(max_examples=50, deadline=None)
@given(listed=ENTRIES, seed=st.integers(0, 99))
def test_the_same_is_chosen_whatever_the_order_of_the_list(listed, seed) -> None:
    entries = [entry for entry, _ in listed]
    shuffled = random.Random(seed).sample(entries, len(entries))
    found = []
    for order in (entries, shuffled):
        memory = WorkerMemory()

        async def use(routes: Routes, memory: WorkerMemory = memory) -> tuple[bytes, ...] | None:
            for entry, pace in listed:
                memory.note_report(entry.worker, make_report(entry.worker, decode_us=pace), 0.01, trio.current_time())
            try:
                return tuple(one.worker for one in (await routes.choose(ASK, ())).workers)
            except NoPathError:
                return None

        found.append(run(make_chain(order), memory, use))
    assert found[0] == found[1]
