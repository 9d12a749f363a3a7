"""What a model is asked to do with an example: each task turns an Example into a Sample (a plan of texts and pictures).

A generative *proxy* (photo through the understanding encoder -> painted target), *understanding* (conversation about
pictures), *text_to_image*, and *editing*. Resizing happens here, so a layout only sees pictures
at their final size.

Every task has `condition`: what is read before the first thing that is written or painted. Training, evaluators, the
assistant and analyses all take it from here, so that a prompt is written once.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from sgt_jax.data.examples import Example, Moments, PlanItem, ProxyPair, Sample
from sgt_jax.data.pictures.resizing import Canvases, ResizeRule, to_canvas
from sgt_jax.data.proxies import make_pair
from sgt_jax.data.text.templates import instruction, wordings
from sgt_jax.errors import DataError, hint

IMAGE_MARKER = "<image>"
Encode = Callable[[str], Sequence[int]]
Resize = Callable[[np.ndarray], np.ndarray]  # uint8 [H, W, 3] -> the same picture at its final size


class Task(Protocol):
    """The face of every task."""

    def __call__(self, example: Example, rng: np.random.Generator) -> Sample:
        """The plan of one example; `rng` draws whatever is random, such as one of several wordings.

        Raises:
          DataError: the example lacks what the task needs.
        """

    def condition(self, example: Example, rng: np.random.Generator | None = None) -> tuple[PlanItem, ...]:
        """The plan before its first supervised item, from an example that need not hold an answer or a target.

        Without `rng` the same wording every time.

        Raises:
          DataError: the example lacks what the task reads.
        """


def make_task(
    spec: Mapping[str, Any], *, encode: Encode, vit_size: ResizeRule, canvases: Canvases | ResizeRule
) -> Task:
    """A task from its part of a config; see configs/nano.py for the fields.

    Args:
      spec: "task", the options of that task, and maybe a "vit_size" of its own; "source", "weight" and "tokenised" are
        for others to read.
      encode: text -> token ids.
      vit_size: resize rule in front of the understanding encoder, unless the spec has its own.
      canvases: sizes (height, width) that pictures are painted at, or a resize rule.

    Raises:
      DataError: there is no such task.
    """
    kind = spec["task"]
    if spec.get("vit_size"):
        vit_size = ResizeRule(**spec["vit_size"])
    if kind == "proxy":
        options = {name: spec[name] for name in ("latents", "photo_as_target") if name in spec}
        return Proxy(spec["proxy"], encode, vit_size, canvases, options=given_options(spec), **options)
    if kind == "understanding":
        return Understanding(encode, vit_size)
    if kind == "text_to_image":
        return TextToImage(encode, canvases)
    if kind == "editing":
        options = {name: spec[name] for name in ("see", "joined_rate") if name in spec}
        return Editing(encode, vit_size, canvases, **options)
    raise DataError(f"unknown task '{kind}'; {hint(kind, ('proxy', 'understanding', 'text_to_image', 'editing'))}")


def given_options(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a part of a config gives its proxy: without those that are "", which leave the proxy its default.

    Overrides change fields and add none, so shipped configs carry the options that are often changed, unset.
    """
    return {name: value for name, value in spec.get("options", {}).items() if value != ""}


