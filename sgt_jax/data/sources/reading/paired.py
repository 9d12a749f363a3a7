"""Photos with partner files (label picture, json, depth map, caption) of the same stem, in other folders or in a tar.

The union of all kinds is listed, so a photo without partner and a partner without photo are bad records, counted and named,
instead of silent gaps.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from sgt_jax.data.sources.reading import files, tars
from sgt_jax.data.stored.record import Bad, Record, Shard, Source


class Partner(NamedTuple):
    """Where a kind of partner files lies.

    Attributes:
      folder: below the root; may be the photos' own.
      suffixes: lower-case, with the dot.
      ending: what stems end in beside the part that is shared with the photo.
    """

    folder: str
    suffixes: tuple[str, ...] = (".png",)
    ending: str = ""


class PairedFolder(Source):
    """Random access to photos with their partners, sorted by path; a subclass says what they mean (`make`).

    Args:
      root: the data set's folder.
      photos: folder of the photos below it.
      partners: what it is called in messages ("mask", "json") -> where.
      photo_ending: as `Partner.ending`.
      limit: use only the first so many records.
      advice: for the error when a folder is not there.
      known: endings of files that are read in another way, and so not passed over.

    Raises:
      DataError: a folder is not there, or nothing is in them.
    """

    def __init__(
        self,
        root: str | Path,
        photos: str,
        partners: Mapping[str, Partner],
        *,
        photo_ending: str = "",
        limit: int | None = None,
        advice: str = "check the path",
        known: tuple[str, ...] = (),
    ):
        self.root = files.local_folder(root, advice)
        all_kinds = {"picture": Partner(photos, files.PHOTO_SUFFIXES, photo_ending), **partners}
        self._kinds = {}
        every = tuple(suffix for kind in all_kinds.values() for suffix in kind.suffixes) + known
        counted: dict[Path, Counter] = {}  # what a folder holds beside all kinds
        for what, (folder, suffixes, ending) in all_kinds.items():
            path = files.local_folder(self.root / folder, advice)
            expected = str(path / "{}") + ending + suffixes[0]
            counted[path] = Counter()
            names = files.files_below(path, suffixes, counted[path], every)
            self._kinds[what] = path, files.by_stem(names, ending), expected
        for path, others in counted.items():
            if not any(path != above and path.is_relative_to(above) for above in counted):
                self.passed_over.update(others)
        files.report(self.passed_over, self.root)
        self.take(sorted(set().union(*(named for _, named, _ in self._kinds.values()))), limit)

    def take(self, stems: Sequence[str], limit: int | None = None) -> None:
        """Chooses the records and their order.

        Raises:
          DataError: there are none.
        """
        self._stems = list(stems)[:limit]
        if not self._stems:
            raise files.empty(self._kinds["picture"][0])

    def __len__(self) -> int:
        return len(self._stems)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root}, {len(self)} records)"

    def record(self, i: int) -> Record:
        key, found = self._stems[i], {}
        for what, (folder, named, expected) in self._kinds.items():
            found[what] = folder / files.the_one(named, key, what, str(self.root), expected.format(key))
        name = found["picture"].relative_to(self.root).as_posix()
        return self.make(name, {what: files.read_bytes(path, what) for what, path in found.items()})

    def make(self, name: str, found: dict[str, bytes]) -> Record:
        """The record of a photo; `name` is its path below the root, `found` the content of "picture" and partners."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class PairedTar(Shard):
    """The photos of one tar with their partners beside them, in the order of their names.

    Attributes:
      name: of the shard.
      root, tar: the archive is ROOT/TAR.
      partners: what it is called in messages -> suffixes.
      make: as `PairedFolder.make`; can be pickled.
    """

    name: str
    root: Path
    tar: str
    partners: Mapping[str, tuple[str, ...]]
    make: Callable[[str, dict[str, bytes]], Record]

    def __iter__(self) -> Iterator[Record | Bad]:
        archive = tars.scan(self.root / self.tar)
        yield from archive.bad
        named = {
            what: files.by_stem(name for name in archive.members if files.has_suffix(name, suffixes))
            for what, suffixes in {"picture": files.PHOTO_SUFFIXES, **self.partners}.items()
        }
        suffixes = (*files.PHOTO_SUFFIXES, *(suffix for partner in self.partners.values() for suffix in partner))
        others = [name for name in archive.members if not files.has_suffix(name, suffixes)]
        self.passed_over.update(f"files {PurePosixPath(name).suffix.lower() or name}" for name in others)
        with open(archive.path, "rb") as file:
            for key in sorted(set().union(*named.values())):
                yield self.guarded(f"{self.tar}/{key}", lambda key=key: self._record(archive, file, named, key))

    def _record(self, archive: tars.Archive, file: BinaryIO, named: Mapping[str, Any], key: str) -> Record:
        names = {what: files.the_one(known, key, what, self.tar) for what, known in named.items()}
        found = {what: tars.read(file, archive, name) for what, name in names.items()}
        return self.make(f"{self.tar}/{names['picture']}", found)
