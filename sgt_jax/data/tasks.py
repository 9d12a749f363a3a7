"""What a model is asked to do with an example: each task turns an Example into a Sample (a plan of texts and pictures).

A generative *proxy* (photo through the understanding encoder -> painted target), *understanding* (conversation about
pictures), *text_to_image*, and *editing*. Resizing happens here, so a layout only sees pictures
at their final size.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from sgt_jax.data.examples import Example, Moments, PlanItem, Sample
from sgt_jax.data.pictures.resizing import Canvases, VitSize, to_canvas
from sgt_jax.data.proxies import make_pair
from sgt_jax.data.text.templates import instruction, wordings
from sgt_jax.errors import DataError

IMAGE_MARKER = "<image>"
Encode = Callable[[str], Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A generative proxy: [photo through the ViT] [instruction, droppable] [target to paint].

    Attributes:
      proxy: registry name, see `sgt_jax.data.proxies`; several joined by "+" take turns at random, each as often.
      encode: text -> token ids.
      vit_size: resize rule of the photo.
      canvases: sizes allowed for the target, or a resize rule.
      options: keyword options of the proxy (palette, wording style, ...).
      latents: show the photo also as clean latents, in front, as BAGEL's editing does. SGT does not.
      photo_as_target: paint the photo, whatever the instruction asks for: what the reference's loaders did for a while.
    """

    proxy: str
    encode: Encode
    vit_size: VitSize
    canvases: Canvases | VitSize
    options: dict = dataclasses.field(default_factory=dict)
    latents: bool = False
    photo_as_target: bool = False

    def __call__(self, example: Example, rng: np.random.Generator) -> Sample:
        names = self.proxy.split("+")
        if example.moments:
            if len(names) > 1 or self.photo_as_target:
                raise DataError(f"{example.name}: tokenised targets are those of one proxy, not of '{self.proxy}'")
            return self._tokenised(example, rng)
        # One name draws nothing, so that its stream is what it was before there could be several.
        name = names[int(rng.integers(len(names)))] if len(names) > 1 else self.proxy
        pair = make_pair(name, example, rng, **self.options)
        if self.photo_as_target:
            pair = pair._replace(target=pair.condition, flat=False)
        # Flat-coloured maps stay flat under nearest resizing; photographs do not want it.
        nearest = pair.flat and self.options.get("resize", "nearest") == "nearest"
        plan = (
            PlanItem("vit_image", self.vit_size(pair.condition)),
            PlanItem("text", list(self.encode(pair.instruction)), droppable=True),
            PlanItem("vae_image", to_canvas(pair.target, self.canvases, nearest), loss=True),
        )
        if self.latents:
            plan = (PlanItem("vae_image", to_canvas(pair.condition, self.canvases)), *plan)
        return Sample(example.name, plan, pair.instruction)

    def _tokenised(self, example: Example, rng: np.random.Generator) -> Sample:
        """The same plan from what `tokenize` stored; the wording is drawn afresh unless it speaks of this very example."""
        pictures = [PlanItem("vae_image", Moments(m), loss=False) for m in example.moments]
        if len(pictures) != 1 + self.latents or example.image is None:
            raise DataError(f"{example.name}: tokenised for another task ({len(pictures)} latents); tokenise it again")
        style = self.options.get("style", "general")
        words = instruction(self.proxy, rng, style)
        if any("{" in wording for wording in wordings(self.proxy, style)):
            words = example.extra["instruction"]
        plan = (
            *pictures[:-1],
            PlanItem("vit_image", example.image),
            PlanItem("text", list(self.encode(words)), droppable=True),
            dataclasses.replace(pictures[-1], loss=True),
        )
        return Sample(example.name, plan, words)


