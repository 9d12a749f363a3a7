"""Reads any folder of pictures, with captions, masks, depth maps or the right picture of a stereo pair beside them.

`PictureTars` reads tars of pictures, with or without captions of the same stem.

    ROOT/PHOTOS/**/NAME.jpg
    ROOT/PHOTOS/**/NAME.txt             captions="txt"
    ROOT/PHOTOS/metadata.jsonl          captions="metadata": {"file_name": "a/b.jpg", "text": "a red bus", ...} a line
    ROOT/MASKS/**/NAME.png              masks: segment ids, or a coloured picture
    ROOT/DEPTH/**/NAME.{npy,png}        depth: metres after multiplication by depth_unit; 0 and NaN are unknown
    ROOT/RIGHT/**/NAME.png              right: the other picture of a stereo pair

Everything is paired by the path below its folder without the suffix.
"""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sgt_jax.data.pictures import reading
from sgt_jax.data.sources.reading import files
from sgt_jax.data.sources.reading.labels import from_names, segments
from sgt_jax.data.sources.reading.paired import PairedFolder, PairedTar, Partner
from sgt_jax.data.sources.reading.streamed import StreamedSource
from sgt_jax.data.stored.record import Bad, BadRecord, Record, Shard
from sgt_jax.errors import DataError

CAPTIONS = (None, "txt", "metadata")
CAPTION_KEYS = ("text", "caption")  # of a line of metadata.jsonl, the first that is there
MASKS = ("ids", "picture")


class PlainFolder(PairedFolder):
    """Random access to the pictures of a folder.

    Args:
      root: folder above all.
      photos: folder of the pictures below it.
      captions: None, "txt" or "metadata"; other fields of the metadata go to `extra`.
      masks: folder of the masks below root, or None.
      mask_kind: "ids" (pixel values are segment ids, 0 is void) or "picture" (a coloured mask as it is to be painted).
      class_names: names of the ids 1, 2, ...; without them every id is an "object".
      depth: folder of the depth maps below root, or None.
      depth_unit: what their numbers are multiplied by; 0.001 for PNGs in millimetres.
      right: folder of the right pictures below root, or None.
      upright: turn photos as their EXIF orientation says; masks and depth do not turn with them, so only without these.
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
        upright: bool = False,
        limit: int | None = None,
    ):
        if captions not in CAPTIONS or mask_kind not in MASKS:
            raise DataError(
                f"folder: captions={captions!r} must be one of {CAPTIONS}, mask_kind={mask_kind!r} of {MASKS}"
            )
        if upright and (masks or depth):
            raise DataError("folder: upright=True would turn the photos away from their masks and depth maps")
        folders = {
            "mask": masks and Partner(masks),
            "depth map": depth and Partner(depth, (".npy", ".png")),
            "right picture": right and Partner(right, files.PHOTO_SUFFIXES),
            "caption": captions == "txt" and Partner(photos, (".txt",)),
        }
        partners = {what: partner for what, partner in folders.items() if partner}
        super().__init__(root, photos, partners, limit=limit, advice="check photos=, masks=, depth= and right=")
        self._mask_kind, self._unit, self._upright = mask_kind, depth_unit, upright
        self._names = None if class_names is None else list(class_names)
        self._class_of = from_names(self._names).__getitem__ if self._names else _any_object
        self._metadata = Metadata(self.root / photos / "metadata.jsonl") if captions == "metadata" else None
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
                fields.update(labels=mask, segments=segments(mask, name, self._class_of))
                if self._names:
                    fields["extra"]["class_names"] = self._names
        if (depth := found.get("depth map")) is not None:
            fields["depth"] = depth_map(depth, name, self._unit)
        if (text := found.get("caption")) is not None:
            fields["caption"] = _text(text, name)
        return Record(name, pictures, upright=self._upright, **fields)


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
        self._names = files.files_below(self.root, (".tar",))
        if not self._names:
            raise DataError(f"{self.root}: holds no .tar; type 'folder' reads unpacked pictures")

    def shards(self, size: int = 0) -> Sequence[Shard]:
        return [PairedTar(files.stem(name), self.root, name, self._partners, _captioned) for name in self._names]


def _captioned(name: str, found: Mapping[str, bytes]) -> Record:
    return Record(name, (found["picture"],), caption=_text(found["caption"], name) if "caption" in found else None)


class Metadata:
    """The lines of a metadata.jsonl, each for the picture that its file_name says.

    Attributes:
      path: of the file.
      lines: stem of the picture -> the line's fields, or why the line cannot be used (then under a stem of its own).
    """

    def __init__(self, path: Path):
        self.path = path
        self.lines: dict[str, dict[str, Any] | Bad] = {}
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error}); captions='txt' takes one file a picture") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            own = f"{path.name}, line {number}"
            try:
                fields = json.loads(line)
                key = files.stem(fields["file_name"])
            except (ValueError, KeyError, TypeError) as error:
                reason = f"{path}, line {number}: not a JSON object in UTF-8 with a file_name ({error!r})"
                self.lines[own] = Bad(own, "bad line", reason)
                continue
            if key in self.lines:
                key, fields = own, Bad(own, "duplicate line", f"{path}, line {number}: {key} has a line already")
            self.lines[key] = fields

    def caption(self, key: str) -> tuple[str, dict[str, Any]]:
        """Caption and other fields of the picture with this stem.

        Raises:
          BadRecord: no line, no caption in it, or the line cannot be used.
        """
        fields = self.lines.get(key, {})
        if isinstance(fields, Bad):
            raise BadRecord(fields.kind, fields.reason)
        others = {name: value for name, value in fields.items() if name not in ("file_name", *CAPTION_KEYS)}
        for name in CAPTION_KEYS:
            if isinstance(fields.get(name), str) and fields[name].strip():
                return fields[name].strip(), others
        keys = "' or '".join(CAPTION_KEYS)
        raise BadRecord("missing caption", f"{self.path}: '{key}' has no line with the key '{keys}'; add it")


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
        text = data.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise BadRecord("bad caption", f"{name}: its caption is not UTF-8 ({error}); convert the .txt") from error
    if not text:
        raise BadRecord(
            "missing caption", f"{name}: its caption is blank; write one, or remove the .txt and the picture"
        )
    return text


def _any_object(number: int) -> str | None:
    return "object" if number else None
