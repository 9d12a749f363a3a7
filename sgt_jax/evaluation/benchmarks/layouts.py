"""The layouts that benchmarks come in: the common table (TSV), the hub's parquet files, and pictures beside a list."""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import files
from sgt_jax.evaluation.benchmarks.items import Item, Picture, without_repeats

LONGEST_REFERENCE = 64  # characters: a shorter value of the column `image` is the index of another row


def common_table(path: Path, integer_index: bool = True) -> list[Item]:
    """The items of a table in the toolkit's format.

    The column `image` holds base64, the index of another row, or a Python list of these; without it `image_path` names
    files below the table's folder or its `images`.

    Args:
      integer_index: an index that is no whole number makes an item bad.

    Raises:
      DataError: no table, or no column `index` or `question`.
    """
    rows = files.read_table(path)
    for column in ("index", "question"):
        if rows and column not in rows[0]:
            raise DataError(f"{path}: has no column '{column}'; take the toolkit's table of this benchmark")
    images = {row["index"]: row.get("image", "") for row in rows}
    out = []
    for row in rows:
        index, kept = row["index"].strip(), {k: v for k, v in row.items() if k not in ("image", files.FAULT)}
        try:
            if files.FAULT in row:
                raise DataError(row[files.FAULT])
            if not row["question"].strip():
                raise DataError("its question is empty")
            if integer_index and index and not index.isdigit():
                raise DataError(f"its index {index[:40]!r} is no whole number")
            pictures = tuple(_pictures_of(row, images, path))
            out.append(Item(index, kept, pictures, table=path.stem))
        except DataError as error:
            out.append(Item(index, kept, (), str(error), path.stem))
    return without_repeats(out)


def _pictures_of(row: Mapping[str, str], images: Mapping[str, str], path: Path) -> Iterator[Picture]:
    value, name = row.get("image", ""), f"{path.name}, index {row['index']}"
    if not value:
        yield from paths_of(row.get("image_path", ""), path.parent)
        return
    for number, text in enumerate(_listed(value)):
        seen = set()
        while len(text) <= LONGEST_REFERENCE:
            if text in seen or text not in images:
                raise DataError(f"{name}: its picture is that of row {text[:40]!r}, which has none")
            seen.add(text)
            text = images[text]
        yield Picture(f"{name}, picture {number}", text=text)


def _listed(value: str) -> list[str]:
    """A column that holds one value, or a Python list as text."""
    if not value.startswith("["):
        return [value]
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise DataError("the column image is neither base64 nor a list") from None
    return [str(one) for one in found]


def paths_of(value: str, folder: Path) -> Iterator[Picture]:
    """Pictures by comma-separated names, or a Python list of names, below a folder or its `images`."""
    names = _listed(value) if value.startswith("[") else [name.strip() for name in value.split(",")]
    for name in filter(None, names):
        yield Picture(name, path=find(name, folder))


def find(name: str, folder: Path, *below: str) -> Path:
    """A file by its relative name below a folder or some of its subfolders; the first place if it is in none."""
    root = folder.resolve()
    places = [folder / name, *(folder / part / name for part in ("images", *below))]
    places += [folder / part / Path(name).name for part in below]
    for place in places:
        # A name such as ../../x leads out of the folder: never follow it.
        if root in place.resolve().parents and place.is_file():
            return place
    if not any(root in place.resolve().parents for place in places):
        raise DataError(f"picture {name[:60]!r} lies outside {folder}; correct the table")
    return places[0]


def parquet_rows(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The rows of parquet files as plain values, file by file.

    Raises:
      DataError: a file is no parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in paths:
        try:
            file = pq.ParquetFile(path)
            for batch in file.iter_batches(batch_size=64):
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: is no parquet file ({str(error)[:80]}); download it again") from None


def parquet_pictures(value: Any, name: str, folder: Path) -> tuple[Picture, ...]:
    """The pictures of one cell: a struct of bytes and path, plain bytes, or a list of them."""
    cells = value if isinstance(value, list) else [value]
    out = []
    for number, cell in enumerate(cell for cell in cells if cell is not None):
        data = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if isinstance(data, bytes):
            out.append(Picture(f"{name}, picture {number}", data=data))
        elif isinstance(cell, Mapping) and cell.get("path"):
            out.append(Picture(name, path=find(cell["path"], folder)))
    return tuple(out)


def text_of(value: Any) -> str:
    """A cell of any type as the text that the common table would hold."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, list | dict):
        return str(value)
    return str(value) if isinstance(value, list) else json.dumps(value, ensure_ascii=False)


def parquet_items(
    paths: Sequence[Path], index: str = "", image: str = "image", rename: Mapping[str, str] | None = None
) -> list[Item]:
    """Items of the hub's parquet files.

    Args:
      index: the column that names an item; the running number by default.
      image: the column of the picture.
      rename: column -> its name in the common table.
    """
    out = []
    for number, row in enumerate(parquet_rows(paths)):
        name = text_of(row.get(index)) if index else str(number)
        kept = {(rename or {}).get(k, k): text_of(v) for k, v in row.items() if k != image and not isinstance(v, bytes)}
        pictures = parquet_pictures(row.get(image), f"item {name}", paths[0].parent)
        out.append(Item(name, {**kept, "index": name}, pictures))
    return without_repeats(out)


def first_files(folder: Path, *patterns: str) -> list[Path]:
    """The files of the first pattern that matches any, in order."""
    for pattern in patterns:
        if found := sorted(folder.glob(pattern)):
            return found
    return []


def options_in_text(question: str) -> dict[str, str]:
    """ "... Options: A: one, B: two" -> {"A": "one", "B": "two"}; nothing if it has no such list."""
    _, marker, tail = question.partition("Options:")
    pieces = re.findall(
        r"(?:^|[\s,;])\(?([A-H])[:.)]\s*(.*?)(?=[\s,;]+\(?[A-H][:.)]\s|$)", tail if marker else question, re.DOTALL
    )
    letters = [letter for letter, _ in pieces]
    if letters != [chr(65 + i) for i in range(len(letters))]:
        return {}
    return {letter: text.strip(" ,;\n") for letter, text in pieces}
