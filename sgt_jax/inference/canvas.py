"""Pictures in groups: those of one size and settings are painted as one batch, one step of it at a turn."""

import collections
import dataclasses
import functools
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np

from sgt_jax.data import packing
from sgt_jax.data.examples import PlanItem
from sgt_jax.data.packing import Lanes
from sgt_jax.data.pictures.resizing import resize
from sgt_jax.errors import DataError
from sgt_jax.inference import buckets
from sgt_jax.inference.assistant import THINK_TO_PAINT, Assistant
from sgt_jax.inference.jobs import Job, Request, Result
from sgt_jax.inference.offered import Fitted, Offered
from sgt_jax.inference.programs import Programs
from sgt_jax.inference.sampler import show
from sgt_jax.models import guiding
from sgt_jax.models.family import Settings
from sgt_jax.parallel.distributed import fetch

_PATIENCE = 0.005  # seconds to wait for a program before texts have their turn


class Prepared(NamedTuple):
    """A request laid out.

    Attributes:
      branches: lanes of what each branch of guidance reads.
      budgets: slots per lane that hold them.
      length: tokens of the main branch.
      kind: of guidance, with all branches that run.
      shown: (height, width) that the result is resized to, or None.
      group: what two requests must share to be painted together.
    """

    branches: tuple[Lanes, ...]
    budgets: tuple[tuple[str, int], ...]
    length: int
    kind: Any
    shown: tuple[int, int] | None
    group: tuple[Any, ...]


class _Group:
    """Pictures that are being painted together: their state after `step` steps."""

    def __init__(self, jobs: list[Job], sampler: Any, settings: Settings, shape: tuple[int, int], kind: Any) -> None:
        self.jobs, self.sampler, self.shape = jobs, sampler, shape
        self.times = np.asarray(sampler.steps.times(settings.steps, settings.shift, shape), np.float32)
        self.kind = kind
        self.values = {name: np.float32(value) for name, value in guiding.numbers(settings.guidance).items()}
        self.step = 0
        self.context: Any = None
        self.state: Any = None

    @property
    def steps(self) -> int:
        return len(self.times) - 1


