"""SAM-SGT in its published tars, read in place: photos in one family of shards, masks in the other, paired by stem.

    ROOT/sam_selection/sam_selection-00001.tar ...    photos: [sam_selection/].../NAME.jpg
    ROOT/sam_mask/sam_mask-00001.tar ...              masks:  [sam_mask/].../NAME.png

Neither equal order nor equal shard boundaries are assumed: all headers are read once on opening, then every record is two
reads at known places. Tars that hold photo and mask side by side are paired within the tar.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sgt_jax.data.sources.reading import files, tars
from sgt_jax.data.stored.record import Bad, Record, Source
from sgt_jax.errors import DataError

MASK_SUFFIXES = (".png",)
_SCANNERS = 16  # tars whose headers are read at once: on a network mount this is waiting, not work


class _Place(NamedTuple):
    """A file in a tar: number of the tar, path inside it."""

    tar: int
    name: str


class _Found(NamedTuple):
    """The pictures of one kind. `families` by path below the kind's folder, `mixed` by (tar, path without suffix)."""

    families: dict[str, list[_Place]]
    mixed: dict[tuple[int, str], _Place]


class SamSgtTars(Source):
    """Random access to photos with mask pictures in tars, in the order of tars and members.

    Args:
      root: folder above the tars.
      photos, masks: what tells the two families apart: a folder in the path of a member, else a folder above the tar or
        the beginning of its name. In tars of neither family, PNG files are masks and all other pictures photos.
      on_bad: as for the unpacked tree (photos without a mask, broken tars, links, members that point outside).
      limit: use only the first so many records.

    Raises:
      DataError: no tars, no pair in them, or (on_bad="error") the first problem found.
    """

    def __init__(
        self,
        root: str | Path,
        photos: str = "sam_selection",
        masks: str = "sam_mask",
        on_bad: str = "error",
        limit: int | None = None,
    ):
        files.check_on_bad(on_bad)
        self.root = files.local_folder(root, "it holds the downloaded tars")
        self._names = files.files_below(self.root, files.TAR_SUFFIXES, self.passed_over)
        if not self._names:
            raise DataError(f"{self.root}: holds no .tar file; type 'sam_sgt' reads the unpacked tree")
        with ThreadPoolExecutor(_SCANNERS) as pool:
            self._archives = list(pool.map(lambda name: tars.scan(self.root / name), self._names))
        left_out = [bad for archive in self._archives for bad in archive.bad]
        found = self._classified(photos, masks)
        self._pairs = self._paired(*found, left_out)
        self.left_out = files.accept_bad(
            left_out, on_bad, f"{self.root}: of {len(self._pairs) + len(left_out)} entries"
        )
        self._pairs = self._pairs[:limit]
        if not self._pairs:
            raise DataError(
                f"{self.root}: no photo with a mask in {len(self._names)} tars; check photos={photos!r}, masks={masks!r}"
            )

    def __len__(self) -> int:
        return len(self._pairs)

    def __repr__(self) -> str:
        return f"SamSgtTars({self.root}, {len(self)} records, {len(self.left_out)} left out)"

    def record(self, i: int) -> Record:
        """Photo and mask picture as stored, each at its own size."""
        photo, mask = self._pairs[i]
        return Record(name=self._name(photo), images=(self._read(photo),), mask_picture=self._read(mask))

    def _name(self, place: _Place) -> str:
        return f"{self._names[place.tar]}/{place.name}"

    def _read(self, place: _Place) -> bytes:
        # Opened for every read: threads share nothing, and a thousand tars need no thousand descriptors.
        archive = self._archives[place.tar]
        with open(archive.path, "rb", buffering=0) as file:
            return tars.read(file, archive, place.name)

    def _classified(self, photos: str, masks: str) -> tuple[_Found, _Found]:
        """All pictures, as photos and masks."""
        found = {photos: _Found({}, {}), masks: _Found({}, {})}
        other: Counter = Counter()
        for tar, archive in enumerate(self._archives):
            family = _family(PurePosixPath(self._names[tar]), (photos, masks))
            for name in archive.members:
                parts = PurePosixPath(name).parts
                kind = next((part for part in parts[:-1] if part in found), family)
                suffixes = MASK_SUFFIXES if kind == masks else files.PHOTO_SUFFIXES
                if not files.has_suffix(name, suffixes):
                    other[PurePosixPath(name).suffix] += 1
                elif kind:
                    below = parts[parts.index(kind) + 1 :] if kind in parts[:-1] else parts
                    found[kind].families.setdefault(files.stem("/".join(below)), []).append(_Place(tar, name))
                else:
                    kind = masks if files.has_suffix(name, MASK_SUFFIXES) else photos
                    found[kind].mixed[tar, files.stem(name)] = _Place(tar, name)
        self.passed_over.update({f"files {suffix}": n for suffix, n in other.items()})
        files.report(self.passed_over, self.root)
        return found[photos], found[masks]

    def _paired(self, photos: _Found, masks: _Found, left_out: list[Bad]) -> list[tuple[_Place, _Place]]:
        """Pairs in the order of the photos; what has no partner, or more than one, goes to `left_out`."""
        pairs = [(place, masks.mixed[key]) for key, place in photos.mixed.items() if key in masks.mixed]
        alone = [place for key, place in photos.mixed.items() if key not in masks.mixed]
        unused = [place for key, place in masks.mixed.items() if key not in photos.mixed]
        of_photo, of_mask = photos.families, masks.families
        if of_photo and of_mask and not of_photo.keys() & of_mask.keys():
            # The families were packed from different folders, so that not one path agrees: file names must do.
            of_photo, of_mask = (_by_file_name(places.values()) for places in (of_photo, of_mask))
        for key, places in of_photo.items():
            partners = of_mask.get(key, [])
            if len(places) > 1 or len(partners) > 1:
                names = ", ".join(map(self._name, [*places, *partners]))
                reason = f"{self.root}: '{key}' is there several times ({names}); keep one photo and one mask"
                left_out.append(Bad(self._name(places[0]), "ambiguous pair", reason))
            elif partners:
                pairs.append((places[0], partners[0]))
            else:
                alone += places
        unused += [place for key, places in of_mask.items() if key not in of_photo for place in places]
        for place in alone:
            reason = f"{self.root / self._name(place)}: has no mask in any tar; on_bad='skip' leaves such photos out"
            left_out.append(Bad(self._name(place), "missing mask", reason))
        for place in unused:
            reason = f"{self.root / self._name(place)}: a mask without a photo; is a tar of photos missing?"
            left_out.append(Bad(self._name(place), "missing photo", reason))
        return sorted(pairs)


def _family(tar: PurePosixPath, kinds: Sequence[str]) -> str:
    """Whose shard a tar is, by the folders above it or the beginning of its name; "" for neither."""
    return next((kind for kind in kinds if kind in tar.parts[:-1] or tar.name.startswith(kind)), "")


def _by_file_name(places: Iterable[Sequence[_Place]]) -> dict[str, list[_Place]]:
    found: dict[str, list[_Place]] = {}
    for place in (place for group in places for place in group):
        found.setdefault(files.stem(PurePosixPath(place.name).name), []).append(place)
    return found
