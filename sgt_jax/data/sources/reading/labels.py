"""Reads pictures whose pixel values are class or instance ids into the segments of a record."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sgt_jax.data.stored.record import BadRecord, present, segment_ids
from sgt_jax.errors import DataError

# Segment id -> class name, or None for void. A KeyError says that the data set has no such id.
ClassOf = Callable[[int], str | None]


def segments(labels: bytes, name: str, class_of: ClassOf) -> tuple[tuple[int, str], ...]:
    """(id, class name) of every segment in an encoded label picture, in the order of the ids; void left out.

    Raises:
      BadRecord: not a readable picture, or it holds ids that the data set does not have.
    """
    found, unknown = [], []
    for number in present(segment_ids(labels, name)):
        try:
            label = class_of(number)
        except KeyError:
            unknown.append(number)
            continue
        if label is not None:
            found.append((number, label))
    if unknown:
        listed = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        advice = "is this the right kind of label picture, and not a coloured or JPEG copy?"
        raise BadRecord("unknown label", f"{name}: the label picture holds the unknown ids {listed}; {advice}")
    return tuple(found)


def from_names(names: Sequence[str], void: int = 0) -> Mapping[int, str | None]:
    """{id: name} for classes numbered from 1, with one id for void."""
    return {void: None} | dict(enumerate(names, start=1))


def read_names(path: str | Path) -> list[str]:
    """Class names of a tab-separated table with a header, such as ADE20K's objectInfo150.txt.

    The first column numbers the classes from 1, the first column with "name" in its title names them; of several
    synonyms ("building, edifice") the first is taken.

    Raises:
      DataError: no such file, or another form; the message names file and line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
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
