"""Cityscapes: street scenes with class ids (34 labels) or instance ids (label * 1000 + number) per pixel.

ROOT/leftImg8bit/SPLIT/CITY/CITY_SEQ_FRAME_leftImg8bit.png
ROOT/gtFine/SPLIT/CITY/CITY_SEQ_FRAME_gtFine_{instanceIds,labelIds}.png
"""

from pathlib import Path

from sgt_jax.data.sources.reading.labels import segments
from sgt_jax.data.sources.reading.paired import PairedFolder, Partner
from sgt_jax.data.stored.record import Record
from sgt_jax.errors import DataError

# Label id = place in the tuple.
LABELS = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road", "sidewalk",
    "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole", "polegroup",
    "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "caravan",
    "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip
VOID = frozenset(range(7))  # no object and no surface: these are never painted
EVALUATED = frozenset((7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33))
FIRST_THING = 24  # labels from here on have instances
KINDS = {"instance": "instanceIds", "semantic": "labelIds"}  # kind -> ending of the label pictures


class Cityscapes(PairedFolder):
    """Random access to one split.

    Args:
      root: folder with leftImg8bit and the annotations.
      split: "train", "val", or "train_extra" with annotations="gtCoarse".
      kind: "instance": each object is a mask, each surface one too; "semantic": one mask a class.
      only_evaluated: leave out the labels that the benchmark does not score (15 of the 34), not just the void ones.
      annotations: "gtFine" or "gtCoarse".
      limit: use only the first so many records.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        kind: str = "instance",
        only_evaluated: bool = False,
        annotations: str = "gtFine",
        limit: int | None = None,
    ):
        if kind not in KINDS:
            raise DataError(f"cityscapes: kind={kind!r} must be 'instance' or 'semantic'")
        super().__init__(
            root,
            f"leftImg8bit/{split}",
            {"mask": Partner(f"{annotations}/{split}", ending=f"_{annotations}_{KINDS[kind]}")},
            photo_ending="_leftImg8bit",
            limit=limit,
            advice="unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there",
        )
        self._kept = EVALUATED if only_evaluated else frozenset(range(len(LABELS))) - VOID

    def make(self, name: str, found: dict[str, bytes]) -> Record:
        listed = segments(found["mask"], name, self._class_of, None)
        things = [label_of(number) >= FIRST_THING for number, _ in listed]
        extra = {"things": things, "class_names": [LABELS[i] for i in sorted(self._kept)]}
        return Record(name, (found["picture"],), labels=found["mask"], segments=listed, extra=extra)

    def _class_of(self, number: int) -> str | None:
        label = label_of(number)
        if label >= len(LABELS):
            raise KeyError(number)
        return LABELS[label] if label in self._kept else None


def label_of(number: int) -> int:
    """The label id of an instance id; surfaces, and crowds of objects, have the plain label."""
    return number // 1000 if number >= 1000 else number
