"""How OmniGen2's sampler is guided: branches, scales, the grid of times, and the solvers' steps."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax.data.examples import PlanItem
from sgt_jax.data.layouts.omnigen2.layout import PAINT, PAINT_AFTER_WORDS
from sgt_jax.errors import ConfigError

Plan = Sequence[PlanItem]
SOLVERS = ("euler", "dpm")
REFERENCES = ("mean", "drawn")
FEATURES = ("all", "words")
# What a picture should not be, in our own words.
NEGATIVES = {
    "official": (
        "blurry, low quality, low resolution, noise, compression artefacts, watermark, text overlay, distorted faces, "
        "extra fingers, missing limbs, deformed, cropped, duplicate, ugly"
    )
}
CONDITIONS = ("mllm", "latents", "both")


@dataclasses.dataclass(frozen=True)
class Guidance:
    """How the branches of a denoising step are combined.

    Attributes:
      text_scale, image_scale: 1 switches a branch off; image guidance needs text guidance and references.
      low, high: guidance acts at step i of N where low <= i/N <= high.
      negative: the prompt of the branches that are led away from: a text, "" or "official".
      solver: "euler", or "dpm" for DPM-Solver++ of second order.
      references: latents of pictures are the "mean" of their posteriors, or "drawn" from them, by the seed of the result.
      features: the transformer reads "all" states of the language model, or "words": not those of seen pictures, and
        always after the header of an answer, as the reference's chat paints.

    Raises:
      ConfigError: an unknown word, or guidance outside the schedule.
    """

    text_scale: float = 1.0
    image_scale: float = 1.0
    low: float = 0.0
    high: float = 1.0
    negative: str = ""
    solver: str = "euler"
    references: str = "mean"
    features: str = "all"

    WORDS: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({"solver": SOLVERS})
    PROMPTS: ClassVar[tuple[str, ...]] = ("negative",)

    def __post_init__(self) -> None:
        for name, known in (("solver", SOLVERS), ("references", REFERENCES), ("features", FEATURES)):
            if (word := getattr(self, name)) not in known:
                raise ConfigError(f"{name} '{word}' does not exist; choose one of {', '.join(known)}")
        if not 0 <= self.low <= self.high <= 1:
            raise ConfigError(
                f"guidance from {self.low} to {self.high}: give a part of the schedule, 0 <= low <= high <= 1"
            )

    def combine(self, velocities: Sequence[jax.Array]) -> jax.Array:
        """The guided velocity from those of the branches, in the order of `branches`."""
        main = velocities[0]
        if len(velocities) == 1:
            return main
        unled = velocities[-1]
        by_text = unled + self.text_scale * (main - unled)
        if len(velocities) == 2:
            return by_text
        with_references = velocities[1]
        both = unled + self.image_scale * (with_references - unled) + self.text_scale * (main - with_references)
        # In a server's program, whose numbers are inputs, image guidance may be off although its branch runs.
        return both if isinstance(self.image_scale, float | int) else jnp.where(self.image_scale > 1, both, by_text)

    def acts(self, step: Any, steps: int) -> Any:
        """Whether it acts at a step, counted from 0."""
        share = step / steps
        return (self.low <= share) & (share <= self.high)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How pictures of one mode are painted, and how pictures are read.

    Attributes:
      steps: evaluations of the model per branch.
      shift: of the grid of times, as a multiple of what the size of the picture asks for.
      guidance: see `Guidance`.
      vit: not used: pictures are read by numbers of pixels, not sides.
      condition: where the pictures of a request go: "mllm", "latents" or "both".
    """

    steps: int = 50
    shift: float = 1.0
    guidance: Guidance = Guidance()
    vit: tuple[int, int] = (0, 0)
    condition: str = "both"

    def __post_init__(self) -> None:
        if self.condition not in CONDITIONS:
            raise ConfigError(f"condition '{self.condition}' does not exist; choose one of {', '.join(CONDITIONS)}")


def branches(plan: Plan, thought: Sequence[int], guidance: Guidance, encode: Any) -> tuple[Plan, ...]:
    """What each branch reads: the plan; with the negative prompt instead of its texts; and that without references.

    Pictures that the language model sees stay in every branch. Without references the second one is left out.
    """
    thoughts = [PlanItem("text", list(thought))] if len(thought) else []
    paint = PAINT if guidance.features == "all" else PAINT_AFTER_WORDS
    main = (*plan, *thoughts, paint)
    if guidance.text_scale <= 1:
        return (main,)
    words = NEGATIVES.get(guidance.negative, guidance.negative)
    led_away = [item for item in plan if item.type != "text"]
    led_away += [PlanItem("text", list(encode(words)) if words else []), paint]
    bare = tuple(item for item in led_away if item.type != "vae_image")
    if guidance.image_scale > 1 and len(bare) < len(led_away):
        return main, tuple(led_away), bare
    return main, bare


def time_grid(steps: int, cells: int, shift: float = 1.0) -> np.ndarray:
    """`steps` + 1 times float32 from 0 to 1 for a picture of so many latent cells; larger ones stay longer near noise."""
    m = np.float32(shift * np.sqrt(cells) / 40)
    t = (np.arange(steps, dtype=np.float32) / np.float32(steps)).astype(np.float32)
    return np.append(t / (m - m * t + t), np.float32(1)).astype(np.float32)


class Solved(NamedTuple):
    """What a solver carries: the state, and the last data prediction with the log-ratio step that led to it."""

    x: jax.Array
    data: jax.Array
    step: jax.Array


def start(x: jax.Array) -> Solved:
    """Before the first step."""
    return Solved(x, jnp.zeros_like(x), jnp.asarray(jnp.inf, jnp.float32))


def advance(solver: str | jax.Array, state: Solved, v: jax.Array, t: jax.Array, after: jax.Array) -> Solved:
    """One step from time t to `after` along the velocity v; float32. The solver is one of SOLVERS, or its place there."""
    if not isinstance(solver, str):
        ways = [advance(word, state, v, t, after) for word in SOLVERS]
        return jax.tree.map(lambda *x: jax.lax.select_n(jnp.asarray(solver, jnp.int32), *x), *ways)
    if solver == "euler":
        return state._replace(x=state.x + (after - t) * v)
    sigma, sigma_after = 1 - t, 1 - after
    data = state.x + sigma * v
    # exp(-h) of the step h in log(alpha / sigma), with its limits at both ends.
    fall = t * sigma_after / (sigma * after)
    h = -jnp.log(fall)
    x = sigma_after / sigma * state.x - after * (fall - 1) * data
    # The first step has no past, and the last ends at the data.
    second = jnp.isfinite(h) & jnp.isfinite(state.step)
    ratio = jnp.where(second, h / jnp.where(second, state.step, 1.0), 0.0)
    x = x - 0.5 * after * (fall - 1) * (data - state.data) * ratio
    return Solved(x, data, h)
