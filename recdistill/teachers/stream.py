"""Training from positives that stay on disk: windows of a few parts come and go while the teacher trains.

An epoch shuffles the parts and cuts them into windows. A window gets the epoch's steps in proportion to its share of
the draw's weight, so that over an epoch users are drawn as often as from memory; a step draws from its window alone.
What a step draws depends on (seed, step, generator) only: training may begin anywhere.

Shapes: P parts, B users drawn, U users of a window and n positives of theirs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recdistill.retrieval.hashing import mix
from recdistill.teachers.parts import Parts
from recdistill.teachers.positives import Positives, UserBatch, UserSampler, gather_users


@dataclass(frozen=True)
class Visit:
    """Steps ``first <= step < stop``, all of which draw from the same parts (ascending)."""

    parts: tuple[int, ...]
    first: int
    stop: int


class Schedule:
    """Which parts a step draws from: a function of its arguments.

    Args:
        weights: [P] how much of the draw's weight each part has.
        steps: of an epoch.
        window_parts: parts of a window; the last of an epoch may have fewer.
        seed: of the order of the parts, which is another one every epoch.
    """

    def __init__(self, weights: np.ndarray, *, steps: int, window_parts: int, seed: int) -> None:
        self._weights, self.steps, self._window, self._seed = weights, steps, window_parts, seed

    def at(self, step: int) -> Visit:
        """The visit that a step belongs to."""
        epoch, within = divmod(step, self.steps)
        draws = mix(self._seed, np.full(len(self._weights) + 1, epoch), np.arange(len(self._weights) + 1))
        order = np.argsort(draws[:-1], kind="stable")
        share = np.add.reduceat(self._weights[order], np.arange(0, len(order), self._window)).cumsum()
        # Rounded down from a random phase, a window's steps are right on average, and never wrong by one whole step.
        phase = float(draws[-1] >> np.uint64(11)) / 2.0**53
        stops = np.minimum(np.floor(share / share[-1] * self.steps + phase), self.steps).astype(np.int64)
        stops[-1] = self.steps
        window = int(np.searchsorted(stops, within, side="right"))
        parts = np.sort(order[window * self._window : (window + 1) * self._window])
        first = int(stops[window - 1]) if window else 0
        return Visit(tuple(parts.tolist()), epoch * self.steps + first, epoch * self.steps + int(stops[window]))


class Streamed:
    """Batches from parts on disk. While one window is drawn from, a thread reads the next.

    With all parts in one window, draws equal those of :class:`~recdistill.teachers.positives.InMemory` bit for bit.
    Memory: two windows of 20·n + 24·U bytes, 48·U more while one is made, and about 30 bytes a positive of the one part
    that is being read; n is about ``window_parts`` × the parts' positives. The vocabulary as in :class:`Positives`.

    Attributes:
        drawn: seconds spent in :meth:`draw` so far.
        waited: seconds of these in which the trainer stood still because its window was not there yet.

    Args:
        parts: as :func:`~recdistill.teachers.parts.write_parts` gave them.
        power: users are drawn in proportion to their positives to this power.
        seed: of the order of the parts.
        batch: users a step, as they will be asked for: an epoch has as many steps as draw each user once on average.
        window_parts: parts a window.
    """

    def __init__(self, parts: Parts, *, power: float, seed: int, batch: int, window_parts: int) -> None:
        if batch < 1 or window_parts < 1:
            raise ValueError(f"batch and window_parts must be 1 or more, not {batch} and {window_parts}")
        self._parts, self._power = parts, power
        part, positives, users = self._parts.histogram()
        drawable = np.where(positives >= 2, users, 0)
        weights = np.bincount(part, drawable * positives.astype(np.float64) ** power, minlength=len(self._parts))
        windows = -(-len(self._parts) // window_parts)
        steps = max(windows, -(-int(drawable.sum()) // batch))
        self._schedule = Schedule(weights, steps=steps, window_parts=window_parts, seed=seed)
        self._visit = Visit((), 0, 0)
        self._window: _Window | None = None
        self._next: tuple[tuple[int, ...], Future[_Window]] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self.drawn = self.waited = 0.0

    @property
    def item_ids(self) -> pd.Index:
        return self._parts.item_ids

    @property
    def support(self) -> Tensor:
        return self._parts.support

    @property
    def users(self) -> int:
        return int(self._parts.first_user[-1])

    @property
    def times(self) -> tuple[int, int]:
        return self._parts.times

    @property
    def steps_an_epoch(self) -> int:
        """Steps in which each user with two positives or more is drawn once on average."""
        return self._schedule.steps

    def draw(self, step: int, size: int, generator: torch.Generator) -> UserBatch:
        """As :class:`~recdistill.teachers.positives.UserBatches`; a step draws from its window's users.

        Raises:
            UserError: a part is missing or damaged; also where the thread found it.
        """
        started = time.perf_counter()
        window = self._window
        if window is None or not self._visit.first <= step < self._visit.stop:
            window = self._move(step)
        batch = window.draw(size, generator)
        self.drawn += time.perf_counter() - started
        return batch

    def close(self) -> None:
        """End the thread and let the windows go; a later draw would begin anew."""
        thread, self._thread, self._next, self._window = self._thread, None, None, None
        if thread is not None:
            thread.shutdown(cancel_futures=True)

    def _move(self, step: int) -> _Window:
        """Go to the step's window, and have the one after it read."""
        visit = self._schedule.at(step)
        window = self._window
        if window is None or visit.parts != self._visit.parts:
            window = self._window = self._wait_for(visit.parts)
        self._visit = visit
        following = self._schedule.at(visit.stop).parts
        if following != visit.parts and (self._next is None or self._next[0] != following):
            self._next = following, self._read(following)
        return window

    def _wait_for(self, parts: tuple[int, ...]) -> _Window:
        started = time.perf_counter()
        following, self._next = self._next, None
        if following is not None and following[0] == parts:
            coming = following[1]
        else:  # a step out of order: neither what was held nor what was coming is wanted
            self._window = None
            if following is not None:
                following[1].cancel()
            coming = self._read(parts)
        del following
        window = coming.result()
        self.waited += time.perf_counter() - started
        return window

    def _read(self, parts: tuple[int, ...]) -> Future[_Window]:
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="recdistill-parts")
        return self._thread.submit(_Window.of, self._parts, parts, power=self._power)


