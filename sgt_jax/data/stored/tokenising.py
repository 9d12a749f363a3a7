"""Encodes the targets of a part of the mixture once and writes them as records, a part at a time."""

import concurrent.futures
import dataclasses
import io
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from sgt_jax.data.examples import Example, Sample
from sgt_jax.data.mixture import Mixture
from sgt_jax.data.pictures import resizing
from sgt_jax.data.stored import tokenised
from sgt_jax.data.stored.record import Bad, Record, Source
from sgt_jax.errors import DataError

PREVIEW = 128  # pixels of the longer side


MEASURED = 48  # records that are looked at before the sizes are told


PAINTING = ("proxy", "text_to_image")


class Ready(NamedTuple):
    """One example before encoding.

    Attributes:
      record: all that is stored, but for the moments.
      pictures: uint8 [H, W, 3] each, at their final sizes.
    """

    record: Record
    pictures: tuple[np.ndarray, ...]


def tokenize(
    mixture: Mixture, name: str, encode: Callable | None, moments: tuple[int, int], part_size: int, batch: int,
    threads: int, share: tuple[int, int] = (0, 1),
) -> None:  # fmt: skip
    """Makes the parts that are missing of one part of the mixture; without `encode` only says what that would write.

    Args:
      moments: (pixels per latent pixel on a side, numbers per latent pixel) of what `encode` gives.

    Raises:
      DataError: the folder was begun with other settings, no record can be used, or the disk is too small.
    """
    spec = mixture.config.mixture[name].to_dict()
    if spec["task"] not in PAINTING:
        raise DataError(f"mixture part '{name}': task '{spec['task']}' has no targets to tokenise; remove 'tokenised'")
    source, root = mixture.source(spec["source"]), Path(mixture.tokenised[name])
    make = mixture.task(spec, canvases=resizing.ResizeRule(**mixture.config.target_size))
    settings = mixture.tokenised_settings(name)
    count = -(-len(source) // part_size)
    settings |= {"records": len(source), "part_size": part_size, "parts": count, "seed": mixture.config.seed}

    def ready(i: int) -> Ready | Bad:
        try:
            example = source[i]
            sample = make(example, np.random.default_rng([settings["seed"], i]))
        except DataError as error:
            return Bad(f"{name}[{i}]", getattr(error, "kind", "unusable"), str(error))
        return prepared(sample, example)

    print(_forecast(name, ready, len(source), count, root, *moments))
    if encode is None:
        return
    tokenised.begin(root, settings)
    todo = [i for i in tokenised.missing_parts(root, settings) if i % share[1] == share[0]]
    bad: Counter = Counter()
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn(), "records",
               TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
    with concurrent.futures.ThreadPoolExecutor(threads) as pool, Progress(*columns) as progress:
        bar = progress.add_task(name, total=sum(min(part_size, len(source) - i * part_size) for i in todo))
        for number in todo:
            indices = range(number * part_size, min((number + 1) * part_size, len(source)))
            items = encoded(list(pool.map(ready, indices)), encode, batch)
            report = tokenised.write_part(root, number, items)
            bad.update({kind: many for kind, (many, _) in report["bad"].items()})
            for kind, (many, reason) in report["bad"].items():
                progress.console.print(f"part {number}: left out {many} ({kind}); the first: {reason}", markup=False)
            progress.advance(bar, len(indices))
    absent = len(tokenised.missing_parts(root, settings))
    done = sum(tokenised.part_report(root, i)["records"] for i in range(count)) if not absent else None
    left = f", {absent} parts still to be made" if absent else f", {done:,} records in all"
    print(f"{name}: made {len(todo)} parts, left out {sum(bad.values())} records{left}: {root}")


class Encoding(Source):
    """Examples of a part of the mixture as tokenised ones, each encoded when it is read: for the few that are held out.

    Args:
      source: what to read.
      mixture, name: the part whose task and sizes count.
      encode: uint8 [N, H, W, 3] -> moments.
    """

    def __init__(self, source: Sequence[Example], mixture: Mixture, name: str, encode: Callable) -> None:
        self._source, self._seed, self._encode = source, mixture.config.seed, encode
        spec = mixture.config.mixture[name].to_dict()
        self._make = mixture.task(spec, canvases=resizing.ResizeRule(**mixture.config.target_size))

    def __len__(self) -> int:
        return len(self._source)

    def __repr__(self) -> str:
        return f"Encoding({self._source!r})"

    def record(self, i: int) -> Record:
        example = self._source[i]
        sample = self._make(example, np.random.default_rng([self._seed, i]))
        (record,) = encoded([prepared(sample, example)], self._encode, batch=1)
        return record


def prepared(sample: Sample, example: Example) -> Ready:
    """A sample as it is stored: condition at its final size without loss, previews small, pictures to be encoded."""
    pictures = tuple(item.data for item in sample.plan if item.type == "vae_image")
    seen = tuple(_encoded(item.data, "PNG") for item in sample.plan if item.type == "vit_image")
    preview = Image.fromarray(pictures[-1])
    preview.thumbnail((PREVIEW, PREVIEW))
    texts = {"instruction": sample.request, "captions": example.extra.get("captions")}
    record = Record(
        sample.name,
        images=seen,
        caption=example.caption,
        extra={name: value for name, value in texts.items() if value},
        preview=_encoded(np.asarray(preview), "PNG"),
    )
    return Ready(record, pictures)


def encoded(items: list[Ready | Bad], encode: Callable, batch: int) -> Iterator[Record | Bad]:
    """Encodes pictures of equal size together, `batch` at a time, and gives the records back in their order."""
    places: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for i, item in enumerate(items):
        for k, picture in enumerate(item.pictures if isinstance(item, Ready) else ()):
            places.setdefault(picture.shape, []).append((i, k))
    found: dict[tuple[int, int], np.ndarray] = {}
    for group in places.values():
        for start in range(0, len(group), batch):
            part = group[start : start + batch]
            # Filled up with the last one: one program per size, whatever is left.
            stack = np.stack([items[i].pictures[k] for i, k in part + part[-1:] * (batch - len(part))])
            found.update(zip(part, encode(stack)))
    for i, item in enumerate(items):
        if isinstance(item, Bad):
            yield item
        else:
            moments = tuple(tokenised.npy(found[i, k]) for k in range(len(item.pictures)))
            yield dataclasses.replace(item.record, moments=moments)


def _forecast(
    name: str, ready: Callable[[int], Ready | Bad], n: int, parts: int, root: Path, stride: int, channels: int
) -> str:
    """What would be written, measured on some records spread over the source.

    Raises:
      DataError: none of them can be used, or the disk has no room.
    """
    looked = [ready(int(i)) for i in np.linspace(0, n - 1, min(n, MEASURED)).astype(int)]
    good = [item for item in looked if isinstance(item, Ready)]
    if not good:
        raise DataError(f"{name}: none of {len(looked)} records can be used; the first: {looked[0].reason}")
    latents = [sum(p.shape[0] * p.shape[1] // stride**2 * channels * 2 for p in item.pictures) for item in good]
    others = [sum(map(len, item.record.images)) + len(item.record.preview or b"") for item in good]
    each = np.mean(latents) + np.mean(others)
    sizes = Counter(f"{p.shape[1]}x{p.shape[0]}" for item in good for p in item.pictures)
    free = shutil.disk_usage(next(p for p in (root, *root.absolute().parents) if p.exists())).free
    told = tokenised.read_settings(root)
    left = len(tokenised.missing_parts(root, told)) / told["parts"] if told else 1.0
    total = each * n
    if total * left > free:
        raise DataError(f"{root}: {_size(total * left)} are needed, {_size(free)} are free")
    return (
        f"{name}: {n:,} records at {_size(each)} each ({_size(np.mean(latents))} of moments), {_size(total)} in {parts} "
        f"parts below {root}, of which {100 * (1 - left):.0f} % are there; sizes {_common(sizes)}"
    )


def _common(sizes: Mapping[str, int], most: int = 6) -> str:
    listed = Counter(sizes).most_common(most)
    more = f" and {len(sizes) - most} more" if len(sizes) > most else ""
    return ", ".join(f"{size} ({100 * n / sum(sizes.values()):.0f} %)" for size, n in listed) + more


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def _encoded(picture: np.ndarray, form: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, format=form)
    return out.getvalue()
