"""A stored example: pictures as encoded files, masks as run lengths, text. Readers yield it and `ingest` writes it.

`Record` is what a foreign format holds, untouched: nothing is decoded and encoded again, so ingesting loses nothing and is
as fast as copying. `decode` turns it into the `Example` that tasks work on; `to_bytes` and `from_bytes` are the form in
ArrayRecord files. `Source` is the interface of everything that can be read at random.
"""

import dataclasses
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgpack
import numpy as np

from sgt_jax.data.examples import Example, Turn
from sgt_jax.data.pictures import reading, upright
from sgt_jax.data.pictures.regions import Masks
from sgt_jax.data.stored.boundary import BadRecord, guarded, printable
from sgt_jax.errors import DataError

VERSION = 1  # of the stored form; a reader refuses others
ASPECT_TOLERANCE = 0.02  # between a photo and its mask picture, which may have another size


@dataclasses.dataclass(frozen=True)
class Record:
    """One example before decoding; absent knowledge is None or empty.

    Attributes:
      name: provenance, unique within the source; errors quote it.
      images: encoded picture files (JPEG, PNG, WebP, ...), in the order of the `<image>` markers.
      mask_picture: an encoded colour-coded mask.
      labels: an encoded PNG whose pixel values are segment ids (8 or 16 bits grey, or RGB as R + 256 G + 65536 B).
      segments: for `labels`: (id, class name) of every segment that counts, in order. Ids that are not listed are void.
      void_ids: for `labels`: the ids beside 0 that may occur without being listed (COCO's crowds); then any other such id
        is an error, as is a listed one that does not occur. None allows everything.
      masks: COCO run lengths {"size": [H, W], "counts": string or list}, may overlap.
      classes: class names, parallel to `masks`.
      depth: an encoded depth map: .npy bytes (float, larger is farther, NaN unknown).
      caption, turns, kind: as in Example.
      upright: turn the pictures as their EXIF orientation says, and with them what lies on their pixels as stored: masks,
        depth and the boxes in `extra`. What has the size of the turned picture already stays.
      truncated: use pictures whose last bytes are missing, see `reading.load_rgb`.
      extra: anything else, of plain JSON types.
      moments: of a tokenised record: as in Example, each the bytes of an .npy file.
      preview: of a tokenised record: a small encoded picture of the target, to look at.
    """

    name: str
    images: tuple[bytes, ...] = ()
    mask_picture: bytes | None = None
    labels: bytes | None = None
    segments: tuple[tuple[int, str], ...] = ()
    void_ids: tuple[int, ...] | None = None
    masks: tuple[Mapping[str, Any], ...] = ()
    classes: tuple[str, ...] | None = None
    depth: bytes | None = None
    caption: str | None = None
    turns: tuple[Turn, ...] = ()
    kind: str | None = None
    upright: bool = True
    truncated: bool = True
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    moments: tuple[bytes, ...] = ()
    preview: bytes | None = None


@dataclasses.dataclass(frozen=True)
class Bad:
    """A record that cannot be used. Readers yield it in place of the record, so that it is counted and named.

    Attributes:
      name: which record, with its path.
      kind: what is wrong in one or two words, the same for all such records ("missing picture", "missing mask",
        "unreadable picture", "bad json", ...): counts are kept by kind.
      reason: the whole sentence, with what to do.
    """

    name: str
    kind: str
    reason: str

    def __post_init__(self) -> None:
        for field in ("name", "reason"):  # both are printed and stored, whatever a file is called
            object.__setattr__(self, field, printable(getattr(self, field)))


def to_bytes(record: Record) -> bytes:
    """The stored form: msgpack of the fields that are set."""
    fields = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    # An empty `void_ids` says something else than None.
    is_set = {k: v for k, v in fields.items() if v not in (None, (), {}, False) or (k == "void_ids" and v is not None)}
    # Both in each record: folders of older versions have `upright` only where it is True, and nothing of `truncated`.
    is_set |= {"upright": record.upright, "truncated": record.truncated}
    return msgpack.packb({"version": VERSION} | is_set)


