"""The programs that paint a picture with a config's model, as shapes only: what `plan --mode sample` compiles and counts.

They are those of `inference/sampler.py`: one reads the request and takes all steps, one decodes the latents. Nothing is
allocated, and the devices need not exist.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from ml_collections import ConfigDict

from sgt_jax.errors import ConfigError
from sgt_jax.inference import load
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models import family as families
from sgt_jax.planning.request import TASKS, Request

_LETTERS = 4  # a token


@dataclasses.dataclass(frozen=True)
class PlannedSampling:
    """Programs that can be traced, lowered and compiled.

    Attributes:
      programs: {name in `request.PROGRAMS`: (function, its arguments as ShapeDtypeStructs, the parameters first)}.
      params: shapes of all parameters.
      size: (height, width) that is painted; steps: of it; branches: of guidance; slots: of every lane of a row.
    """

    programs: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]
    params: Any
    size: tuple[int, int]
    steps: int
    branches: int
    slots: dict[str, int]

    def jaxpr(self, name: str) -> ClosedJaxpr:
        """One of the programs traced."""
        function, arguments = self.programs[name]
        return jax.make_jaxpr(function)(*arguments)

    def lower(self, name: str, device: Any) -> jax.stages.Lowered:
        """One of the programs lowered for a device; all parameters count as its arguments, as they stay in memory."""
        function, arguments = self.programs[name]
        sharding = jax.sharding.SingleDeviceSharding(device)
        placed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), arguments)
        return jax.jit(function, keep_unused=True, out_shardings=sharding).lower(*placed)


class _Lengths:
    """Stands where a tokenizer is wanted and only lengths matter."""

    bos, eos, soi, eoi, size, style = 0, 1, 2, 3, 4, "general"

    def encode(self, text: str) -> list[int]:
        """One id for every four letters."""
        return [0] * math.ceil(len(text) / _LETTERS)

    def decode(self, ids: Any) -> str:
        """No text."""
        return ""


def plan_sampling(config: ConfigDict, request: Request) -> PlannedSampling:
    """The programs of a request to the model of a config, painted as its `sampling` says.

    Raises:
      ConfigError: no such task, or a size that the model does not paint.
    """
    if request.task not in TASKS:
        raise ConfigError(f"task '{request.task}' cannot be planned; choose one of {', '.join(TASKS)}")
    family = families.of_config(config)
    model = family.config(config.model.to_dict()).replace(**load.computing(family, request.dtype))
    params = jax.eval_shape(family.model(model).init, jax.eval_shape(lambda: jax.random.key(0)))
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, _kept(x.dtype, request.dtype)), params)
    assistant = Assistant(family, model, params, _Lengths(), defaults=load.defaults_of_run(family, config.to_dict()))
    settings = assistant.defaults[request.task]
    history: list[Any] = [" " * (_LETTERS * request.tokens)]
    if request.task != "t2i":
        history.insert(0, np.zeros((*request.size, 3), np.uint8))
    asked = request.size if request.task == "t2i" else None
    plan, sampler, size = assistant.request(history, request.task, asked, settings)
    count = request.pictures
    _, packed, seeds = next(sampler.rows([plan] * count, range(count), settings.guidance, count))
    times = sampler.steps.times(settings.steps, settings.shift, size)
    painting = functools.partial(sampler.painting, shape=size, guidance=settings.guidance)
    given = (params, *jax.eval_shape(lambda *given: given, packed, seeds.astype(np.int32), np.asarray(times, np.float32)))
    latents = jax.eval_shape(painting, *given)
    return PlannedSampling(
        {"painting": (painting, given), "decoding": (sampler.showing, (params, latents))},
        params, size, settings.steps, len(packed["und"]["sample"]) // count,
        {lane: next(iter(fields.values())).shape[1] for lane, fields in packed.items()},
    )  # fmt: skip


def _kept(own: Any, wanted: str) -> Any:
    return jnp.dtype(wanted) if jnp.issubdtype(own, jnp.floating) else own
