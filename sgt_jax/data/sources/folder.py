"""Reads any folder of pictures, with captions, masks, depth maps or the right picture of a stereo pair beside them.

`PictureTars` reads tars of pictures, with or without captions of the same stem.

    ROOT/PHOTOS/**/NAME.jpg
    ROOT/PHOTOS/**/NAME.txt             captions="txt"
    ROOT/PHOTOS/metadata.jsonl          captions="metadata": {"file_name": "a/b.jpg", "text": "a red bus", ...} a line
    ROOT/PHOTOS/metadata.csv            or the same as a table with a header
    ROOT/MASKS/**/NAME.png              masks: segment ids, or a coloured picture
    ROOT/DEPTH/**/NAME.{npy,png}        depth: metres after multiplication by depth_unit; 0 and NaN are unknown
    ROOT/RIGHT/**/NAME.png              right: the other picture of a stereo pair

Everything is paired by the path below its folder without the suffix.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sgt_jax.data.pictures import reading
from sgt_jax.data.sources.reading import files, metadata
from sgt_jax.data.sources.reading.labels import from_names, segments
from sgt_jax.data.sources.reading.paired import PairedFolder, PairedTar, Partner
from sgt_jax.data.sources.reading.streamed import StreamedSource
from sgt_jax.data.stored.record import BadRecord, Record, Shard
from sgt_jax.errors import DataError

CAPTIONS = (None, "txt", "metadata")
MASKS = ("ids", "picture")


class PlainFolder(PairedFolder):
    """Random access to the pictures of a folder.

    Args:
      root: folder above all.
      photos: folder of the pictures below it.
      captions: None, "txt" or "metadata"; other fields of the metadata go to `extra`.
      masks: folder of the masks below root, or None.
      mask_kind: "ids" (pixel values are segment ids, 0 is void) or "picture" (a coloured mask as it is to be painted).
      class_names: names of the ids 1, 2, ... (0, 1, ... if 0 is not void); without them every id is an "object".
      void_ids: ids that are no object. By default 0, and 255 where it is the largest (Pascal VOC); maps that count from 0
        and ignore 255 (mmsegmentation) want [255].
      depth: folder of the depth maps below root, or None.
      depth_unit: what their numbers are multiplied by; 0.001 for PNGs in millimetres.
      right: folder of the right pictures below root, or None.
      upright: turn photos as their EXIF orientation says, and masks and depth maps with them.
      limit: use only the first so many records.
    """

    def __init__(
        self,
        root: str | Path,
        photos: str = ".",
        captions: str | None = None,
        masks: str | None = None,
        mask_kind: str = "ids",
        class_names: list[str] | None = None,
        depth: str | None = None,
        depth_unit: float = 1.0,
        right: str | None = None,
        upright: bool = True,
        void_ids: list[int] | None = None,
        limit: int | None = None,
    ):
        if captions not in CAPTIONS or mask_kind not in MASKS:
            raise DataError(
                f"folder: captions={captions!r} must be one of {CAPTIONS}, mask_kind={mask_kind!r} of {MASKS}"
            )
        mask_suffixes = (".png", *(s for s in files.PHOTO_SUFFIXES if s != ".png"))
        folders = {
            "mask": masks and Partner(masks, mask_suffixes),
            "depth map": depth and Partner(depth, (".npy", ".png", ".tif", ".tiff")),
            "right picture": right and Partner(right, files.PHOTO_SUFFIXES),
            "caption": captions == "txt" and Partner(photos, (".txt",)),
        }
        partners = {what: partner for what, partner in folders.items() if partner}
        known = metadata.NAMES if captions == "metadata" else ()
        advice = "check photos=, masks=, depth= and right="
        super().__init__(root, photos, partners, limit=limit, advice=advice, known=known)
        self._mask_kind, self._unit, self.upright = mask_kind, depth_unit, upright
        self._names = None if class_names is None else list(class_names)
        self._void = None if void_ids is None else tuple(int(number) for number in void_ids)
        zero = self._void is None or 0 in self._void
        if self._names:
            self._class_of = from_names(self._names, 0 if zero else None, int(zero)).__getitem__
        else:
            self._class_of = _any_object if zero else _any_id
        self._metadata = (
            metadata.Metadata(metadata.metadata_file(self.root / photos)) if captions == "metadata" else None
        )
        if self._metadata:
            self.take(sorted({*self._stems, *self._metadata.lines}), limit)

    def record(self, i: int) -> Record:
        if not self._metadata:
            return super().record(i)
        caption, more = self._metadata.caption(self._stems[i])
        record = super().record(i)
        return dataclasses.replace(record, caption=caption, extra=dict(record.extra) | more)

    def make(self, name: str, found: dict[str, bytes]) -> Record:
        pictures = tuple(found[what] for what in ("picture", "right picture") if what in found)
        fields: dict[str, Any] = {"extra": {}}
        if (mask := found.get("mask")) is not None:
            if self._mask_kind == "picture":
                fields["mask_picture"] = mask
            else:
                fields.update(labels=mask, segments=segments(mask, name, self._class_of, self._void))
                if self._names:
                    fields["extra"]["class_names"] = self._names
        if (depth := found.get("depth map")) is not None:
            fields["depth"] = depth_map(depth, name, self._unit)
        if (text := found.get("caption")) is not None:
            fields["caption"] = _text(text, name)
        return Record(name, pictures, **fields)


class PictureTars(StreamedSource):
    """Tars of pictures (web data sets), one shard each; for `ingest`.

    Args:
      root: folder above the tars.
      captions: "txt" where every NAME.jpg has a NAME.txt, or None.
    """

    def __init__(self, root: str | Path, captions: str | None = None):
        if captions not in (None, "txt"):
            raise DataError(f"folder_tars: captions={captions!r} must be 'txt' or null")
        self.root = files.local_folder(root)
        self._partners = {"caption": (".txt",)} if captions else {}
        self._names = files.files_below(self.root, files.TAR_SUFFIXES, self.passed_over)
        if not self._names:
            raise DataError(f"{self.root}: holds no .tar; type 'folder' reads unpacked pictures")

    def pieces(self, size: int) -> Sequence[Shard]:
        return [PairedTar(files.stem(name), self.root, name, self._partners, _captioned) for name in self._names]


def _captioned(name: str, found: Mapping[str, bytes]) -> Record:
    return Record(name, (found["picture"],), caption=_text(found["caption"], name) if "caption" in found else None)


def depth_map(data: bytes, name: str, unit: float) -> bytes:
    """A .npy or .png with one number a pixel as a .npy of float32; unknown pixels (0, below, infinite) are NaN.

    Raises:
      BadRecord: not a map.
    """
    try:
        if data.startswith(np.lib.format.MAGIC_PREFIX):
            values = np.load(io.BytesIO(data), allow_pickle=False)
        else:
            values = reading.load_values(data, name)
        if values.ndim == 3 and values.shape[-1] == 1:
            values = values[..., 0]
        if values.ndim != 2:
            raise ValueError(f"an array {list(values.shape)}, must be [H, W]")
        values = values.astype(np.float32) * np.float32(unit)
    except (ValueError, OSError, EOFError) as error:
        raise BadRecord("unreadable depth map", f"{name}: depth map: {error}") from error
    values[~(np.isfinite(values) & (values > 0))] = np.nan
    return npy(values)


def npy(values: np.ndarray) -> bytes:
    """An array as the bytes of a .npy file."""
    out = io.BytesIO()
    np.save(out, values, allow_pickle=False)
    return out.getvalue()


def _text(data: bytes, name: str) -> str:
    try:
        text = files.text_of(data).strip()
    except UnicodeDecodeError as error:
        raise BadRecord("bad caption", f"{name}: its caption is not UTF-8 ({error}); convert the .txt") from error
    if not text:
        raise BadRecord(
            "missing caption", f"{name}: its caption is blank; write one, or remove the .txt and the picture"
        )
    return text


def _any_id(number: int) -> str | None:
    return "object"


def _any_object(number: int) -> str | None:
    return "object" if number else None