def from_bytes(data: bytes, where: str = "record") -> Record:
    """The inverse of `to_bytes`.

    Raises:
      DataError: not a stored record, or of another version; the message names `where`.
    """
    try:
        fields = msgpack.unpackb(data)
        version = fields.pop("version")
    except (ValueError, msgpack.UnpackException, AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f"{where}: not a record of ours ({error}); make the file again with `sgt_jax ingest`"
        ) from error
    if version != VERSION:
        raise DataError(f"{where}: stored form {version}, this code reads {VERSION}; ingest the data again")
    fields = {"upright": False, "truncated": False} | fields
    for key, value in fields.items():
        if isinstance(value, list):  # a record's own sequences are tuples of tuples; `extra` keeps its lists
            make = (lambda turn: Turn(*turn)) if key == "turns" else lambda x: tuple(x) if isinstance(x, list) else x
            fields[key] = tuple(map(make, value))
    return Record(**fields)


def settled(record: Record, upright: bool, truncated: bool) -> Record:
    """The record with what the source's options say of its pictures; what the record itself switches off stays off."""
    upright, truncated = upright and record.upright, truncated and record.truncated
    if (upright, truncated) == (record.upright, record.truncated):
        return record
    return dataclasses.replace(record, upright=upright, truncated=truncated)


def decode(record: Record) -> Example:
    """Decodes all pictures and masks.

    Raises:
      BadRecord: anything of it cannot be read, or sizes disagree; the message names the record.
    """
    return guarded(record.name, lambda: _decoded(record))


def _decoded(record: Record) -> Example:
    name = record.name
    pictures = tuple(_picture(data, record, "picture") for data in record.images)
    turn = reading.orientation(record.images[0]) if record.upright and pictures else upright.USUAL
    mask_picture = None if record.mask_picture is None else _picture(record.mask_picture, record, "mask picture")
    depth = None if record.depth is None else _array(record.depth, name, "depth").astype(np.float32)
    found, classes = _instances(record)
    extra = dict(record.extra)
    if turn != upright.USUAL:
        mask_turn = reading.orientation(record.mask_picture) if record.mask_picture is not None else turn
        seen = pictures[0].shape[:2]
        found = found if _lies(found.shape[1:], seen, turn) else found.turned(turn)
        if mask_picture is not None and mask_turn == upright.USUAL and not _lies(mask_picture.shape[:2], seen, turn):
            mask_picture = upright.turned(mask_picture, turn)
        if depth is not None and not _lies(depth.shape[:2], seen, turn):
            depth = upright.turned(depth, turn)
        if extra.get("boxes"):
            stored = seen[::-1] if upright.swaps_sides(turn) else seen
            extra["boxes"] = upright.turned_boxes(extra["boxes"], turn, stored)
    if len(found) and pictures and found.shape[1:] != pictures[0].shape[:2]:
        sizes = f"{found.shape[2]}x{found.shape[1]} and {pictures[0].shape[1]}x{pictures[0].shape[0]}"
        raise BadRecord("mask size", f"{name}: masks and picture differ in size ({sizes}); are they of one picture?")
    if mask_picture is not None and pictures:
        _same_shape(name, pictures[0], mask_picture)
    return Example(
        name=name,
        image=pictures[0] if pictures else None,
        images=pictures if len(pictures) > 1 else (),
        masks=found if record.masks or record.labels is not None else None,
        classes=classes,
        mask_picture=mask_picture,
        depth=depth,
        caption=record.caption,
        turns=record.turns,
        kind=record.kind,
        extra=extra,
        moments=tuple(_array(data, name, "moments") for data in record.moments),
    )


