"""Texts in slots: reads a few waiting requests at a time, then writes a chunk of tokens in all slots, and so on."""

import collections
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.data import packing
from sgt_jax.data.examples import PlanItem
from sgt_jax.data.packing import Lanes
from sgt_jax.errors import DataError
from sgt_jax.inference.assistant import CHAT_PIXELS, THINK_TO_ANSWER, THINK_TO_PAINT, Assistant
from sgt_jax.inference.jobs import Job, Request, Result
from sgt_jax.inference.offered import USUAL_CONTEXT, Offered, positions
from sgt_jax.inference.programs import Programs
from sgt_jax.models import slots
from sgt_jax.parallel.distributed import fetch

_SMALLEST, _GROWTH = 64, 8  # lengths that are compiled for: 64, 512, 4096, ... and the whole context
_TOGETHER = 4096  # tokens that are read at a time at most, where there are several requests


class Prepared(NamedTuple):
    """A request laid out.

    Attributes:
      lanes: of its prompt.
      length, seen: slots of its lanes for tokens and for what the understanding encoder sees.
      room: tokens that it may write.
    """

    lanes: Lanes
    length: int
    seen: int
    room: int


class _Slot:
    """A job that is being written, and its ids so far."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.ids: list[int] = []

    def take(self, new: list[int], stops: tuple[int, ...]) -> bool:
        """Adds tokens; True when the text has ended."""
        before = len(self.ids)
        room, ended = self.job.prepared.room, False
        for token in new:
            if token in stops and not self.job.request.ignore_end:
                ended = True
                break
            self.ids.append(token)
            if len(self.ids) >= room:
                break
        if len(self.ids) > before:
            self.job.tell("tokens", self.ids[before:])
        if ended or len(self.ids) >= room:
            self.job.finish(Result(tuple(self.ids), read=self.job.prepared.length, ended=ended))
        return self.job.future.done()


class Writing:
    """All texts of an engine. `prepare` may be called from any thread, all else by the engine's.

    Attributes:
      waiting: jobs without a slot yet.
      context: cache entries of a slot.
    """

    def __init__(self, assistant: Assistant, programs: Programs, limits: Any, offered: Offered | None = None) -> None:
        self._assistant, self._programs, self._limits, self._offered = assistant, programs, limits, offered
        self.waiting: collections.deque[Job] = collections.deque()
        self._slots: list[_Slot | None] = [None] * limits.slots
        self._state: slots.Slots | None = None
        self.context = limits.context or min(positions(assistant), USUAL_CONTEXT)
        self._sampler = assistant.sampler(())
        self._stops = self._sampler.steps.stops()

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return sum(slot is not None for slot in self._slots)

    @property
    def pending(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.waiting) or self.busy > 0

    def everything(self) -> list[Job]:
        """All jobs that have not ended."""
        return [*self.waiting, *(slot.job for slot in self._slots if slot is not None)]

    def prepare(self, request: Request) -> Prepared:
        """Lays a request out. Raises DataError: empty, or too long for the context."""
        lanes = lay_out(self._assistant, request)
        length, seen = lengths(lanes)
        room = self.context - length - 1
        if request.plans and self._offered is not None:  # the picture is painted after prompt and plan, and a mark
            room = min(room, self._offered.lengths[-1] - length - 3)
        if room < 1 or seen > self.context:
            raise DataError(
                f"the conversation takes {max(length, seen)} tokens, pictures included, and this server reads "
                f"{self.context - 2} at most; shorten it, or send fewer or smaller pictures"
            )
        return Prepared(lanes, length, seen, max(min(request.max_new_tokens, room), 1))

    # -- The loop's part -----------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Fills free slots, and writes a chunk of tokens in all that are taken."""
        self._drop()
        while self.waiting and None in self._slots:
            self._read()
        if self.busy:
            self._write()

    def warm_up(self) -> None:
        """Compiles every shape of reading, and writing; runs the smallest, as reading long contexts takes a while."""
        ladder = self._ladder()
        read, inserted = [], []
        self._open([], ladder[0], 0, self._rows(ladder[0], 1))
        for length in ladder:
            for seen in (0, length):
                for rows in sorted({self._rows(length, count) for count in (1, 2)}):
                    given = self._given([], length, seen, rows)
                    read.append(self._programs.ask("open", self._sampler.steps.open_text, *given))
        for one in read:  # all are compiled beside each other
            given = (self._state, one.result().out_info, np.int32(0), np.int32(0))
            inserted.append(self._programs.ask("insert", slots.insert, *given))
        self._advance(np.zeros(self._limits.slots, bool))
        for one in inserted:
            one.result()

    def _drop(self) -> None:
        self.waiting = collections.deque(job for job in self.waiting if not job.dropped())
        self._slots = [None if slot is not None and slot.job.dropped() else slot for slot in self._slots]

    def _ladder(self) -> list[int]:
        steps, length = [], _SMALLEST
        while length < self.context:
            steps.append(length)
            length *= _GROWTH
        return [*steps, self.context]

    def _fit(self, prepared: Prepared) -> tuple[int, int]:
        """(tokens, what the encoder sees) that the program has which reads this."""
        length = next(n for n in self._ladder() if n >= max(prepared.length, prepared.seen))
        return length, length if prepared.seen else 0

    def _rows(self, length: int, count: int) -> int:
        """Rows of the program that reads so many requests of this length."""
        together = max(min(self._limits.prefill, _TOGETHER // length), 1)
        # Padding rows of short prompts costs less than a program of their own.
        return together if count > 1 or length <= _SMALLEST or self._limits.deterministic else 1

    def _read(self) -> None:
        """Reads the oldest waiting requests of one shape, as many as there are free slots, and gives them slots."""
        shape = self._fit(self.waiting[0].prepared)
        most = min(self._rows(shape[0], 2), self._slots.count(None))
        jobs = [job for job in self.waiting if self._fit(job.prepared) == shape][:most]
        self.waiting = collections.deque(job for job in self.waiting if job not in jobs)
        rows = self._rows(shape[0], len(jobs))
        # A request that came to its last step is nobody's fault but ours: the loop ends and tells everybody.
        read = self._open(jobs, *shape, rows)
        first = np.asarray(fetch(read.token)).tolist()
        for row, job in enumerate(jobs):
            slot = _Slot(job)
            if slot.take(first[row : row + 1], self._stops):
                continue
            free = self._slots.index(None)
            self._slots[free] = slot
            self._state = self._programs.run(
                "insert", slots.insert, self._state, read, np.int32(row), np.int32(free)
            )  # fmt: skip

    def _given(self, jobs: list[Job], length: int, seen: int, rows: int) -> tuple:
        """What the program takes that reads prompts, padded to so many rows."""
        spec = self._sampler.layout.spec
        budgets = dict.fromkeys(spec, 0) | {"und": length, "vit": seen}
        laid = [job.prepared.lanes for job in jobs]
        batch = packing.stack_samples([*laid, *[{}] * (rows - len(laid))], spec, budgets)
        seeds = np.asarray([*(job.request.seed for job in jobs), *[0] * (rows - len(jobs))], np.int32)
        heat = np.asarray([*(job.request.temperature for job in jobs), *[0.0] * (rows - len(jobs))], np.float32)
        return self._assistant.params, batch, seeds, heat

    def _open(self, jobs: list[Job], length: int, seen: int, rows: int) -> slots.Slots:
        read = self._programs.run("open", self._sampler.steps.open_text, *self._given(jobs, length, seen, rows))
        if self._state is None:
            self._state = jax.device_put(slots.empty(read, self._limits.slots, self.context + 1), read.token.sharding)
        return read

    def _write(self) -> None:
        live = np.asarray([slot is not None for slot in self._slots])
        tokens = self._advance(live)
        for number, slot in enumerate(self._slots):
            if slot is not None:
                if slot.take(tokens[:, number].tolist(), self._stops):
                    self._slots[number] = None

    def _advance(self, live: np.ndarray) -> np.ndarray:
        """Tokens int32 [chunk, slots]."""
        self._state, tokens = self._programs.run(
            "write", functools.partial(_write_chunk, self._sampler.steps), self._assistant.params, self._state, live,
            chunk=self._limits.chunk,
        )  # fmt: skip
        return np.asarray(fetch(tokens))


def lay_out(assistant: Assistant, request: Request) -> Lanes:
    """The lanes of a conversation's prompt. Raises DataError: empty."""
    settings = request.settings or assistant.defaults["chat"]
    if request.plans:
        return assistant.sampler(()).layout.lay_out(tuple(_plan_to_paint(assistant, request)))
    plan = assistant._plan(request.history, settings, vae=False, max_pixels=CHAT_PIXELS)
    if not plan:
        raise DataError("an empty conversation: give a text or a picture")
    plan = assistant._thinking(THINK_TO_ANSWER, plan) if request.think else plan
    return assistant.sampler(()).layout.lay_out(tuple(plan))


def _plan_to_paint(assistant: Assistant, request: Request) -> list[PlanItem]:
    if not request.history or any(not isinstance(entry, str) for entry in request.history):
        raise DataError("only what is drawn after a text is planned")
    plan = assistant._plan(request.history, request.settings or assistant.defaults["t2i"], vae=True)
    return assistant._thinking(THINK_TO_PAINT, plan)


def lengths(lanes: Lanes) -> tuple[int, int]:
    """Slots of a prompt for tokens, and for what the understanding encoder sees."""
    found = packing.lengths(lanes)
    return found.get("und", 0), found.get("vit", 0)


def _write_chunk(steps: Any, params: Any, state: slots.Slots, live: jax.Array, chunk: int) -> tuple[slots.Slots, jax.Array]:
    def one(state: slots.Slots, _: Any) -> tuple[slots.Slots, jax.Array]:
        state = steps.feed_text(params, state, jnp.asarray(live))
        return state, state.token

    return jax.lax.scan(one, state, length=chunk)
