"""COCO instances: photos with the outlines or run lengths of their objects, as COCO, LVIS and most labelling tools write.

ROOT/annotations/instances_train2017.json     images, annotations (polygons or RLE), categories
ROOT/train2017/NAME.jpg                       photos
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sgt_jax.data.pictures import rle
from sgt_jax.data.sources.reading import files
from sgt_jax.data.stored.record import Bad, BadRecord, Record, Source
from sgt_jax.errors import DataError


class CocoInstances(Source):
    """Random access to the listed photos that have annotations, in the order of the list; all segments are things.

    Args:
      root: the data set's folder.
      split: "train2017" or "val2017": what file and folder are called after.
      annotations, photos: other places below `root`; by default the official ones of the split.
      crowds: regions of many objects annotated as one (iscrowd): "void" leaves them out, "keep" takes each as one.
      empty: photos without any object: "skip" leaves them out, "keep" gives them no masks.
      on_bad: what to do on opening with annotations that cannot be used: "error", or "skip", which lists them in
        `left_out`.
      limit: use only the first so many records.

    Raises:
      DataError: a file or folder is not there, or the json is not COCO's.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train2017",
        annotations: str | None = None,
        photos: str | None = None,
        crowds: str = "void",
        empty: str = "skip",
        on_bad: str = "error",
        limit: int | None = None,
    ):
        if crowds not in ("void", "keep") or empty not in ("skip", "keep"):
            raise DataError(f"crowds={crowds!r} must be 'void' or 'keep', empty={empty!r} 'skip' or 'keep'")
        advice = "unzip annotations and photos there, or set annotations= and photos="
        self.root = files.local_folder(root, advice)
        self._json = self.root / (annotations or f"annotations/instances_{split}.json")
        self._photos = files.local_folder(self.root / (photos or split), advice)
        self._crowds = crowds
        content = self._content()
        try:
            names = {category["id"]: str(category["name"]) for category in content["categories"]}
            pictures = {image["id"]: str(image["file_name"]) for image in content["images"]}
            sizes = {image["id"]: (image.get("height"), image.get("width")) for image in content["images"]}
            listed = list(content["annotations"])
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self._json}: not COCO's json of instances ({type(error).__name__}: {error})") from error
        self._class_names, left_out = list(names.values()), []
        of_picture: dict[Any, list[tuple[Mapping[str, Any], str]]] = {number: [] for number in pictures}
        for place, annotation in enumerate(listed):
            try:
                if annotation["image_id"] not in of_picture:
                    raise BadRecord(
                        "unknown picture", f"its image_id {annotation['image_id']} is not among the 'images'"
                    )
                if annotation["category_id"] not in names:
                    raise BadRecord("unknown category", f"its category_id {annotation['category_id']} is not listed")
                of_picture[annotation["image_id"]].append((annotation, names[annotation["category_id"]]))
            except BadRecord as error:
                left_out.append(self._bad(place, error.kind, str(error)))
            except (KeyError, TypeError) as error:
                left_out.append(
                    self._bad(place, "bad annotation", f"not COCO's form ({type(error).__name__}: {error})")
                )
        kept = [number for number, found in of_picture.items() if found or empty == "keep"]
        if without := len(of_picture) - len(kept):
            self.passed_over["photos without an object"] += without
        self._rows = [(pictures[number], sizes[number], of_picture[number]) for number in kept]
        self.left_out = files.accept_bad(left_out, on_bad, f"{self._json}: of {len(listed)} annotations")
        self._rows = self._rows[:limit]
        files.report(self.passed_over, self._json)
        if not self._rows:
            raise DataError(f"{self._json}: no photo with an object; see the log, or set empty='keep'")

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"CocoInstances({self._json}, {len(self)} records)"

    def record(self, i: int) -> Record:
        """Photo as stored, and its objects as run lengths."""
        name, size, listed = self._rows[i]
        counted = [(a, label) for a, label in listed if self._crowds == "keep" or not a.get("iscrowd")]
        if not all(isinstance(side, int) and 0 < side < 2**16 for side in size):
            raise BadRecord("bad size", f"{name}: 'height' and 'width' in {self._json.name} are {size}; add them")
        masks, classes, boxes = [], [], []
        for annotation, label in counted:
            try:
                masks.append(run_lengths(annotation["segmentation"], size))
                x, y, width, height = annotation["bbox"] if annotation.get("bbox") else _box(masks[-1])
            except (DataError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
                reason = f"{name}: annotation {annotation.get('id')}: {type(error).__name__}: {error}; correct it"
                raise BadRecord("bad segmentation", reason) from error
            classes.append(label)
            boxes.append([x, y, x + width, y + height])
        extra = {"things": [True] * len(masks), "class_names": self._class_names, "boxes": boxes}
        picture = files.read_bytes(files.inside(self._photos, name))
        return Record(name, (picture,), masks=tuple(masks), classes=tuple(classes), extra=extra)

    def _content(self) -> Mapping[str, Any]:
        try:
            content = json.loads(self._json.read_bytes())
        except OSError as error:
            raise DataError(f"{self._json}: cannot be read ({error}); unzip the annotations there") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self._json}: not JSON ({error}); download it again") from error
        if not isinstance(content, Mapping):
            raise DataError(f"{self._json}: not COCO's json of instances but a {type(content).__name__}")
        return content

    def _bad(self, place: int, kind: str, reason: str) -> Bad:
        where = f"{self._json.name}, annotation {place}"
        return Bad(where, kind, f"{self._json}, annotation {place}: {reason}")


def run_lengths(segmentation: Any, hw: Sequence[int]) -> dict[str, Any]:
    """A segmentation of COCO as run lengths: polygons [[x, y, x, y, ...], ...] are drawn, run lengths stay.

    A pixel belongs to a polygon if its centre lies within.

    Raises:
      DataError, KeyError, TypeError, ValueError: neither form.
    """
    if isinstance(segmentation, Mapping):
        return {"size": segmentation["size"], "counts": segmentation["counts"]}
    if not isinstance(segmentation, list) or not segmentation:
        raise DataError(f"a segmentation must be polygons or run lengths, not {segmentation!r:.60}")
    height, width = hw
    mask = np.zeros((height, width), bool)
    for polygon in segmentation:
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
        if len(points) < 3 or not np.isfinite(points).all():
            raise DataError(f"a polygon needs three points or more, not {polygon!r:.60}")
        mask |= _filled(points, height, width)
    return rle.encode(mask)


def _filled(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """bool [H, W]: the pixels whose centre is inside a polygon (x, y); even-odd."""
    xs, ys = points[:, 0], points[:, 1]
    mask = np.zeros((height, width), bool)
    first, last = max(int(np.floor(ys.min())), 0), min(int(np.ceil(ys.max())), height)
    x2, y2 = np.roll(xs, -1), np.roll(ys, -1)
    for row in range(first, last):
        centre = row + 0.5
        crossing = (ys <= centre) != (y2 <= centre)
        at = np.sort(xs[crossing] + (centre - ys[crossing]) / (y2 - ys)[crossing] * (x2 - xs)[crossing])
        # Between two crossings, the pixels whose centre is there.
        for left, right in np.clip(np.ceil(at - 0.5), 0, width).astype(int).reshape(-1, 2):
            mask[row, left:right] = True
    return mask


def _box(mask: Mapping[str, Any]) -> list[int]:
    """[x, y, width, height] of run lengths."""
    rows, columns = np.nonzero(rle.decode(mask))
    if not len(rows):
        return [0, 0, 0, 0]
    left, top = int(columns.min()), int(rows.min())
    return [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]
