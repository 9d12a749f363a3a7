"""Chat, text to image, editing and segmentation with one model, as Python functions; `load.py` loads it.

A *history* is a list of texts and pictures (uint8 [H, W, 3]) in the order in which they are read.
"""

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from PIL import Image

from sgt_jax.data.examples import PlanItem
from sgt_jax.data.pictures import masks
from sgt_jax.data.pictures.resizing import resize
from sgt_jax.data.tasks import condition_items
from sgt_jax.data.text.templates import wordings
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import DataError
from sgt_jax.inference.results import Painting, Reply, Segmentation
from sgt_jax.inference.sampler import Sampler
from sgt_jax.models.family import Family, Layout, ModelConfig, Notify, Params, Settings

History = Sequence[str | np.ndarray]

# Our own wordings; think mode asks for reasoning inside <think> tags before the answer or the picture.
THINK_TO_ANSWER = (
    "First think the question through inside <think> and </think> tags, then answer it: "
    "<think> your reasoning </think> your answer"
)
THINK_TO_PAINT = (
    "First plan the picture inside <think> and </think> tags, then paint it: <think> your plan </think> the picture"
)
CHAT_PIXELS = 2_007_040  # at most, of a picture that is talked about


class Assistant:
    """A model with its tokenizer and parameters. Compiles once per kind and size of request.

    Attributes:
      family, model: what it is.
      defaults: settings per mode ("chat", "t2i", "edit", "segment"); a run's own where its config has them.
      palette: colours of painted segmentations: a name of masks.PALETTES, or None to find them in the picture.
      mesh: over which the parameters are spread, and then the rows of batches, too; None for one device.
      notify: called in every step of a loop, for a progress bar; set it before the first request.
    """

    def __init__(
        self, family: Family, config: ModelConfig, params: Params, tokenizer: Tokenizer, *,
        defaults: Mapping[str, Settings] = MappingProxyType({}), palette: str | None = None,
        wording: str | None = None, default_shape: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        self.family, self.config, self.params, self.tokenizer = family, config, params, tokenizer
        self.defaults, self.palette = dict(family.defaults) | dict(defaults), palette
        self.mesh: jax.sharding.Mesh | None = None
        self.notify: Notify | None = None
        self.model = family.model(config)
        self._instruction = wordings("segmentation", wording or tokenizer.style)[0]
        side = min(512, family.largest_side(config))
        self._shape = default_shape or (side, side)

    @property
    def usual_shape(self) -> tuple[int, int]:
        """(height, width) of a drawing where a request names no size."""
        return self._output_shape((), None)

    # -- Requests ------------------------------------------------------------------------------------------------------

    def chat(
        self, history: History, *, think: bool = False, max_new_tokens: int = 500, temperature: float = 0.0,
        seeds: Sequence[int] = (0,), settings: Settings | None = None,
    ) -> list[str]:  # fmt: skip
        """Answers to a history, one per seed; greedy at temperature 0. Pictures go through the ViT only."""
        ids = self._answer_ids(history, think, max_new_tokens, temperature, seeds, settings)
        return [self.tokenizer.decode(answer) for answer in ids]

    def reply(
        self, history: History, *, think: bool = False, max_new_tokens: int = 500, temperature: float = 0.0,
        seeds: Sequence[int] = (0,), settings: Settings | None = None,
    ) -> list[Reply]:  # fmt: skip
        """As `chat`, but where the model asks for a picture instead of a text, that is painted after the same history."""
        seen = any(not isinstance(entry, str) for entry in history)
        drawing = self.family.drawing(self.config, self.defaults, seen)
        replies = []
        for seed, ids in zip(seeds, self._answer_ids(history, think, max_new_tokens, temperature, seeds, settings)):
            picture = None
            if drawing is not None and list(ids[:1]) == [drawing[0]]:
                picture, ids = self.paint(history, "chat", seeds=[seed], settings=drawing[1])[0].picture, ids[1:]
            replies.append(Reply(self.tokenizer.decode(ids), picture))
        return replies

    def _answer_ids(
        self, history: History, think: bool, most: int, temperature: float, seeds: Sequence[int],
        settings: Settings | None,
    ) -> list[list[int]]:  # fmt: skip
        plan = self._plan(history, settings or self.defaults["chat"], vae=False, max_pixels=CHAT_PIXELS)
        plan = self._thinking(THINK_TO_ANSWER, plan) if think else plan
        return self.sampler(()).answer_ids(
            self.params, [plan] * len(seeds), max_new_tokens=most, batch=len(seeds), temperature=temperature, seeds=seeds
        )  # fmt: skip

    def draw(self, history: History, **options: Any) -> list[Painting]:
        """Pictures after texts (and pictures, then as in `edit`); options as in `paint`."""
        return self.paint(history, "t2i", **options)

    def edit(self, history: History, **options: Any) -> list[Painting]:
        """Pictures after pictures and instructions, which are read through both encoders; options as in `paint`."""
        if not any(isinstance(entry, np.ndarray) for entry in history):
            raise DataError("edit needs a picture in its history")
        return self.paint(history, "edit", **options)

    def segment(
        self, photo: np.ndarray, instruction: str | None = None, *, palette: str | None = None, **options: Any
    ) -> list[Segmentation]:
        """Painted segmentations of a photo uint8 [H, W, 3], decoded to instances at its size; options as in `paint`."""
        painted = self.paint([photo, instruction or self._instruction], "segment", **options)
        return [self.segmentation(photo, painting.picture, palette) for painting in painted]

    def segmentation(self, photo: np.ndarray, painting: np.ndarray, palette: str | None = None) -> Segmentation:
        """The instances that a painting uint8 [H', W', 3] shows, at the size of the photo, largest first."""
        palette = palette or self.palette
        background = None if palette == "tab20" else masks.BLACK
        found = masks.decode(painting, None if palette == "auto" else palette, background=background)
        found = masks.resize_masks(found, photo.shape[:2]) if len(found) else np.zeros((0, *photo.shape[:2]), bool)
        found = found[found.any((1, 2))]
        return Segmentation(painting, found[np.argsort(-found.sum((1, 2)), kind="stable")])

    def paint(
        self, history: History, mode: str, *, seeds: Sequence[int] = (0,), shape: tuple[int, int] | None = None,
        think: bool = False, max_think_tokens: int = 1000, settings: Settings | None = None,
    ) -> list[Painting]:  # fmt: skip
        """Pictures after a history, one per seed, as one batch.

        Args:
          mode: "t2i", "edit" or "segment" (pictures through the ViT only, as in training).
          shape: (height, width), floored to whole latent tokens; a family that paints any size resizes the picture back to
            what was asked for. By default that of the last picture in the history under the family's resize rule, or a
            square; a family that paints any size takes the square after several pictures, too.
          think: let the model write down a plan first.

        Raises:
          DataError: nothing to paint, or a picture or shape that the model has no positions for.
        """
        settings = settings or self.defaults[mode]
        plan, sampler, (height, width) = self.request(history, mode, shape, settings)
        count = len(seeds)
        thoughts: list[list[int]] = [[]] * count
        if think:
            plan = self._thinking(THINK_TO_PAINT, plan)
            thoughts = sampler.answer_ids(
                self.params, [plan] * count, max_new_tokens=max_think_tokens, batch=count, seeds=seeds
            )
        pictures = sampler.paint(
            self.params, [plan] * count, (height, width), seeds=seeds, steps=settings.steps, shift=settings.shift,
            batch=count, guidance=settings.guidance, thoughts=thoughts,
        )  # fmt: skip
        asked = None if mode == "segment" else shape  # colours of a map must not blend
        return [Painting(self.at_size(p, asked), self.tokenizer.decode(t)) for p, t in zip(pictures, thoughts)]

    def at_size(self, picture: np.ndarray, shape: tuple[int, int] | None) -> np.ndarray:
        """A painted picture at the (height, width) that was asked for, if the family paints any size; bilinear."""
        if shape is None or not self.family.paints_any_size:
            return picture
        return resize(picture, (shape[1], shape[0]), smooth=Image.Resampling.BILINEAR)

    def request(
        self, history: History, mode: str, shape: tuple[int, int] | None, settings: Settings
    ) -> tuple[list[PlanItem], Sampler, tuple[int, int]]:  # fmt: skip
        """A plan, the sampler that paints after it, and the (height, width) it paints; arguments and errors as in `paint`."""
        plan = self._plan(history, settings, vae=mode != "segment")
        if not plan:
            raise DataError("an empty history: give a text or a picture")
        canvases = tuple(sorted({item.data.shape[:2] for item in plan if item.type == "vae_image"}))
        return plan, self.sampler(canvases), self._output_shape(history, shape)

    # -- Pieces --------------------------------------------------------------------------------------------------------

    def layout(self, canvases: Sequence[tuple[int, int]]) -> Layout:
        """How plans become lanes, for pictures of these (height, width) in front of the autoencoder."""
        return self.family.layout(self.config, self.tokenizer, canvases=canvases)

    @functools.cache  # noqa: B019  one assistant lives as long as its compiled programs
    def sampler(self, canvases: tuple[tuple[int, int], ...]) -> Sampler:
        """The sampler for pictures of these (height, width) in front of the autoencoder."""
        notify = None if self.notify is None else lambda value: self.notify(value)
        return Sampler(self.family, self.model, self.layout(canvases), self.tokenizer.decode, notify, self.mesh)

    def _thinking(self, wording: str, plan: list[PlanItem]) -> list[PlanItem]:
        return [*condition_items([wording], self.tokenizer.encode), *plan]

    def _plan(
        self, history: History, settings: Settings, vae: bool, max_pixels: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> list[PlanItem]:  # fmt: skip
        """Pictures are resized straight from the original for each encoder, as in training.

        With `size`, a (height, width) that the model paints, the autoencoder reads all pictures at it, and the other
        encoder at the size that a picture of it is given.
        """
        see = self.family.reading_rule(self.config, settings.vit, max_pixels)
        # A family may let the settings of a mode say where its pictures go.
        condition = getattr(settings, "condition", None)
        if condition == "latents":
            see = None
        vae = vae if condition is None else condition != "mllm"
        latents = self.family.painting_rule(self.config) if vae else None
        if size is not None:
            width, height = size[::-1]
            see = see and functools.partial(_resized, see, see.size(width, height))
            latents = latents and functools.partial(_resized, latents, (width, height))
        return list(condition_items(history, self.tokenizer.encode, see=see, latents=latents))

    def _output_shape(self, history: History, shape: tuple[int, int] | None) -> tuple[int, int]:
        rule, most = self.family.painting_rule(self.config), self.family.largest_side(self.config)
        pictures = [entry for entry in history if not isinstance(entry, str)]
        any_size = self.family.paints_any_size
        if shape is None and pictures and not (any_size and len(pictures) > 1):
            width, height = rule.size(pictures[-1].shape[1], pictures[-1].shape[0])
            shape = height, width
        elif shape is not None and any_size and 0 < min(shape) and max(shape) <= most:
            width, height = rule.size(shape[1], shape[0])
            shape = height, width
        height, width = (side // rule.stride * rule.stride for side in shape or self._shape)
        if not (0 < min(height, width) and max(height, width) <= most):
            wanted = f"{(shape or self._shape)[1]}x{(shape or self._shape)[0]}"
            raise DataError(f"this model paints pictures of {rule.stride} to {most} pixels a side, not {wanted}")
        return height, width


def _resized(rule: Any, wh: tuple[int, int], picture: np.ndarray) -> np.ndarray:
    """A picture at (width, height), by the rule itself where that is what it gives."""
    return rule(picture) if rule.size(picture.shape[1], picture.shape[0]) == wh else resize(picture, wh)
