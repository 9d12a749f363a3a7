"""How a sample becomes BAGEL's lanes: special tokens, patches, rotary positions, splits, labels, condition dropout.

Follows the packing rules of BAGEL (`docs/differences.md` lists where we differ), but keeps latent slots in a lane of
their own, so that routing to BAGEL's two sets of weights is a static slice. Lanes:

  und           text, markers and ViT tokens: `token` (-1: not text), `vit` (slot in lane vit, -1: not a ViT token)
  vit           patches of all pictures that the understanding encoder sees
  gen           latent tokens; `picture:HxW` and `token` say where in which canvas the latent stands
  pixels:HxW    canvases that the VAE encodes; every picture fills its canvas exactly, so none ever sees padding.
                With `moment_width` there are none: gen carries `moments`, which `sgt_jax tokenize` computed
  labels        supervised text: slot in lane und, target id, weight
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sgt_jax.batch import CAUSAL, FULL, NOISE, PIXELS
from sgt_jax.data.examples import Moments, PlanItem
from sgt_jax.data.packing import Field, Lanes, Spec
from sgt_jax.errors import DataError

INFO = {
    "sample": Field("int32", points_to="sample"),
    "split": Field("int32"),
    "order": Field("int32"),
    "position": Field("int32"),
    "mode": Field("int32"),
}


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """Ids of the four special tokens, Qwen2.5's by default; the fields have the names of BAGEL's code."""

    bos_token_id: int = 151644
    eos_token_id: int = 151645
    start_of_image: int = 151652
    end_of_image: int = 151653

    @property
    def bos(self) -> int:
        """Opens a text."""
        return self.bos_token_id

    @property
    def eos(self) -> int:
        """Ends a text."""
        return self.eos_token_id

    @property
    def soi(self) -> int:
        """Stands before a picture."""
        return self.start_of_image

    @property
    def eoi(self) -> int:
        """Stands after a picture."""
        return self.end_of_image


def patchify(image: np.ndarray, patch: int) -> np.ndarray:
    """[H, W, C] -> [(H/P)*(W/P), P*P*C]; patches row-major, inside a patch (row, column, channel)."""
    h, w, c = image.shape
    grid = image.reshape(h // patch, patch, w // patch, patch, c).transpose(0, 2, 1, 3, 4)
    return grid.reshape(-1, patch * patch * c)


def table_positions(rows: int, columns: int, side: int, interpolate: bool = False) -> np.ndarray:
    """Flat indices [rows*columns] into a position table of `side` x `side` entries, row-major.

    Extrapolated rule: index i; interpolated rule: floor(i * side / n). Specified in BAGEL's packing (position ids).
    """
    if interpolate:
        r, c = np.arange(rows) * side // rows, np.arange(columns) * side // columns
    else:
        r, c = np.arange(rows), np.arange(columns)
    return (r[:, None] * side + c[None, :]).reshape(-1).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class BagelLayout:
    """Lays samples out for one BAGEL model.

    Attributes:
      tokens: ids of the special tokens.
      vit_patch: ViT patch size P in pixels.
      vit_side: entries per side of the ViT position tables.
      latent_stride: pixels per latent token (VAE downsample times latent patch size).
      latent_side: entries per side of the latent position table.
      canvases: allowed (height, width) of pictures for the VAE.
      moment_width: 0, or the numbers per latent token (mean and log-variance) when all pictures for the VAE are tokenised.
      latent_patch: latents per side of one latent token.
      interpolate_positions: BAGEL's `interpolate_pos`.
      positions: the most that a sample may take; 0 sets no bound.
      dropout: condition dropout probability per item type; only droppable items are ever dropped.
    """

    tokens: SpecialTokens
    vit_patch: int
    vit_side: int
    latent_stride: int
    latent_side: int
    canvases: tuple[tuple[int, int], ...] = ()
    moment_width: int = 0
    latent_patch: int = 2
    interpolate_positions: bool = False
    positions: int = 0
    dropout: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"text": 0.1, "vit_image": 0.3, "vae_image": 0.3}
    )

    @functools.cached_property
    def spec(self) -> Spec:
        """The fields of every lane."""
        gen = dict(INFO, table=Field("int32"), noisy=Field("int32"), time=Field("int32", points_to="gen"))
        gen["token"] = Field("int32")
        if self.moment_width:
            gen["moments"] = Field("float16", (self.moment_width,))
        spec: dict[str, dict[str, Field]] = {
            "und": dict(token=Field("int32", fill=-1), vit=Field("int32", fill=-1, points_to="vit"), **INFO),
            "vit": {
                "patches": Field("uint8", (self.vit_patch * self.vit_patch * 3,)),
                "table": Field("int32"),
                "sample": INFO["sample"],
                "image": Field("int32"),
            },
            "gen": gen,
            "labels": {
                "slot": Field("int32", points_to="und"),
                "target": Field("int32"),
                "weight": Field("float32"),
                "sample": INFO["sample"],
            },
        }
        for h, w in self.canvases:
            lane = f"{PIXELS}{h}x{w}"
            gen[f"picture:{h}x{w}"] = Field("int32", fill=-1, points_to=lane)
            spec[lane] = {"pixels": Field("uint8", (h, w, 3))}
        return spec

    def lay_out(
        self,
        plan: tuple[PlanItem, ...],
        uniform: Callable[[], float] | None = None,
        name: str = "sample",
    ) -> Lanes:
        """Turns a plan into lanes.

        Args:
          plan: the items in order; pictures already at their final size.
          uniform: draws for condition dropout, one per droppable item in order; None drops nothing.
          name: provenance for errors.

        Returns:
          {lane: {field: array}} for the lanes that this sample uses (and empty "und"/"gen" arrays otherwise).

        Raises:
          DataError: a picture does not fit its patch grid, position table or any canvas.
        """
        cursor = _Cursor(self, name)
        for item in plan:
            if item.droppable and uniform is not None and uniform() < self.dropout[item.type]:
                cursor.drop(item)
            else:
                cursor.add(item)
        if self.positions and cursor.position > self.positions:
            raise DataError(
                f"{name or 'the prompt'}: takes {cursor.position} positions, and the model has {self.positions} "
                "(max_position_embeddings); shorten it"
            )
        return cursor.lanes()


class _Cursor:
    """Lays one sample out, item by item: where the next one goes, and the lanes so far."""

    def __init__(self, layout: BagelLayout, name: str) -> None:
        self._layout, self._name = layout, name
        self._und, self._gen, self._vit, self._labels = (
            _Lane(layout.spec[name]) for name in ("und", "gen", "vit", "labels")
        )
        self._pixels: dict[str, list[np.ndarray]] = {}
        self._position = self._order = self._images = self._time = 0
        self._split, self._mode, self._open = -1, CAUSAL, False

    @property
    def position(self) -> int:
        """The next position: how many the sample takes so far."""
        return self._position

    def drop(self, item: PlanItem) -> None:
        """A dropped picture leaves a gap in the positions, a dropped text does not."""
        self._position += item.type != "text"

    def add(self, item: PlanItem) -> None:
        """One item, in a split of its own or in the one that is open."""
        if item.split_start or not self._open:
            self._split += 1
            if item.type == "text":
                self._mode = CAUSAL
            elif item.type == "vae_image" and item.loss and item.frame_delta is None:
                self._mode = NOISE
            else:
                self._mode = FULL
            self._time = self._gen.length
        self._open = not item.split_end
        if item.type == "text":
            self._text(item)
        elif item.type in ("vit_image", "vae_image"):
            self._picture(item)
        else:
            raise DataError(f"{self._name}: unknown plan item type '{item.type}'")

    def lanes(self) -> Lanes:
        """What was laid out; packing adds the samples before it."""
        parts = {"und": self._und, "vit": self._vit, "gen": self._gen, "labels": self._labels}
        lanes: dict[str, dict[str, np.ndarray]] = {
            name: lane.arrays(sample=1) for name, lane in parts.items() if lane.length
        }
        return lanes | {PIXELS + canvas: {"pixels": np.stack(stack)} for canvas, stack in self._pixels.items()}

    # -- Kinds of items ------------------------------------------------------------------------------------------------

    def _text(self, item: PlanItem) -> None:
        und, labels, tokens = self._und, self._labels, self._layout.tokens
        ids = [tokens.bos, *item.data, tokens.eos]
        n, places = len(ids), np.arange(len(ids))
        if item.loss:
            labels.add(n - 1, slot=und.length + places[:-1], target=ids[1:], weight=(n - 1) ** -0.5)
        if item.closing_label is not None:
            labels.add(1, slot=und.length + n - 1, target=item.closing_label, weight=1.0)
        where = dict(split=self._split, mode=self._mode, order=self._order + places, position=self._position + places)
        und.add(n, token=ids, vit=-1, **where)
        self._order, self._position = self._order + n, self._position + n

    def _picture(self, item: PlanItem) -> None:
        """Markers around it, in lane und; its own slots in lane und or gen."""
        und, tokens = self._und, self._layout.tokens
        image, rows, columns = self._measured(item)
        n = rows * columns
        marker = {"split": self._split, "mode": self._mode, "position": self._position, "vit": -1}
        und.add(1, token=tokens.soi, order=self._order, **marker)
        inner = {
            "split": self._split,
            "mode": self._mode,
            "position": self._position,
            "order": self._order + 1 + np.arange(n),
        }
        if item.type == "vit_image":
            self._seen(image, rows, columns, inner)
        else:
            self._painted(item, image, rows, columns, inner)
        if item.closing_label is not None:
            self._labels.add(1, slot=und.length, target=item.closing_label, weight=1.0)
        und.add(1, token=tokens.eoi, order=self._order + n + 1, **marker)
        self._order += n + 2

    def _measured(self, item: PlanItem) -> tuple[np.ndarray, int, int]:
        """The picture (or its moments), and how many rows and columns of slots it takes.

        Raises:
          DataError: it does not fit.
        """
        layout, tokenised = self._layout, isinstance(item.data, Moments)
        image = np.asarray(item.data.values if tokenised else item.data)
        if item.type == "vae_image" and tokenised != bool(layout.moment_width):
            comes, wanted = ("moments", "pixels") if tokenised else ("pixels", "moments")
            raise DataError(
                f"{self._name}: its picture to paint comes as {comes}, this run takes {wanted}; tokenise all parts of the "
                "mixture that paint, or none (config.data.mixture.NAME.tokenised)"
            )
        stride = layout.vit_patch if item.type == "vit_image" else layout.latent_stride
        stride = layout.latent_patch if tokenised else stride
        side = layout.vit_side if item.type == "vit_image" else layout.latent_side
        h, w = image.shape[0] // stride, image.shape[1] // stride
        if h * stride != image.shape[0] or w * stride != image.shape[1] or max(h, w) > side or not h * w:
            raise DataError(
                f"{self._name}: a {item.type} of {image.shape[1]}x{image.shape[0]} {'latents' if tokenised else 'pixels'} "
                f"does not fit: each side must be a multiple of {stride} and at most {side * stride}; set the resize "
                "rule of this task accordingly"
            )
        return image, h, w

    def _seen(self, image: np.ndarray, rows: int, columns: int, inner: dict[str, Any]) -> None:
        """A picture for the understanding encoder."""
        layout, vit, n = self._layout, self._vit, rows * columns
        self._images += 1
        self._und.add(n, token=-1, vit=vit.length + np.arange(n), **inner)
        table = table_positions(rows, columns, layout.vit_side, layout.interpolate_positions)
        vit.add(n, patches=patchify(image, layout.vit_patch), table=table, image=self._images)
        self._position += 1

    def _painted(self, item: PlanItem, image: np.ndarray, rows: int, columns: int, inner: dict[str, Any]) -> None:
        """A picture for the autoencoder, clean or noisy."""
        layout, n = self._layout, rows * columns
        fields: dict[str, Any] = self._moments(image) if layout.moment_width else self._canvas(image)
        table = table_positions(rows, columns, layout.latent_side, layout.interpolate_positions)
        self._gen.add(
            n, table=table, noisy=int(item.loss), time=self._time, token=np.arange(n), **fields, **inner
        )  # fmt: skip
        self._position += item.frame_delta if item.frame_delta is not None else int(not item.loss)

    def _moments(self, moments: np.ndarray) -> dict[str, Any]:
        parts = [patchify(part, self._layout.latent_patch) for part in np.split(moments, 2, axis=-1)]
        return {"moments": np.concatenate(parts, axis=1)}

    def _canvas(self, image: np.ndarray) -> dict[str, Any]:
        """Puts the picture on its canvas; the pointers to it, -1 for the other canvases."""
        canvases = self._layout.canvases
        if image.shape[:2] not in canvases:
            raise DataError(
                f"{self._name}: no canvas for a picture of {image.shape[1]}x{image.shape[0]} pixels; "
                f"config.data.canvases are {[f'{b}x{a}' for a, b in canvases]} (width x height)"
            )
        stack = self._pixels.setdefault(f"{image.shape[0]}x{image.shape[1]}", [])
        pointers = {f"picture:{a}x{b}": len(stack) if (a, b) == image.shape[:2] else -1 for a, b in canvases}
        stack.append(image)
        return pointers


class _Lane:
    """Collects the slots of one lane, run by run, and fills every field's array once at the end."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self.length = 0
        self._fields = fields
        self._runs: list[tuple[int, dict[str, Any]]] = []

    def add(self, n: int, **fields: Any) -> None:
        """n slots; a single value is that of all of them."""
        self.length += n
        self._runs.append((self.length, fields))

    def arrays(self, **constants: int) -> dict[str, np.ndarray]:
        names = [*self._runs[0][1], *constants]
        shapes = {name: (self.length, *self._fields[name].shape) for name in names}
        out = {name: np.empty(shapes[name], self._fields[name].dtype) for name in names}
        for name, value in constants.items():
            out[name].fill(value)
        start = 0
        for stop, fields in self._runs:
            for name, value in fields.items():
                part = out[name][start:stop]
                if isinstance(value, (int, float)):
                    part.fill(value)
                else:
                    # same_kind: a float picture in a uint8 field is an error, not garbage.
                    np.copyto(part, value, casting="same_kind")
            start = stop
        return out
