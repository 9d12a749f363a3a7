"""ADE20K as in the SceneParsing and the 2017 instance challenges: 150 classes per pixel, or instances of 100 of them.

ROOT/images/SPLIT/ADE_train_00000001.jpg
ROOT/annotations/SPLIT/ADE_train_00000001.png             grey: 0 other, 1-150 classes
ROOT/annotations_instance/SPLIT/ADE_train_00000001.png    colour: R class 1-100, G number of the instance
"""

from pathlib import Path

from sgt_jax.data.sources.reading.labels import from_names, read_names, segments
from sgt_jax.data.sources.reading.paired import PairedFolder, Partner
from sgt_jax.data.stored.record import Record
from sgt_jax.errors import DataError

CLASSES = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet",
    "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water",
    "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence", "desk",
    "rock", "wardrobe", "lamp", "bathtub", "railing", "cushion", "base", "box", "column", "signboard",
    "chest of drawers", "counter", "sand", "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path",
    "stairs", "runway", "case", "pool table", "pillow", "screen door", "stairway", "river", "bridge", "bookcase",
    "blind", "coffee table", "toilet", "flower", "book", "hill", "bench", "countertop", "stove", "palm",
    "kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine", "hovel", "bus", "towel", "light",
    "truck", "tower", "chandelier", "awning", "streetlight", "booth", "television", "airplane", "dirt track",
    "apparel", "pole", "land", "bannister", "escalator", "ottoman", "bottle", "buffet", "poster", "stage", "van",
    "ship", "fountain", "conveyer belt", "canopy", "washer", "plaything", "swimming pool", "stool", "barrel",
    "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step", "tank", "trade name",
    "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen", "blanket", "sculpture", "hood", "sconce",
    "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen", "plate", "monitor", "bulletin board",
    "shower", "radiator", "glass", "clock", "flag",
)  # fmt: skip
# Numbers of the classes that the instance challenge leaves out; those that remain keep their order.
_NO_INSTANCES = frozenset((
    1, 2, 3, 4, 5, 6, 7, 10, 12, 14, 17, 18, 22, 26, 27, 29, 30, 35, 41, 47, 49, 52, 53, 55, 60, 61, 62, 64, 69, 78,
    80, 85, 92, 95, 97, 100, 101, 102, 106, 107, 110, 114, 115, 118, 123, 129, 132, 141, 142, 146,
))  # fmt: skip
INSTANCE_CLASSES = tuple(name for number, name in enumerate(CLASSES, 1) if number not in _NO_INSTANCES)

KINDS = {"semantic": ("annotations", CLASSES), "instance": ("annotations_instance", INSTANCE_CLASSES)}


def instance_class(number: int) -> str | None:
    """The class of an instance id R + 256 G + 65536 B of the 2017 pictures; None for pixels of no instance."""
    label = number % 256
    if label > len(INSTANCE_CLASSES):
        raise KeyError(number)
    return INSTANCE_CLASSES[label - 1] if label else None


class Ade20k(PairedFolder):
    """Random access to one split.

    Args:
      root: ADEChallengeData2016, or wherever the folders above lie.
      split: "training" or "validation".
      kind: "semantic" (one mask a class) or "instance" (one mask an object).
      names: a table of class names such as objectInfo150.txt, below root, in place of our own names (semantic only).
      limit: use only the first so many records.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "training",
        kind: str = "semantic",
        names: str | None = None,
        limit: int | None = None,
    ):
        if kind not in KINDS or (names and kind == "instance"):
            raise DataError(f"ade20k: kind={kind!r} must be one of {', '.join(KINDS)}; names= is for semantic labels")
        folder, classes = KINDS[kind]
        advice = "unpack ADEChallengeData2016.zip (and annotations_instance.tar) there"
        super().__init__(root, f"images/{split}", {"mask": Partner(f"{folder}/{split}")}, limit=limit, advice=advice)
        self._classes = tuple(read_names(self.root / names)) if names else classes
        self._class_of = instance_class if kind == "instance" else from_names(self._classes).__getitem__
        self._things = kind == "instance"

    def make(self, name: str, found: dict[str, bytes]) -> Record:
        listed = segments(found["mask"], name, self._class_of, () if self._things else None)
        extra: dict = {"class_names": list(self._classes)}
        if self._things:
            extra["things"] = [True] * len(listed)
        return Record(name, (found["picture"],), labels=found["mask"], segments=listed, extra=extra)
