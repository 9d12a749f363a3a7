"""The one record type that every data source yields, and the plan items that tasks turn it into."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np


class Turn(NamedTuple):
    """One turn of a conversation. `role` is "user" or "assistant"; only assistant turns are supervised.

    `text` of a user turn may hold the marker `<image>`, one per picture, in reading order.
    """

    role: str
    text: str


class Edit(NamedTuple):
    """A change of an example's picture.

    Attributes:
      request: what is asked for, in words.
      target: uint8 [H, W, 3], the picture after it.
      extra: what a scorer needs.
    """

    request: str
    target: np.ndarray
    extra: dict[str, Any]


@dataclasses.dataclass
class Example:
    """A picture with whatever its source knows about it; absent knowledge is None.

    Attributes:
      name: provenance, unique within the source: "scenes/17" or a path. Errors and logs quote it.
      image: uint8 [H, W, 3] RGB.
      images: all pictures of a record with several (then `image` is the first).
      masks: bool [N, H, W] instance masks; they may overlap and need not cover the picture.
      classes: N class names, parallel to `masks`.
      mask_picture: uint8 [H, W, 3], a colour-coded mask as shipped by the source (SAM-SGT, COCO panoptic as a picture).
      depth: float32 [H, W], larger is farther; NaN where unknown.
      caption: one sentence that describes the picture.
      turns: a conversation about the picture(s).
      edit: a request to change the picture, and the picture after it.
      kind: the question kind of `turns`, where a source knows it (for scores per kind).
      extra: anything a particular proxy or scorer needs. Proxies know "boxes" ([[left, top, right, bottom], ...] in
        pixels), "things" (bool per mask: countable, or stuff such as sky), "class_names" (all classes of the data set in
        a fixed order), "expressions" ([[text, mask number or numbers], ...]) and "intrinsics" ([fx, fy, cx, cy]).
      moments: of a tokenised example: what the VAE said of each picture that it would encode, in the order of the plan,
        float16 [h, w, 2C], mean first. `image` is then the condition at its final size.
    """

    name: str
    image: np.ndarray | None = None
    images: tuple[np.ndarray, ...] = ()
    masks: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    mask_picture: np.ndarray | None = None
    depth: np.ndarray | None = None
    caption: str | None = None
    turns: tuple[Turn, ...] = ()
    edit: Edit | None = None
    kind: str | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    moments: tuple[np.ndarray, ...] = ()


class ProxyPair(NamedTuple):
    """What a generative proxy asks for: see `condition` through the understanding encoder, obey, paint `target`."""

    condition: np.ndarray  # uint8 [H, W, 3]
    instruction: str
    target: np.ndarray  # uint8 [H', W', 3]
    flat: bool = False  # the target consists of flat colours that a resize should keep


class Moments(NamedTuple):
    """A picture as the VAE's posterior: float16 [h, w, 2C], mean and then log-variance, at the latents' size."""

    values: np.ndarray


class Source(Protocol):
    """Examples at random access. A source may also have `example(index, rng)`, for draws that change from epoch to epoch."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int) -> Example:
        """One of them.

        Raises:
          DataError: the record cannot be used.
        """


@dataclasses.dataclass(frozen=True)
class PlanItem:
    """One item of a sample's plan, in the vocabulary of the reference's `sequence_plan`.

    Attributes:
      type: "text", "vit_image" (understanding encoder) or "vae_image" (latents; clean unless `loss`).
      data: token ids (list of int) for text; uint8 [H, W, 3], or float32 in [-1, 1], already at its final size; for a
        vae_image also Moments.
      loss: supervise it: next-token cross-entropy for text, flow matching for a vae_image.
      droppable: condition dropout may leave it out (the reference's `enable_cfg`).
      closing_label: token id supervised at the closing special token (`special_token_loss`), or None.
      split_start, split_end: False continues / keeps open a split over several frames.
      frame_delta: rotary position step after this frame, or None for the usual rule.
    """

    type: str
    data: Sequence[int] | np.ndarray | Moments
    loss: bool = False
    droppable: bool = False
    closing_label: int | None = None
    split_start: bool = True
    split_end: bool = True
    frame_delta: int | None = None


@dataclasses.dataclass
class Sample:
    """A plan ready for a layout, with the provenance of the example behind it.

    `request` is the instruction in words, where a proxy gave one.
    """

    name: str
    plan: tuple[PlanItem, ...]
    request: str = ""
