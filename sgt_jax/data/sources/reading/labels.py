"""Reads pictures whose pixel values are class or instance ids into the segments of a record."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from sgt_jax.data.sources.reading.files import text_of
from sgt_jax.data.stored.record import BadRecord, present, segment_ids
from sgt_jax.errors import DataError

# Segment id -> class name, or None for void. A KeyError says that the data set has no such id.
ClassOf = Callable[[int], str | None]
VOID_8_BIT = 255
# So many ids of fewer pixels than that share of the picture, and half of all, are no objects.
DUST_IDS, DUST_SHARE = 6, 0.005
JPEG = b"\xff\xd8\xff"


def segments(
    labels: bytes, name: str, class_of: ClassOf, void_ids: Collection[int] | None = ()
) -> tuple[tuple[int, str], ...]:
    """(id, class name) of every segment in an encoded label picture, in the order of the ids; void left out.

    Args:
      void_ids: ids that are void whatever `class_of` says; None is the usual: 255 in a picture of 8 bits, which is the
        border of Pascal VOC and what mmsegmentation ignores.

    Raises:
      BadRecord: not a readable picture, or it holds ids that the data set does not have, or that JPEG made.
    """
    ids = segment_ids(labels, name)
    there = present(ids)
    if void_ids is None:
        void_ids = (VOID_8_BIT,) if there and there[-1] == VOID_8_BIT else ()
    found, unknown = [], []
    for number in there:
        if number in void_ids:
            continue
        try:
            label = class_of(number)
        except KeyError:
            unknown.append(number)
            continue
        if label is not None:
            found.append((number, label))
    if unknown:
        listed = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        advice = "is this the right kind of label picture, and not a coloured or JPEG copy? void_ids= names void ones"
        raise BadRecord("unknown label", f"{name}: the label picture holds the unknown ids {listed}; {advice}")
    lossy = labels.startswith(JPEG)
    dust = _dust(ids, there, lossy)
    if dust >= (2 if lossy else DUST_IDS) and (4 if lossy else 2) * dust >= len(there):
        advice = "they come of JPEG or of smooth resizing; save ids as PNG and resize by nearest pixels"
        raise BadRecord(
            "smeared ids", f"{name}: {dust} of the {len(there)} ids of the label picture are dust; {advice}"
        )
    return tuple(found)


def _dust(ids: np.ndarray, there: Sequence[int], lossy: bool) -> int:
    """How many ids have few pixels, and hardly four of them in a square: as blurred borders have.

    In a `lossy` file few pixels are enough.
    """
    if len(there) < DUST_IDS or min(ids.shape) < 2:
        return 0
    place = np.searchsorted(there, ids)
    area = np.bincount(place.reshape(-1), minlength=len(there))
    across = ids[:, 1:] == ids[:, :-1]
    square = across[1:] & across[:-1] & (ids[1:, 1:] == ids[:-1, 1:])
    squares = np.bincount(place[1:, 1:][square], minlength=len(there))
    return int(((area < ids.size * DUST_SHARE) & (lossy | (8 * squares < area))).sum())


def from_names(names: Sequence[str], void: int | None = 0, first: int = 1) -> Mapping[int, str | None]:
    """{id: name} for classes numbered from `first`, with one id for void."""
    return {void: None} | dict(enumerate(names, start=first))


def read_names(path: str | Path) -> list[str]:
    """Class names of a tab-separated table with a header, such as ADE20K's objectInfo150.txt.

    The first column numbers the classes from 1, the first column with "name" in its title names them; of several
    synonyms ("building, edifice") the first is taken.

    Raises:
      DataError: no such file, or another form; the message names file and line.
    """
    try:
        lines = text_of(Path(path).read_bytes()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the class names cannot be read ({error})") from error
    titles = lines[0].lower().split("\t") if lines else []
    column = next((i for i, title in enumerate(titles) if "name" in title), None)
    if column is None:
        raise DataError(f"{path}: the first line must be a header with tabs and a column 'Name'")
    names = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if not line.strip():
            continue
        if len(cells) <= column or cells[0].strip() != str(len(names) + 1):
            raise DataError(f"{path}, line {number}: expected class {len(names) + 1} and its name, with tabs")
        names.append(cells[column].split(",")[0].strip())
    return names
