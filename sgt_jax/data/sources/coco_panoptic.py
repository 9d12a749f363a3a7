"""COCO panoptic: photos whose every pixel belongs to a segment with a class, or to none.

    ROOT/annotations/panoptic_train2017.json        which segments a label picture holds, and their classes
    ROOT/annotations/panoptic_train2017/NAME.png    label pictures: id = R + 256 G + 65536 B, 0 is void
    ROOT/train2017/NAME.jpg                         photos

Picture and annotation must agree: an id that no segment lists, or a listed one that does not occur, is a bad record.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sgt_jax.data.sources.reading import files
from sgt_jax.data.stored.record import Bad, BadRecord, Record, Source
from sgt_jax.errors import DataError


class CocoPanoptic(Source):
    """Random access to photos with their segments, in the order of the annotations; `extra["things"]` tells things.

    Args:
      root: the data set's folder.
      split: "train2017" or "val2017": what files and folders are called after.
      annotations, labels, photos: other places below `root`; by default the official ones of the split.
      crowds: regions of many objects annotated as one (iscrowd): "void" paints them as nothing, "keep" as one.
      on_bad: what to do on opening with annotations that cannot be used: "error", or "skip", which lists them in
        `left_out`. A record that turns out bad when read is a BadRecord either way.
      limit: use only the first so many records.

    Raises:
      DataError: a file or folder is not there, or the json is not COCO panoptic's.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train2017",
        annotations: str | None = None,
        labels: str | None = None,
        photos: str | None = None,
        crowds: str = "void",
        on_bad: str = "error",
        limit: int | None = None,
    ):
        if crowds not in ("void", "keep"):
            raise DataError(f"crowds={crowds!r}: choose 'void' or 'keep'")
        advice = "unzip annotations (and the zip of label pictures in them) and photos there"
        self.root = files.local_folder(root, advice)
        self._json = self.root / (annotations or f"annotations/panoptic_{split}.json")
        self._labels = files.local_folder(self.root / (labels or f"annotations/panoptic_{split}"), advice)
        self._photos = files.local_folder(self.root / (photos or split), advice)
        self._crowds, self._rows = crowds, []
        content = self._content()
        try:
            categories = [(c["id"], str(c["name"]), bool(c["isthing"])) for c in content["categories"]]
            names = {image["id"]: str(image["file_name"]) for image in content["images"]}
            listed = content["annotations"]
            used = {annotation["image_id"] for annotation in listed}
        except (KeyError, TypeError) as error:
            raise DataError(f"{self._json}: not COCO panoptic's json ({type(error).__name__}: {error})") from error
        if not listed:
            raise DataError(f"{self._json}: lists no annotations")
        self._classes = [(name, thing) for _, name, thing in categories]
        class_of = {number: place for place, (number, _, _) in enumerate(categories)}
        segments: list[list[tuple[int, int, int]]] = []
        left_out, seen = [], set()
        for place, annotation in enumerate(listed):
            try:
                number = annotation["image_id"]
                if number not in names:
                    raise BadRecord("unknown picture", f"its image_id {number} is not among the 'images'")
                if number in seen:
                    raise BadRecord("duplicate annotation", f"picture {number} has another annotation already")
                found = _segments(annotation["segments_info"], class_of)
                self._rows.append((names[number], str(annotation["file_name"])))
                segments.append(found)
                seen.add(number)
            except BadRecord as error:
                left_out.append(self._bad(f"annotation {place}", error.kind, str(error)))
            except (KeyError, TypeError, ValueError) as error:
                what = f"{type(error).__name__}: {error}"
                left_out.append(
                    self._bad(f"annotation {place}", "bad annotation", f"not COCO panoptic's form ({what})")
                )
        for number, name in names.items():
            if number not in used:
                left_out.append(self._bad(name, "missing annotation", "the picture is listed but has no annotation"))
        # A million segments are kept as numbers in one array, not as objects.
        self._ends = np.cumsum([len(found) for found in segments])
        self._segments = np.array([row for found in segments for row in found], np.int64).reshape(-1, 3)
        self.left_out = files.accept_bad(left_out, on_bad, f"{self._json}: of {len(listed)} annotations")
        self._rows = self._rows[:limit]
        if not self._rows:
            raise DataError(f"{self._json}: no annotation can be used; see the log")

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"CocoPanoptic({self._json}, {len(self)} records)"

    def record(self, i: int) -> Record:
        """Photo and label picture as stored, the segments that count, and the ids that do not."""
        photo, labels = self._rows[i]
        rows = self._segments[(self._ends[i - 1] if i else 0) : self._ends[i]].tolist()
        counted = [row for row in rows if self._crowds == "keep" or not row[2]]
        # File names are unique in a split, and folders of splits are given by the config.
        return Record(
            name=photo,
            images=(files.read_bytes(files.inside(self._photos, photo)),),
            labels=files.read_bytes(files.inside(self._labels, labels), "mask"),
            segments=tuple((number, self._classes[place][0]) for number, place, _ in counted),
            void_ids=tuple(row[0] for row in rows if row not in counted),
            extra={
                "things": [self._classes[place][1] for _, place, _ in counted],
                "class_names": [name for name, _ in self._classes],
            },
        )

    def _content(self) -> Mapping[str, Any]:
        try:
            content = json.loads(self._json.read_bytes())
        except OSError as error:
            raise DataError(f"{self._json}: cannot be read ({error}); unzip the annotations there") from error
        except ValueError as error:
            raise DataError(f"{self._json}: not JSON ({error}); download it again") from error
        if not isinstance(content, Mapping):
            raise DataError(f"{self._json}: not COCO panoptic's json but a {type(content).__name__}")
        return content

    def _bad(self, name: str, kind: str, reason: str) -> Bad:
        return Bad(f"{self._json.name}, {name}", kind, f"{self._json}, {name}: {reason}")


def _segments(found: Any, class_of: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """(id, place of its class, is a crowd) of an annotation's segments.

    Raises:
      BadRecord: an unknown class, or ids that cannot be.
      KeyError, TypeError, ValueError: another form.
    """
    if unknown := [s["category_id"] for s in found if s["category_id"] not in class_of]:
        raise BadRecord("unknown category", f"the category ids {unknown[:5]} are not among the 'categories'")
    rows = [(int(s["id"]), class_of[s["category_id"]], int(s.get("iscrowd", 0))) for s in found]
    if len({row[0] for row in rows}) < len(rows) or not all(0 < row[0] < 2**24 for row in rows):
        raise BadRecord("bad segment ids", "segment ids must differ and lie between 1 and 2**24 - 1")
    return rows