def _lies(hw: Sequence[int], seen: Sequence[int], turn: int) -> bool:
    """Whether something of (height, width) lies on the upright picture already; only a quarter turn can tell."""
    upside = (hw[0] - hw[1]) * (seen[0] - seen[1])
    return upright.swaps_sides(turn) and upside > 0


def _picture(data: bytes, record: Record, what: str) -> np.ndarray:
    try:
        return reading.load_rgb(io.BytesIO(data), record.upright, f"{record.name}: {what}", record.truncated)
    except DataError as error:
        raise BadRecord(f"unreadable {what}", str(error)) from error


def _same_shape(name: str, photo: np.ndarray, mask: np.ndarray) -> None:
    """A mask picture may have another size than its photo, but not another shape."""
    ratio = (photo.shape[1] / photo.shape[0]) / (mask.shape[1] / mask.shape[0])
    # Of a thin picture, one pixel of rounding is more than the tolerance.
    pixel = 1 / min(*photo.shape[:2], *mask.shape[:2])
    if abs(ratio - 1) > max(ASPECT_TOLERANCE, pixel):
        sizes = f"{photo.shape[1]}x{photo.shape[0]} and {mask.shape[1]}x{mask.shape[0]}"
        raise BadRecord(
            "mask shape",
            f"{name}: picture and mask picture differ in shape ({sizes}): the mask belongs to another picture, or one of"
            " them was cropped or turned; render the mask again or remove the pair",
        )


def _instances(record: Record) -> tuple[Masks, tuple[str, ...] | None]:
    """Masks [N, H, W] from run lengths or from a picture of segment ids."""
    if record.labels is not None:
        ids = segment_ids(record.labels, record.name)
        there = set(present(ids))
        listed = [(number, label) for number, label in record.segments if number in there]
        if record.void_ids is not None:
            _check_ids(record, there)
        return Masks.of_ids(ids, [number for number, _ in listed]), tuple(label for _, label in listed)
    if not record.masks:
        return Masks((0, 0), []), record.classes
    try:
        return Masks.of_runs(record.masks), record.classes
    except (DataError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise BadRecord("bad run lengths", f"{record.name}: {error}") from error


def _check_ids(record: Record, there: set[int]) -> None:
    listed = {number for number, _ in record.segments}
    if unknown := sorted(there - listed - set(record.void_ids or ()) - {0}):
        raise BadRecord(
            "unlisted segment",
            f"{record.name}: the label picture holds the ids {unknown[:5]}, which no segment lists; are picture and"
            " annotation of one release?",
        )
    if absent := sorted(listed - there):
        raise BadRecord(
            "absent segment",
            f"{record.name}: the segments {absent[:5]} do not occur in the label picture; are picture and annotation of"
            " one release?",
        )


def present(ids: np.ndarray) -> list[int]:
    """The ids that occur in int [H, W], none negative, sorted. Where ids are small, counting beats sorting the pixels."""
    if ids.size and ids.max() < 2**16:
        return np.flatnonzero(np.bincount(ids.reshape(-1))).tolist()
    return np.unique(ids).tolist()


def segment_ids(data: bytes, name: str) -> np.ndarray:
    """Segment ids int32 [H, W] of an encoded label picture: grey or palette values, or R + 256 G + 65536 B.

    Raises:
      BadRecord: not a readable picture.
    """
    try:
        values = reading.load_values(data, name)
    except DataError as error:
        raise BadRecord("unreadable mask", str(error)) from error
    if values.ndim == 2:
        if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == values.round()).all()):
            raise BadRecord(
                "unreadable mask", f"{name}: the label picture holds fractions, no ids; save it as integers"
            )
        if values.size and (values.min() < 0 or values.max() >= 2**31):
            raise BadRecord(
                "unreadable mask", f"{name}: the label picture holds ids below 0 or above 2**31; number anew"
            )
        return values.astype(np.int32)
    red, green, blue = (values[..., i].astype(np.int32) for i in range(3))
    return red + 256 * green + 65536 * blue


