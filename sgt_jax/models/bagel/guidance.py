"""How BAGEL's sampler is guided: branches, scales, renormalisation, and the grid of times."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.data.examples import PlanItem
from sgt_jax.errors import ConfigError
from sgt_jax.models import guiding

Plan = Sequence[PlanItem]
RENORMS = ("global", "channel", "text_channel")


@dataclasses.dataclass(frozen=True)
class Guidance:
    """How the branches of a denoising step are combined (BAGEL's `cfg_*` settings).

    Attributes:
      text_scale, image_scale: 1 switches a branch off. Image guidance needs text guidance.
      low, high: guidance acts where low < t <= high.
      renorm: "global" (over a picture), "channel" or "text_channel" (per token).
      renorm_min: smallest factor of the renormalisation; 1 switches it off.

    Raises:
      ConfigError: unknown renorm, or image guidance without text guidance (the reference silently ignores it).
    """

    text_scale: float = 1.0
    image_scale: float = 1.0
    low: float = 0.0
    high: float = 1.0
    renorm: str = "global"
    renorm_min: float = 0.0

    WORDS: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({"renorm": RENORMS})

    def __post_init__(self) -> None:
        if self.renorm not in RENORMS:
            raise ConfigError(f"renorm '{self.renorm}' does not exist; choose global, channel or text_channel")
        if self.image_scale > 1 and self.text_scale <= 1:
            raise ConfigError("image guidance has no effect without text guidance: set text_scale above 1")

    def combine(self, t: jax.Array, v: jax.Array, v_text: Any, v_image: Any) -> jax.Array:
        """The guided velocity [B, n, F] from the branches (None where switched off) at the time t."""
        if v_text is None:
            return v
        if not isinstance(self.renorm, str):  # a server's program: the place of the word is an input
            ways = [guiding.with_numbers(self, {"renorm": word}).combine(t, v, v_text, v_image) for word in RENORMS]
            return jax.lax.select_n(jnp.asarray(self.renorm, jnp.int32), *ways)
        guided = v_text + self.text_scale * (v - v_text)

        def renormed(w: jax.Array, axes: tuple[int, ...]) -> jax.Array:
            norm = functools.partial(jnp.linalg.norm, axis=-1, keepdims=True)
            if axes == (1, 2):
                norm = lambda x: jnp.sqrt(jnp.sum(x * x, axis=(1, 2), keepdims=True))  # noqa: E731
            return w * jnp.clip(norm(v) / (norm(w) + 1e-8), self.renorm_min, 1.0)

        if self.renorm == "text_channel":
            out = renormed(guided, (2,))
            if v_image is not None:
                out = v_image + self.image_scale * (out - v_image)
        else:
            out = guided if v_image is None else v_image + self.image_scale * (guided - v_image)
            out = renormed(out, (1, 2) if self.renorm == "global" else (2,))
        return jnp.where(self.acts(t), out, v)

    def acts(self, t: jax.Array) -> jax.Array:
        """bool: whether there is guidance at the time t."""
        return (t > self.low) & (t <= self.high)


def time_grid(steps: int, shift: float) -> np.ndarray:
    """`steps` + 1 times from 1 to 0 under the shift (BAGEL calls that num_timesteps = steps + 1)."""
    t = np.linspace(1.0, 0.0, steps + 1)
    return (shift * t / (1 + (shift - 1) * t)).astype(np.float32)


def without_last_text(plan: Plan) -> Plan:
    """The context of the no-text branch: everything before the text that ends the plan."""
    return plan[:-1] if plan and plan[-1].type == "text" else plan


def texts_only(plan: Plan) -> Plan:
    """The context of the no-image branch."""
    return [item for item in plan if item.type == "text"]


def branch_plans(plan: Plan, thought: Sequence[int] = ()) -> dict[str, Plan]:
    """What each branch of guidance has read: a thought of the model's own belongs to the main one only."""
    thoughts = [PlanItem("text", list(thought))] if len(thought) else []
    return {"main": [*plan, *thoughts], "text": without_last_text(plan), "image": texts_only(plan)}


def branch_names(guidance: Guidance) -> tuple[str, ...]:
    """The branches that a guidance needs, in the order in which their contexts are stacked."""
    names = ["main"]
    if guidance.text_scale > 1:
        names.append("text")
    if guidance.image_scale > 1:
        names.append("image")
    return tuple(names)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How pictures of one mode are painted, and how pictures are resized before they are read.

    Attributes:
      steps: evaluations of the model per branch (BAGEL's num_timesteps is one more).
      shift: of the time grid.
      guidance: see `Guidance`.
      vit: resize rule before the understanding encoder: (smallest short side, largest long side) in pixels.
    """

    steps: int = 49
    shift: float = 3.0
    guidance: Guidance = Guidance()
    vit: tuple[int, int] = (224, 980)