class Canvas:
    """All pictures of an engine. `prepare` may be called from any thread, all else by the engine's.

    Attributes:
      waiting: jobs that no group has taken up yet.
    """

    def __init__(self, assistant: Assistant, programs: Programs, limits: Any, offered: Offered | None = None) -> None:
        self._assistant, self._programs, self._limits, self._offered = assistant, programs, limits, offered
        self.waiting: collections.deque[Job] = collections.deque()
        self._group: _Group | None = None

    @property
    def busy(self) -> int:
        """Pictures that are being painted."""
        return 0 if self._group is None else sum(not job.future.done() for job in self._group.jobs)

    @property
    def pending(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.waiting) or self._group is not None

    def everything(self) -> list[Job]:
        """All jobs that have not ended."""
        return [*self.waiting, *(self._group.jobs if self._group is not None else ())]

    def prepare(self, request: Request) -> Prepared:
        """Lays a request out. Raises DataError: empty, too long, or of a size that is not painted here."""
        assistant, offered = self._assistant, self._offered
        settings = request.settings or assistant.defaults[request.mode]
        if offered is None:
            fitted = Fitted(assistant._output_shape(request.history, request.shape))
            kind = guiding.kind(settings.guidance)
        else:
            fitted, kind = offered.fit(request), offered.kind(request.mode, settings.guidance)
        plan = assistant._plan(request.history, settings, vae=request.mode != "segment", size=fitted.size)
        if not plan:
            raise DataError("an empty request: give a text or a picture")
        plan = assistant._thinking(THINK_TO_PAINT, plan) if request.think else plan
        canvases = _canvases(plan)
        sampler = assistant.sampler(canvases)
        branches = sampler.steps.branches(plan, request.thought, guiding.spread(settings.guidance, kind))
        laid = tuple(sampler.layout.lay_out(tuple(branch)) for branch in branches)
        if offered is None:
            found = buckets.budgets(laid, sampler.layout.spec)
        else:
            count = sum(not isinstance(entry, str) for entry in request.history)
            found = offered.budgets(request, fitted.shape, count, kind, laid)
        budgets = tuple(sorted(found.items()))
        group = (fitted.shape, canvases, settings.steps, settings.shift, settings.guidance, kind, budgets)
        return Prepared(laid, budgets, packing.lengths(laid[0]).get("und", 0), kind, fitted.shown, group)

    # -- The loop's part -----------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Takes up the next group, or goes one step further with the one that there is."""
        self.waiting = collections.deque(job for job in self.waiting if not job.dropped())
        if self._group is None and self.waiting:
            self._group = self._gather()
        group = self._group
        if group is None:
            return
        if all(job.dropped() for job in group.jobs):
            self._group = None
        elif group.context is None:
            self._read(group)
        elif group.step < group.steps:
            self._paint(group)
        else:
            self._show(group)

    def warm_up(self) -> None:
        """Compiles everything that is offered, and paints one picture in one step; without an offer it does nothing."""
        if self._offered is None:
            return
        most, read = self._limits.pictures, []
        for request, kind in self._offered.usual():
            settings = self._assistant.defaults[request.mode]
            settings = dataclasses.replace(settings, steps=1, guidance=guiding.spread(settings.guidance, kind))
            request = dataclasses.replace(request, settings=settings)
            prepared = self.prepare(request)
            for budgets in self._offered.ladder(request, request.shape, len(request.history) - 1, prepared.kind):
                for rows in (most,) if self._limits.deterministic else sorted({1, most}):
                    job = Job(0, request, prepared._replace(budgets=tuple(sorted(budgets.items()))), None, None)
                    group = _Group([job], self._assistant.sampler(prepared.group[1]), settings, request.shape, prepared.kind)
                    read.append((group, self._ask(group, self._reading(group, rows))))
        painting = []
        for group, found in read:  # all are compiled beside each other
            group.context, group.state = found.result().out_info
            painting += [self._ask(group, self._painting(group)), self._ask(group, self._showing(group))]
        for one in painting:
            one.result()
        job = Job(0, request, prepared, None, None)
        self.waiting.append(job)
        while self.pending:
            self.turn()
        job.result()

    def _gather(self) -> _Group:
        first = self.waiting[0]
        jobs = [job for job in self.waiting if job.prepared.group == first.prepared.group][: self._limits.pictures]
        self.waiting = collections.deque(job for job in self.waiting if job not in jobs)
        shape, canvases, *_ = first.prepared.group
        settings = first.request.settings or self._assistant.defaults[first.request.mode]
        return _Group(jobs, self._assistant.sampler(canvases), settings, shape, first.prepared.kind)

    def _ask(self, group: _Group, asked: tuple) -> futures.Future:
        name, function, given, static = asked
        return self._programs.ask(name, functools.partial(function, group.sampler.steps), *given, **static)

    def _run(self, group: _Group, asked: tuple) -> Any:
        """The result of a program, or None while it is being compiled."""
        wanted = self._ask(group, asked)
        # The first program of a shape takes seconds where it was not offered: texts go on meanwhile.
        futures.wait([wanted], timeout=_PATIENCE)
        return wanted.result()(*asked[2]) if wanted.done() else None

    # What a group needs next: the program's name, the function behind it, its arguments, and what is fixed in it.

    def _reading(self, group: _Group, rows: int) -> tuple:
        padding = rows - len(group.jobs)
        seeds = np.asarray([*(job.request.seed for job in group.jobs), *[0] * padding], np.int32)
        branches = zip(*(job.prepared.branches for job in group.jobs), strict=True)
        laid = [sample for branch in branches for sample in [*branch, *[{}] * padding]]
        batch = packing.stack_samples(laid, group.sampler.layout.spec, dict(group.jobs[0].prepared.budgets))
        return "read", _open, (self._assistant.params, batch, seeds), {"shape": group.shape, "kind": group.kind}

    def _painting(self, group: _Group) -> tuple:
        given = (
            self._assistant.params, group.context, group.state, np.int32(group.step), np.int32(group.steps),
            group.times[group.step : group.step + 2], group.values,
        )  # fmt: skip
        return "paint", _step, given, {"shape": group.shape, "kind": group.kind}

    def _showing(self, group: _Group) -> tuple:
        return "show", _close, (self._assistant.params, group.state), {"shape": group.shape}

    def _read(self, group: _Group) -> None:
        found = self._run(group, self._reading(group, self._rows(group)))
        if found is not None:
            group.context, group.state = found

    def _paint(self, group: _Group) -> None:
        found = self._run(group, self._painting(group))
        if found is not None:
            group.state, group.step = found, group.step + 1
            for job in group.jobs:
                if not job.dropped():
                    job.tell("step", (group.step, group.steps))

    def _show(self, group: _Group) -> None:
        found = self._run(group, self._showing(group))
        if found is not None:
            pictures = np.asarray(fetch(found))
            for job, picture in zip(group.jobs, pictures):
                asked = None if job.request.mode == "segment" else job.request.shape
                picture = self._assistant.at_size(picture, asked)
                if (shown := job.prepared.shown) is not None:
                    picture = resize(picture, shown[::-1])
                job.finish(Result(picture=picture, read=job.prepared.length))
            self._group = None

    def _rows(self, group: _Group) -> int:
        return self._limits.pictures if len(group.jobs) > 1 or self._limits.deterministic else 1


def _canvases(plan: list[PlanItem]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted({item.data.shape[:2] for item in plan if item.type == "vae_image"}))


def _open(steps: Any, params: Any, batch: Any, seeds: Any, shape: tuple[int, int], kind: Any) -> tuple[Any, Any]:
    context = steps.read(params, batch, seeds, kind)
    return context, steps.open_picture(params, context, seeds, shape)


def _step(
    steps: Any, params: Any, context: Any, state: Any, number: Any, count: Any, times: Any, values: Any,
    shape: tuple[int, int], kind: Any,
) -> Any:  # fmt: skip
    return steps.paint_step(params, context, state, number, count, times, shape, kind, values)


def _close(steps: Any, params: Any, state: Any, shape: tuple[int, int]) -> Any:
    return show(steps, params, steps.close_picture(state, shape))