def _array(data: bytes, name: str, what: str) -> np.ndarray:
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError) as error:
        raise BadRecord(f"unreadable {what}", f"{name}: {what}: {error}") from error


class Source:
    """Random access to records by index; subclasses give `__len__` and `record`.

    `shards` is the same data for sequential readers (ingest, validate): independent pieces in a fixed order. A source can
    be pickled, and read from several threads at once.

    Attributes:
      left_out: what was found bad on opening and got no index, such as photos without a mask: `shards` ends with these.
      upright, truncated: what records say of their pictures, see `Record`.
    """

    left_out: Sequence[Bad] = ()
    upright: bool = True
    truncated: bool = True

    @property
    def passed_over(self) -> Counter:
        """What the data hold that is not understood and so not read: "files .txt" or "keys 'score'" -> how many."""
        return self.__dict__.setdefault("_passed_over", Counter())

    def __len__(self) -> int:
        raise NotImplementedError

    def record(self, i: int) -> Record:
        """Record i.

        Raises:
          BadRecord: it cannot be used.
          IndexError: no such record.
        """
        raise NotImplementedError

    def __getitem__(self, i: int) -> Example:
        if not 0 <= i < len(self):
            raise IndexError(f"{self!r}: index {i} is outside 0..{len(self) - 1}")
        record = self.read(i)
        try:
            return decode(record)
        except BadRecord as error:
            raise BadRecord(error.kind, f"{self!r}: {error}") from error

    def read(self, i: int) -> Record:
        """Record i as `record` gives it, checked, whatever goes wrong in reading it.

        Raises:
          BadRecord: it cannot be used.
        """
        record = guarded(f"{self!r}[{i}]", lambda: self.record(i))
        return settled(record, self.upright, self.truncated)

    def shards(self, size: int = 5000) -> Sequence["Shard"]:
        """The records in pieces of at most `size`, and at the end what was left out."""
        pieces: list[Shard] = []
        pieces += [IndexedShard(self, start, min(start + size, len(self))) for start in range(0, len(self), size)]
        return [*pieces, ListedShard("left out", tuple(self.left_out))] if self.left_out else pieces


class Shard:
    """A piece of a data set that can be read on its own. Picklable: worker processes get it.

    Attributes:
      name: fixed and unique within the data set; the output file of ingest is called after its number.
      count: how many records, bad ones included, it will yield; None where that is known only after reading.
    """

    name: str
    count: int | None = None

    @property
    def passed_over(self) -> Counter:
        """As of the source: what this piece holds that is not read; complete when it was read to its end."""
        return self.__dict__.setdefault("_passed_over", Counter())

    def __iter__(self) -> Iterator[Record | Bad]:
        raise NotImplementedError

    def guarded(self, name: str, make: Callable[[], Record]) -> Record | Bad:
        """What `make` gives, or what is wrong with it."""
        try:
            return guarded(name, make)
        except BadRecord as error:
            return Bad(printable(name), error.kind, str(error))


@dataclasses.dataclass(frozen=True)
class IndexedShard(Shard):
    """Records start..stop-1 of a random-access source."""

    source: Source
    start: int
    stop: int

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.start}-{self.stop}"

    @property
    def count(self) -> int:  # type: ignore[override]
        return self.stop - self.start

    def __iter__(self) -> Iterator[Record | Bad]:
        before = Counter(self.source.passed_over)
        for i in range(self.start, self.stop):
            yield self.guarded(f"{self.source!r}[{i}]", lambda i=i: self.source.read(i))
        self.passed_over.update(self.source.passed_over - before)


@dataclasses.dataclass(frozen=True)
class ListedShard(Shard):
    """Records that are at hand."""

    name: str
    items: tuple[Record | Bad, ...]

    @property
    def count(self) -> int:  # type: ignore[override]
        return len(self.items)

    def __iter__(self) -> Iterator[Record | Bad]:
        return iter(self.items)
