"""SA-1B: photos, each with a json of run-length masks that overlap and do not cover it; unpacked, or in its tars.

ROOT/**/sa_1.jpg, ROOT/**/sa_1.json        unpacked, in any folders
ROOT/**/sa_000000.tar                      as published: about 11,000 pairs each, read in place
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.data.pictures import rle
from sgt_jax.data.sources.reading import files
from sgt_jax.data.sources.reading.paired import PairedFolder, PairedTar, Partner
from sgt_jax.data.sources.reading.streamed import StreamedSource
from sgt_jax.data.stored.record import BadRecord, Record, Shard
from sgt_jax.errors import DataError

_JSON = {"json": (".json",)}
_QUALITIES = ("predicted_iou", "stability_score")


@dataclasses.dataclass(frozen=True)
class MaskChoice:
    """Which masks of a photo are kept, in the order of the file.

    Attributes:
      min_area: in pixels of the photo.
      max_masks: only the largest so many.
    """

    min_area: int = 0
    max_masks: int | None = None

    def make(self, name: str, found: Mapping[str, bytes]) -> Record:
        """The record of a "picture" and its "json".

        Raises:
          BadRecord: not the json of SA-1B.
        """
        try:
            content = json.loads(found["json"])
            # amg.py --convert-to-rle of segment-anything writes the list alone.
            content = {"annotations": content} if isinstance(content, list) else content
            fields = self.fields(content["annotations"])
            image = content.get("image")
            if isinstance(image, Mapping) and image.get("image_id") is not None:
                fields["extra"]["image_id"] = image["image_id"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"{name}: its json is not SA-1B's ({type(error).__name__}: {error}); download it again"
            raise BadRecord("bad json", reason) from error
        return Record(name, (found["picture"],), **fields)

    def fields(self, annotations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """`masks` and `extra` of a record; raises KeyError, ValueError or TypeError for what is no annotation."""
        found = [a for a in annotations if _area(a) >= self.min_area]
        if self.max_masks is not None:
            largest = sorted(range(len(found)), key=lambda i: -_area(found[i]))[: self.max_masks]
            found = [found[i] for i in sorted(largest)]
        masks = tuple({"size": a["segmentation"]["size"], "counts": a["segmentation"]["counts"]} for a in found)
        extra = {key: [a[key] for a in found] for key in _QUALITIES if all(a.get(key) is not None for a in found)}
        if all(a.get("bbox") is not None for a in found):
            extra["boxes"] = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in found)]
        return {"masks": masks, "extra": extra}


def _area(annotation: Mapping[str, Any]) -> int:
    """As it says, or else counted."""
    if annotation.get("area") is not None:
        return annotation["area"]
    runs = rle.foreground(annotation["segmentation"])
    return int((runs[:, 1] - runs[:, 0]).sum())


class Sa1bFolder(PairedFolder):
    """Random access to the unpacked pairs.

    Args:
      root: folder above all pairs.
      min_area, max_masks: see `MaskChoice`.
      limit: use only the first so many records.
    """

    def __init__(self, root: str | Path, min_area: int = 0, max_masks: int | None = None, limit: int | None = None):
        advice = "unpack the tars there, or ingest them with type 'sa1b_tars'"
        super().__init__(root, ".", {"json": Partner(".", _JSON["json"])}, limit=limit, advice=advice)
        self._choice = MaskChoice(min_area, max_masks)

    def make(self, name: str, found: dict[str, bytes]) -> Record:
        return self._choice.make(name, found)


class Sa1bTars(StreamedSource):
    """The tars as published, one shard each; for `ingest`.

    Args:
      root: folder above the tars.
      min_area, max_masks: see `MaskChoice`.
    """

    def __init__(self, root: str | Path, min_area: int = 0, max_masks: int | None = None):
        self.root, self._choice = files.local_folder(root), MaskChoice(min_area, max_masks)
        self._names = files.files_below(self.root, files.TAR_SUFFIXES, self.passed_over)
        if not self._names:
            raise DataError(f"{self.root}: holds no .tar; type 'sa1b' reads unpacked pairs")

    def pieces(self, size: int) -> Sequence[Shard]:
        return [PairedTar(files.stem(name), self.root, name, _JSON, self._choice.make) for name in self._names]