def condition_items(
    entries: Sequence[str | np.ndarray],
    encode: Encode,
    *,
    see: Resize | None = None,
    latents: Resize | None = None,
    droppable: Collection[str] = (),
) -> tuple[PlanItem, ...]:
    """Plan items of texts and pictures in the order in which a model reads them.

    Args:
      entries: texts, and pictures uint8 [H, W, 3].
      encode: text -> token ids.
      see: resize rule in front of the understanding encoder; None: it sees no picture.
      latents: resize rule in front of the autoencoder, whose clean latents come before what the understanding encoder
        sees of the same picture; None: pictures are not read as latents.
      droppable: types of items that condition dropout may leave out in training.
    """
    items = []
    for entry in entries:
        if isinstance(entry, str):
            items.append(PlanItem("text", list(encode(entry)), droppable="text" in droppable))
            continue
        if latents is not None:
            items.append(PlanItem("vae_image", latents(entry), droppable="vae_image" in droppable))
        if see is not None:
            items.append(PlanItem("vit_image", see(entry), droppable="vit_image" in droppable))
    return tuple(items)


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
    vit_size: ResizeRule
    canvases: Canvases | ResizeRule
    options: dict = dataclasses.field(default_factory=dict)
    latents: bool = False
    photo_as_target: bool = False

    def __call__(self, example: Example, rng: np.random.Generator) -> Sample:
        if example.moments:
            return self._tokenised(example, rng)
        pair = self.pair(example, rng)
        # Flat-coloured maps stay flat under nearest resizing; photographs do not want it.
        nearest = pair.flat and self.options.get("resize", "nearest") == "nearest"
        target = PlanItem("vae_image", to_canvas(pair.target, self.canvases, nearest), loss=True)
        return Sample(example.name, (*self.read_pair(pair), target), pair.instruction)

    def condition(self, example: Example, rng: np.random.Generator | None = None) -> tuple[PlanItem, ...]:
        """The photo and the instruction; see `Task.condition`."""
        rng = np.random.default_rng(0) if rng is None else rng
        if example.moments:
            return _before_supervised(self._tokenised(example, rng).plan)
        return self.read_pair(self.pair(example, rng))

    def pair(self, example: Example, rng: np.random.Generator) -> ProxyPair:
        """Photo, instruction and target at the source's sizes.

        Raises:
          DataError: unknown proxy or option, or the example lacks what the proxy needs.
        """
        names = self.proxy.split("+")
        # One name draws nothing, so that its stream is what it was before there could be several.
        name = names[int(rng.integers(len(names)))] if len(names) > 1 else self.proxy
        pair = make_pair(name, example, rng, **self.options)
        return pair._replace(target=pair.condition, flat=False) if self.photo_as_target else pair

    def read_pair(self, pair: ProxyPair) -> tuple[PlanItem, ...]:
        """What is read of a pair: its photo and its instruction."""
        latents = functools.partial(to_canvas, canvases=self.canvases) if self.latents else None
        # The photo itself is never dropped: guidance leaves out the words alone.
        entries = [pair.condition, pair.instruction]
        return condition_items(entries, self.encode, see=self.vit_size, latents=latents, droppable=("text",))

    def _tokenised(self, example: Example, rng: np.random.Generator) -> Sample:
        """The same plan from what `tokenize` stored; the wording is drawn afresh unless it speaks of this very example."""
        if "+" in self.proxy or self.photo_as_target:
            raise DataError(f"{example.name}: tokenised targets are those of one proxy, not of '{self.proxy}'")
        pictures = [PlanItem("vae_image", Moments(m), loss=False) for m in example.moments]
        if len(pictures) != 1 + self.latents or example.image is None:
            raise DataError(f"{example.name}: tokenised for another task ({len(pictures)} latents); tokenise it again")
        style = self.options.get("style", "general")
        words = instruction(self.proxy, rng, style)
        if any("{" in wording for wording in wordings(self.proxy, style)):
            words = example.extra["instruction"]
        plan = (
            *pictures[:-1],
            # Stored at its final size.
            *condition_items([example.image, words], self.encode, see=lambda photo: photo, droppable=("text",)),
            dataclasses.replace(pictures[-1], loss=True),
        )
        return Sample(example.name, plan, words)