@dataclasses.dataclass(frozen=True)
class Understanding:
    """A conversation about the pictures of an example; assistant turns are supervised.

    `<image>` markers in user turns say where pictures stand; a conversation without any marker sees its pictures first.
    """

    encode: Encode
    vit_size: VitSize

    def __call__(self, example: Example, rng: np.random.Generator) -> Sample:
        del rng
        if not any(turn.role == "assistant" and turn.text.strip() for turn in example.turns):
            raise DataError(f"{example.name}: nothing to supervise: no assistant turn with text")
        pictures = list(example.images or (() if example.image is None else (example.image,)))
        markers = sum(turn.text.count(IMAGE_MARKER) for turn in example.turns if turn.role == "user")
        if markers not in (0, len(pictures)):
            raise DataError(f"{example.name}: {markers} {IMAGE_MARKER} markers for {len(pictures)} pictures")
        waiting = iter([PlanItem("vit_image", self.vit_size(p, len(pictures))) for p in pictures])
        plan = list(waiting) if not markers else []
        for turn in example.turns:
            if turn.role == "assistant":
                plan.append(PlanItem("text", list(self.encode(turn.text)), loss=True))
                continue
            for i, piece in enumerate(turn.text.split(IMAGE_MARKER)):
                if i:
                    plan.append(next(waiting))
                if piece.strip():
                    plan.append(PlanItem("text", list(self.encode(piece.strip()))))
        return Sample(example.name, tuple(plan))


@dataclasses.dataclass(frozen=True)
class TextToImage:
    """[caption, droppable] [picture to paint]."""

    encode: Encode
    canvases: Canvases | VitSize

    def __call__(self, example: Example, rng: np.random.Generator) -> Sample:
        captions = example.extra.get("captions") or (example.caption,)
        caption = captions[int(rng.integers(len(captions)))] if len(captions) > 1 else captions[0]
        if not caption or (example.image is None and not example.moments):
            raise DataError(f"{example.name}: text_to_image needs a caption and a picture")
        target = Moments(example.moments[0]) if example.moments else to_canvas(example.image, self.canvases)
        plan = (
            PlanItem("text", list(self.encode(caption)), droppable=True),
            PlanItem("vae_image", target, loss=True),
        )
        return Sample(example.name, plan)


@dataclasses.dataclass(frozen=True)
class Editing:
    """[picture as clean latents] [picture through the ViT, if `see`] [request, droppable] [the picture after it].

    With `see` this is BAGEL's sequence, and both views of the picture may be dropped, too; without it the understanding
    encoder has no part in drawing. An example has one `edit`, or a series of pictures with `extra["instructions"]`, the
    wordings of every step; of a series one or two steps are drawn, and two may be joined into one request.
    """

    encode: Encode
    vit_size: VitSize
    canvases: Canvases | VitSize
    see: bool = False
    joined_rate: float = 0.5

    def __call__(self, example: Example, rng: np.random.Generator) -> Sample:
        pictures, requests = self._steps(example, rng)
        plan: list[PlanItem] = []
        for before, request, after in zip(pictures, requests, pictures[1:], strict=False):
            plan += self._read(before, request)
            plan.append(PlanItem("vae_image", to_canvas(after, self.canvases), loss=True))
        return Sample(example.name, tuple(plan))

    def condition(self, example: Example) -> tuple[PlanItem, ...]:
        """What is read before the edited picture of an `edit` is painted."""
        return self._read(example.image, example.edit.request)

    def _read(self, picture: np.ndarray, request: str) -> tuple[PlanItem, ...]:
        views = [PlanItem("vae_image", to_canvas(picture, self.canvases), droppable=self.see)]
        if self.see:
            views.append(PlanItem("vit_image", self.vit_size(picture), droppable=True))
        return (*views, PlanItem("text", list(self.encode(request)), droppable=True))

    def _steps(self, example: Example, rng: np.random.Generator) -> tuple[list[np.ndarray], list[str]]:
        """Pictures and the requests between them. The reference drops the last picture of a joined request; we do not."""
        if example.edit is not None and example.image is not None:
            return [example.image, example.edit.target], [example.edit.request]
        steps, pictures = example.extra.get("instructions", ()), example.images
        if not steps or len(pictures) != len(steps) + 1 or not all(steps):
            raise DataError(
                f"{example.name}: editing needs a picture and a change of it, or pictures and one instruction fewer; "
                f"there are {len(pictures)} pictures and {len(steps)} instructions"
            )
        start = int(rng.integers(len(steps)))
        count = 1 + int(rng.integers(min(2, len(steps) - start)))
        requests = [step[int(rng.integers(len(step)))] for step in steps[start : start + count]]
        shown = list(pictures[start : start + count + 1])
        if count > 1 and rng.random() < self.joined_rate:
            return [shown[0], shown[-1]], ["".join(f"{request}. " for request in requests)]
        return shown, requests
