"""How a sample becomes OmniGen2's lanes: a conversation for the language model, latents for the diffusion transformer.

Lanes:

  und           text and image tokens of the language model, one causal split a sample: `token`, `vit` (the first patch of
                the cell that an image token stands for, -1: text)
  vit           patches of all pictures that the language model sees, window by window
  labels        supervised text: slot in lane und, target id, weight
  text          what the transformer reads: `slot` in lane und, every slot of a sample that paints
  ref, gen      tokens of reference latents and of noisy latents; `picture:HxW` and `token` say where in which canvas a
                latent stands, or they carry `moments`
  flow          noisy pictures: `tokens`, quarters of their latent cells, by which times are shifted; `shift`, where they
                stand on the first rotary axis
  pixels:HxW    canvases that the autoencoder encodes

A sample that paints what it is shown ends with the header of an answer, as in training with pictures in the prompt; one
that paints from text and reference latents alone does not, as in the pipeline.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sgt_jax.batch import CAUSAL, PIXELS
from sgt_jax.data.examples import Moments, PlanItem
from sgt_jax.data.layouts.omnigen2.latents import Grid, rotary_positions
from sgt_jax.data.layouts.omnigen2.pictures import Reader
from sgt_jax.data.layouts.omnigen2.positions import image_positions, text_positions
from sgt_jax.data.packing import Field, Lanes, Spec
from sgt_jax.errors import DataError

PAINT = PlanItem("paint", ())  # ends a plan whose picture does not exist yet
PAINT_AFTER_WORDS = PlanItem("paint", ("words",))  # the same; the transformer reads no states of picture tokens
MOST_REFERENCES = 5
_NUMBER, _SAMPLE, _PLACE = Field("int32"), Field("int32", points_to="sample"), Field("int32", (3,))


@dataclasses.dataclass(frozen=True)
class Template:
    """Ids of what stands around texts and pictures.

    Attributes:
      system: the whole system turn; empty where there is none.
      user, assistant: what opens a turn; close: what ends it (its first id is learnt as the end of an answer).
      stop: ids that end an answer when the model writes; the first one is that of `close`.
      draw: of those the one by which the model asks for a picture instead, or -1.
      before, image, after: a picture: an opening, one token a cell, a closing.
      number: picture i (from 1) of a sample that paints -> ids before it.
    """

    system: tuple[int, ...]
    user: tuple[int, ...]
    assistant: tuple[int, ...]
    close: tuple[int, ...]
    stop: tuple[int, ...]
    before: int
    image: int
    after: int
    number: Callable[[int], Sequence[int]] = lambda i: ()
    draw: int = -1


@dataclasses.dataclass(frozen=True)
class OmniGen2Layout:
    """Lays samples out for one OmniGen2 model.

    Attributes:
      template: see `Template`; None: there are no texts, as in planning.
      reader: how pictures become patches.
      latent_stride: pixels per latent token; latent_patch: latents per side of one.
      canvases: allowed (height, width) of pictures for the autoencoder.
      moment_width: 0, or the numbers per latent token (mean and log-variance) when these pictures are tokenised.
      dropout: condition dropout probability per item type.
      encode: text -> ids, for negative prompts.
    """

    template: Template | None
    reader: Reader
    latent_stride: int
    latent_patch: int = 2
    canvases: tuple[tuple[int, int], ...] = ()
    moment_width: int = 0
    dropout: Mapping[str, float] = dataclasses.field(default_factory=dict)
    encode: Callable[[str], Sequence[int]] | None = None

    @property
    def spec(self) -> Spec:
        """The fields of every lane."""
        latent = {
            "sample": _SAMPLE, "split": _NUMBER, "position": _PLACE, "token": _NUMBER,
            "flow": Field("int32", points_to="flow"),
        }  # fmt: skip
        if self.moment_width:
            latent["moments"] = Field("float16", (self.moment_width,))
        patch = Field("uint8", (3 * self.reader.patch**2,))
        spec: dict[str, dict[str, Field]] = {
            "und": {
                "token": Field("int32", fill=-1), "vit": Field("int32", fill=-1, points_to="vit"), "sample": _SAMPLE,
                "split": _NUMBER, "order": _NUMBER, "position": _PLACE, "mode": _NUMBER,
            },
            "vit": dict.fromkeys(("row", "column", "image", "window"), _NUMBER) | {"patches": patch, "sample": _SAMPLE},
            "labels": {
                "slot": Field("int32", points_to="und"), "target": _NUMBER, "weight": Field("float32"), "sample": _SAMPLE,
            },
            "text": {
                "slot": Field("int32", points_to="und"), "sample": _SAMPLE, "split": _NUMBER, "position": _PLACE,
                "flow": Field("int32", points_to="flow"),
            },
            "flow": {"sample": _SAMPLE, "tokens": _NUMBER, "shift": _NUMBER},
        }  # fmt: skip
        for h, w in self.canvases:
            lane = f"{PIXELS}{h}x{w}"
            latent[f"picture:{h}x{w}"] = Field("int32", fill=-1, points_to=lane)
            spec[lane] = {"pixels": Field("uint8", (h, w, 3))}
        return spec | {"gen": dict(latent), "ref": latent | {"index": _NUMBER}}

    def lay_out(
        self, plan: tuple[PlanItem, ...], uniform: Callable[[], float] | None = None, name: str = "sample"
    ) -> Lanes:
        """Turns a plan into lanes.

        Args:
          plan: texts and pictures that are seen, in order; latents ("vae_image" without loss) are references wherever
            they stand; one "vae_image" with loss, or `PAINT`, is the picture to paint.
          uniform: draws for condition dropout, one per droppable item in order; None drops nothing.
          name: provenance for errors.

        Raises:
          DataError: a picture does not fit its grid or any canvas, or there are too many.
        """
        if self.template is None:
            raise DataError(f"{name}: this layout has no tokenizer; give config.data.tokenizer")
        kept = [
            item
            for item in plan
            if not (item.droppable and uniform is not None and uniform() < self.dropout.get(item.type, 0.0))
        ]
        unknown = {item.type for item in kept} - {"text", "vit_image", "vae_image", PAINT.type}
        if unknown:
            raise DataError(f"{name}: unknown plan item type '{unknown.pop()}'")
        targets = [item for item in kept if item.type == PAINT.type or (item.type == "vae_image" and item.loss)]
        references = [item for item in kept if item.type == "vae_image" and not item.loss]
        if len(targets) > 1 or len(references) > MOST_REFERENCES:
            raise DataError(
                f"{name}: {len(targets)} pictures to paint and {len(references)} references; a sample has one and at most "
                f"{MOST_REFERENCES}"
            )
        words = PAINT_AFTER_WORDS in targets
        talk = _Talk(self.template, self.reader, name, paints=bool(targets), answers=words or not targets)
        for item in kept:
            if item.type in ("text", "vit_image"):
                talk.add(item)
        talk.end()
        lanes = talk.lanes()
        if not targets:
            return lanes
        slots = np.flatnonzero(lanes["und"]["vit"] < 0) if words else np.arange(talk.length)
        return lanes | self._painting(targets[0], references, slots, name)

    # -- What the transformer reads and paints -------------------------------------------------------------------------

    def _painting(
        self, target: PlanItem, references: Sequence[PlanItem], slots: np.ndarray, name: str
    ) -> dict[str, dict[str, np.ndarray]]:
        text = len(slots)
        pixels: dict[str, list[np.ndarray]] = {}
        drawn = [self._latents(item, pixels, name) for item in references]
        last = None if target.type == PAINT.type else self._latents(target, pixels, name)
        words, places, place = rotary_positions(text, [grid for grid, _, _ in drawn], last[0] if last else (0, 0))
        lanes: dict[str, dict[str, np.ndarray]] = {
            "text": _slots(text, 0, words) | {"slot": slots},
            "flow": {
                "sample": np.ones(1, np.int64),
                "tokens": np.asarray([last[2] if last else 0]),
                "shift": np.asarray([text + sum(max(grid) for grid, _, _ in drawn)]),
            },
        }
        if drawn:
            lanes["ref"] = _joined([
                _slots(len(p), 1 + j, p) | fields | {"index": np.full(len(p), j)}
                for j, (p, (_, fields, _)) in enumerate(zip(places, drawn))
            ])  # fmt: skip
        if last:
            lanes["gen"] = _slots(len(place), 1 + len(drawn), place) | last[1]
        return lanes | {PIXELS + canvas: {"pixels": np.stack(stack)} for canvas, stack in pixels.items()}

    def _latents(
        self, item: PlanItem, pixels: dict[str, list[np.ndarray]], name: str
    ) -> tuple[Grid, dict[str, np.ndarray], int]:
        """(rows and columns of tokens, their fields, quarters of the latent cells) of a picture for the autoencoder."""
        tokenised = isinstance(item.data, Moments)
        if tokenised != bool(self.moment_width):
            comes, wanted = ("moments", "pixels") if tokenised else ("pixels", "moments")
            raise DataError(
                f"{name}: its picture to paint comes as {comes}, this run takes {wanted}; tokenise all or none"
            )
        image = np.asarray(item.data.values if tokenised else item.data)
        stride = self.latent_patch if tokenised else self.latent_stride
        rows, columns = image.shape[0] // stride, image.shape[1] // stride
        if (rows * stride, columns * stride) != image.shape[:2] or not rows * columns:
            raise DataError(
                f"{name}: a picture of {image.shape[1]}x{image.shape[0]} does not fit: sides must be multiples of {stride}"
            )
        fields: dict[str, Any] = {"token": np.arange(rows * columns)}
        if tokenised:
            fields["moments"] = np.concatenate([_patched(x, stride) for x in np.split(image, 2, axis=-1)], axis=1)
        else:
            fields |= self._canvas(image, pixels, name)
        side = self.latent_patch
        return (rows, columns), fields, (rows * side // 2) * (columns * side // 2)

    def _canvas(self, image: np.ndarray, pixels: dict[str, list[np.ndarray]], name: str) -> dict[str, np.ndarray]:
        if image.shape[:2] not in self.canvases:
            raise DataError(
                f"{name}: no canvas for a picture of {image.shape[1]}x{image.shape[0]} pixels; config.data.canvases are "
                f"{[f'{b}x{a}' for a, b in self.canvases]} (width x height)"
            )
        stack = pixels.setdefault(f"{image.shape[0]}x{image.shape[1]}", [])
        count = image.shape[0] // self.latent_stride * (image.shape[1] // self.latent_stride)
        stack.append(image)
        return {
            f"picture:{a}x{b}": np.full(count, len(stack) - 1 if (a, b) == image.shape[:2] else -1)
            for a, b in self.canvases
        }


class _Talk:
    """Lays out a conversation: turns, pictures, labels."""

    def __init__(self, template: Template, reader: Reader, name: str, paints: bool, answers: bool) -> None:
        self._template, self._reader, self._name, self._paints = template, reader, name, paints
        self._answers = answers
        self._token: list[np.ndarray] = []
        self._vit: list[np.ndarray] = []
        self._place: list[np.ndarray] = []
        self._seen: list[dict[str, np.ndarray]] = []
        self._labels: list[tuple[int, int, float]] = []
        self.length = self._next = self._patches = self._windows = 0
        self._open = False
        self._answered = False
        self._write(template.system)

    def add(self, item: PlanItem) -> None:
        """A picture, a text of the user, or an answer."""
        if item.type == "text" and item.loss:
            self._answer(item.data)
            return
        if not self._open:
            self._write(self._template.user)
            self._open, self._answered = True, False
        if item.type == "text":
            self._write(item.data)
        else:
            self._picture(np.asarray(item.data))

    def end(self) -> None:
        """Closes an open turn, and opens the answer that is to come, unless text alone is painted."""
        if not self._open and self._answered:
            return
        if not self._open:
            self._write(self._template.user)
        self._write(self._template.close)
        if self._answers or self._seen:
            self._write(self._template.assistant)
        self._open = False

    def lanes(self) -> dict[str, dict[str, np.ndarray]]:
        """Lanes "und", "vit" and "labels", as far as the sample uses them."""
        n = self.length
        und = {
            "token": np.concatenate(self._token), "vit": np.concatenate(self._vit),
            "position": np.concatenate(self._place), "sample": np.ones(n, np.int64), "split": np.zeros(n, np.int64),
            "order": np.arange(n), "mode": np.full(n, CAUSAL),
        }  # fmt: skip
        lanes = {"und": und}
        if self._seen:
            lanes["vit"] = _joined(self._seen)
        if self._labels:
            slot, target, weight = zip(*self._labels)
            lanes["labels"] = {
                "slot": np.asarray(slot), "target": np.asarray(target), "weight": np.asarray(weight, np.float32),
                "sample": np.ones(len(slot), np.int64),
            }  # fmt: skip
        return lanes

    def _write(self, ids: Sequence[int]) -> None:
        places, self._next = text_positions(len(ids), self._next)
        self._put(np.asarray(ids, np.int64), np.full(len(ids), -1), places)

    def _put(self, token: np.ndarray, vit: np.ndarray, places: np.ndarray) -> None:
        self._token.append(token)
        self._vit.append(vit)
        self._place.append(places)
        self.length += len(token)

    def _answer(self, ids: Sequence[int]) -> None:
        if self._open:
            self._write(self._template.close)
        self._write(self._template.assistant)
        # Every token of the answer, and the end of the turn.
        targets, first = [*ids, self._template.close[0]], self.length - 1
        self._labels += [(first + i, target, len(targets) ** -0.5) for i, target in enumerate(targets)]
        self._write([*ids, *self._template.close])
        self._open, self._answered = False, True

    def _picture(self, image: np.ndarray) -> None:
        template, stride = self._template, self._reader.stride
        if image.shape[0] % stride or image.shape[1] % stride or not image.size:
            raise DataError(
                f"{self._name}: a picture of {image.shape[1]}x{image.shape[0]} pixels does not fit: each side must be a "
                f"multiple of {stride}; set the resize rule of this task accordingly"
            )
        number = len(self._seen) + 1
        self._write([*(template.number(number) if self._paints else ()), template.before])
        fields, place = self._reader.read(image)
        count, cells = len(fields["row"]), len(place)
        places, self._next = image_positions(*self._reader.grid(*image.shape[:2]), self._next)
        self._put(np.full(cells, template.image), self._patches + place * (count // cells), places)
        windows = int(fields["window"].max()) + 1
        self._seen.append(
            fields
            | {
                "window": fields["window"] + self._windows,
                "image": np.full(count, number),
                "sample": np.ones(count, int),
            }
        )
        self._patches, self._windows = self._patches + count, self._windows + windows
        self._write([template.after])


def _slots(count: int, split: int, position: np.ndarray) -> dict[str, np.ndarray]:
    ones = np.ones(count, np.int64)
    return {"sample": ones, "split": split * ones, "position": position, "flow": 0 * ones}


def _joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _patched(x: np.ndarray, patch: int) -> np.ndarray:
    """[h, w, C] -> [tokens, p*p*C], channel fastest."""
    h, w, c = x.shape
    grid = x.reshape(h // patch, patch, w // patch, patch, c).transpose(0, 2, 1, 3, 4)
    return grid.reshape(-1, patch * patch * c)
