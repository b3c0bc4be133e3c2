"""Books the requests of one choice in the database: each before its tokens leave, and what it cost when it is over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from node.client.answer import Answer, OrderedPart, Resolution
from node.gateway.accounts.budget import Budgets
from node.gateway.accounts.keys import ApiKey
from node.gateway.accounts.store import AccountStore, StoredRequest, get_day
from node.gateway.follow import Follower

FREE_STATE = "cancelled"
"""What a request is called that ended without a cost."""
OPEN = "open"
MOVED = "moved"
"""Its answer went on as another request, after a worker was lost."""


@dataclass(slots=True)
class BookedPart:
    """A request as it stands: `state` is open as long as it runs, then how it ended."""

    part: OrderedPart
    state: str = OPEN
    cost: int = 0
    resolution: Resolution = Resolution.PENDING

    def describe(self) -> dict[str, Any]:
        """What the client is told of it."""
        is_free = self.cost == 0 and self.state != OPEN and self.resolution == Resolution.PENDING
        state = FREE_STATE if is_free else self.resolution.value
        told: dict[str, Any] = {"id": self.part.request.hex(), "cost_nmyl": self.cost, "state": state}
        if self.part.continues is not None:
            told["continues"] = self.part.continues.hex()
        return told


class ChoiceBook:
    """The requests of one choice. What they may cost is set aside in the key's budget as long as they run."""

    def __init__(self, store: AccountStore, budgets: Budgets, follower: Follower, key: ApiKey, row: StoredRequest):
        """`row` is what all of them have in common."""
        self._store = store
        self._budgets = budgets
        self._follower = follower
        self._key = key
        self._row = row
        self._reserved = 0
        self._counted = 0
        self._parts: dict[bytes, BookedPart] = {}

    @property
    def cost(self) -> int:
        """What all of them cost, as far as they are booked."""
        return sum(one.cost for one in self._parts.values())

    def describe(self) -> list[dict[str, Any]]:
        """What the client is told of them."""
        return [one.describe() for one in self._parts.values()]

    def reserve(self, answer: Answer) -> None:
        """Set aside what it may cost on its present path: more than before, where an earlier one was promised a part.

        Raises ApiRefusal 429.
        """
        more = max(0, answer.cost_max_nmyl - self.cost - self._reserved)
        self._budgets.reserve(self._key, more)
        self._reserved += more

    def release(self) -> None:
        """Set nothing aside any more."""
        self._budgets.release(self._key, self._reserved)
        self._reserved = 0

    async def follow(self, answer: Answer, tokens: int) -> None:
        """Its parts after so many tokens: end those that another one continues, begin what is new."""
        parts = answer.parts
        for one in parts[:-1]:
            await self._end(one, MOVED if one.cost_nmyl else "failed", tokens)
        if parts:
            await self._begin(parts[-1], answer.cost_max_nmyl)

    async def end(self, answer: Answer, state: str, tokens: int) -> None:
        """It is over: what each of its requests costs."""
        parts = [one for one in answer.parts if one.cost_nmyl or one.request in self._parts]
        for one in parts:
            await self._begin(one, self.cost + one.cost_nmyl)
            moved = MOVED if one.cost_nmyl else "failed"
            await self._end(one, state if one is parts[-1] else moved, tokens)

    async def wait_for(self, wanted: Resolution) -> None:
        """Until the chain has got so far with each that costs something, for a while at most."""
        for one in self._parts.values():
            if one.cost:
                stored = await self._follower.wait_for(one.part.request, wanted)
                one.resolution, one.cost = stored.resolution, stored.cost

    async def _begin(self, part: OrderedPart, price_max: int) -> None:
        if part.request in self._parts:
            return
        is_first = not self._parts
        before = sum(one.cost for one in self._parts.values())
        row = replace(
            self._row,
            request=part.request,
            session=part.session,
            price_max=max(0, price_max - before),
            prompt_tokens=self._row.prompt_tokens if is_first else 0,
            continues=(part.continues or self._row.continues) if is_first else part.continues,
        )
        await self._store.begin(row)
        self._parts[part.request] = BookedPart(part)

    async def _end(self, part: OrderedPart, state: str, tokens: int) -> None:
        booked = self._parts.get(part.request)
        if booked is None:
            if not part.cost_nmyl:  # an order that nobody owes anything for, and that no answer came of
                return
            await self._begin(part, self.cost + part.cost_nmyl)
            booked = self._parts[part.request]
        if booked.state != OPEN:
            return
        await self._store.finish(part.request, state, part.cost_nmyl, tokens - self._counted)
        booked.part, booked.state, booked.cost = part, state, part.cost_nmyl
        self._counted = tokens
        freed = min(part.cost_nmyl, self._reserved)  # it is spent now
        self._budgets.release(self._key, freed)
        self._reserved -= freed
        if part.cost_nmyl:
            self._follower.follow(part.request)


def make_common_row(
    key: ApiKey, created: int, model: bytes, prompt_tokens: int, continues: bytes | None
) -> StoredRequest:
    """What the rows of a choice have in common."""
    return StoredRequest(
        request=b"",
        key=key.number,
        day=get_day(created),
        created=created,
        session=b"",
        model=model,
        price_max=0,
        state=OPEN,
        cost=0,
        prompt_tokens=prompt_tokens,
        generated_tokens=0,
        resolution=Resolution.PENDING,
        continues=continues,
    )