@dataclasses.dataclass(frozen=True)
class Understanding:
    """A conversation about the pictures of an example; assistant turns are supervised.

    `<image>` markers in user turns say where pictures stand; a conversation without any marker sees its pictures first.
    """

    encode: Encode
    vit_size: ResizeRule

    def __call__(self, example: Example, rng: np.random.Generator) -> Sample:
        del rng
        if not any(turn.role == "assistant" and turn.text.strip() for turn in example.turns):
            raise DataError(f"{example.name}: nothing to supervise: no assistant turn with text")
        return Sample(example.name, self._conversation(example))

    def condition(self, example: Example, rng: np.random.Generator | None = None) -> tuple[PlanItem, ...]:
        """All pictures and user turns before the first answer; see `Task.condition`."""
        del rng
        return _before_supervised(self._conversation(example))

    def _conversation(self, example: Example) -> tuple[PlanItem, ...]:
        pictures = example.images or (() if example.image is None else (example.image,))
        markers = sum(turn.text.count(IMAGE_MARKER) for turn in example.turns if turn.role == "user")
        if markers not in (0, len(pictures)):
            raise DataError(f"{example.name}: {markers} {IMAGE_MARKER} markers for {len(pictures)} pictures")

        def see(picture: np.ndarray) -> np.ndarray:
            return self.vit_size(picture, len(pictures))

        plan = [] if markers else [*condition_items(pictures, self.encode, see=see)]
        waiting = iter(pictures)
        for turn in example.turns:
            if turn.role == "assistant":
                plan.append(PlanItem("text", list(self.encode(turn.text)), loss=True))
                continue
            for i, piece in enumerate(turn.text.split(IMAGE_MARKER)):
                entries = [next(waiting)] if i else []
                if piece.strip():
                    entries.append(piece.strip())
                plan += condition_items(entries, self.encode, see=see)
        return tuple(plan)


@dataclasses.dataclass(frozen=True)
class TextToImage:
    """[caption, droppable] [picture to paint]."""

    encode: Encode
    canvases: Canvases | ResizeRule

    def __call__(self, example: Example, rng: np.random.Generator) -> Sample:
        plan = self.condition(example, rng)
        if example.image is None and not example.moments:
            raise DataError(f"{example.name}: text_to_image needs a caption and a picture")
        target = Moments(example.moments[0]) if example.moments else to_canvas(example.image, self.canvases)
        return Sample(example.name, (*plan, PlanItem("vae_image", target, loss=True)))

    def condition(self, example: Example, rng: np.random.Generator | None = None) -> tuple[PlanItem, ...]:
        """One of the captions, without `rng` the first; see `Task.condition`."""
        captions = example.extra.get("captions") or (example.caption,)
        number = int(rng.integers(len(captions))) if rng is not None and len(captions) > 1 else 0
        if not captions[number]:
            raise DataError(f"{example.name}: text_to_image needs a caption and a picture")
        return condition_items([captions[number]], self.encode, droppable=("text",))


@dataclasses.dataclass(frozen=True)
class Editing:
    """[picture as clean latents] [picture through the ViT, if `see`] [request, droppable] [the picture after it].

    With `see` this is BAGEL's sequence, and both views of the picture may be dropped, too; without it the understanding
    encoder has no part in drawing. An example has one `edit`, or a series of pictures with `extra["instructions"]`, the
    wordings of every step; of a series one or two steps are drawn, and two may be joined into one request.
    """

    encode: Encode
    vit_size: ResizeRule
    canvases: Canvases | ResizeRule
    see: bool = False
    joined_rate: float = 0.5

    def __call__(self, example: Example, rng: np.random.Generator) -> Sample:
        pictures, requests = self._steps(example, rng)
        plan: list[PlanItem] = []
        for before, request, after in zip(pictures, requests, pictures[1:], strict=False):
            plan += self._read(before, request)
            plan.append(PlanItem("vae_image", to_canvas(after, self.canvases), loss=True))
        return Sample(example.name, tuple(plan))

    def condition(self, example: Example, rng: np.random.Generator | None = None) -> tuple[PlanItem, ...]:
        """The picture before the first change, and the request for it; see `Task.condition`."""
        pictures, requests = self._steps(example, np.random.default_rng(0) if rng is None else rng)
        return self._read(pictures[0], requests[0])

    def _read(self, picture: np.ndarray, request: str) -> tuple[PlanItem, ...]:
        latents = functools.partial(to_canvas, canvases=self.canvases)
        if not self.see:
            return condition_items([picture, request], self.encode, latents=latents, droppable=("text",))
        every = ("vae_image", "vit_image", "text")
        return condition_items([picture, request], self.encode, see=self.vit_size, latents=latents, droppable=every)

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


def _before_supervised(plan: Sequence[PlanItem]) -> tuple[PlanItem, ...]:
    return tuple(itertools.takewhile(lambda item: not item.loss, plan))