@dataclass(frozen=True)
class _Window:
    """Users of some parts, in the parts' order."""

    positives: Positives
    number: Tensor  # [U] over all parts
    sampler: UserSampler

    @classmethod
    def of(cls, parts: Parts, chosen: Sequence[int], *, power: float) -> _Window:
        users, rows = sum(parts.users[part] for part in chosen), sum(parts.positives[part] for part in chosen)
        item, behaviours = torch.empty(rows, dtype=torch.int64), torch.empty(rows)
        times, number = torch.empty(rows, dtype=torch.int64), torch.empty(users, dtype=torch.int64)
        starts = torch.zeros(users + 1, dtype=torch.int64)
        user = row = 0
        for part in chosen:
            its_users = slice(user, user + parts.users[part])
            its_rows = slice(row, row + parts.positives[part])
            parts.fill(
                part,
                item=item[its_rows],
                behaviours=behaviours[its_rows],
                time=times[its_rows],
                counts=starts[1:][its_users],
            )
            first = int(parts.first_user[part])
            number[its_users] = torch.arange(first, first + parts.users[part])
            user, row = its_users.stop, its_rows.stop
        starts = starts.cumsum(0)
        ids = pd.Index(number.numpy())  # a window knows users by number only
        positives = Positives(parts.item_ids, ids, item, behaviours, times, starts, parts.support)
        return cls(positives, number, UserSampler(positives.counts, power=power))

    def draw(self, size: int, generator: torch.Generator) -> UserBatch:
        batch = gather_users(self.positives, self.sampler.draw(size, generator))
        return replace(batch, user=self.number[batch.user])
