"""The SAM-SGT tree: photos and coloured mask pictures, paired by relative path. No instance is known, only the picture.

    ROOT/file_names/sam_190k_new.txt    optional index: one photo path per line
    ROOT/sam_selection/**/NAME.jpg      photos
    ROOT/sam_mask/**/NAME.png           masks, same relative path, other suffix

The tree appears after unpacking the tars of the published data set. A mask is found by its path below the masks'
folder, never by replacing text in a whole path, so folders may have any name and suffixes may be upper-case.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from sgt_jax.data.sources.reading import files
from sgt_jax.data.sources.reading.files import PHOTO_SUFFIXES
from sgt_jax.data.stored.record import Bad, Record, Source
from sgt_jax.errors import DataError

MASK_SUFFIXES = (".png",)


class SamSgtFolder(Source):
    """Random access to photos with mask pictures; records are sorted by path, or as the index has them.

    Args:
      root: folder of the tree.
      index: a text file below `root` (or an absolute path) with one photo per line: relative to `root`, relative to the
        photos' folder, or any path that contains the photos' folder. None takes every photo there is.
      photos, masks: names of the two folders below `root`.
      on_bad: what to do at the start with photos that have no mask, and the like: "error", or "skip", which logs them and
        lists them in `left_out`. A record that turns out bad when read is a DataError either way; the pipeline may count
        and skip it.
      limit: use only the first so many records.
    """

    def __init__(
        self,
        root: str | Path,
        index: str | Path | None = None,
        photos: str = "sam_selection",
        masks: str = "sam_mask",
        on_bad: str = "error",
        limit: int | None = None,
    ):
        files.check_on_bad(on_bad)
        advice = "unpack the data set's tars there, or set photos= and masks="
        self.root, self.photos, self.masks = files.local_folder(root, advice), photos, masks
        for folder in (photos, masks):
            files.local_folder(self.root / folder, advice)
        mask_of = {
            files.stem(name): name for name in files.files_below(self.root / masks, MASK_SUFFIXES, self.passed_over)
        }
        left_out: list[Bad] = []
        if index is None:
            names = files.files_below(self.root / photos, PHOTO_SUFFIXES, self.passed_over)
            for stem in sorted(mask_of.keys() - {files.stem(name) for name in names}):
                problem = f"{self.root / masks / mask_of[stem]}: a mask without a photo in {self.root / photos}"
                left_out.append(Bad(f"{masks}/{mask_of[stem]}", "missing photo", problem))
        else:
            names = self._listed(self.root / index, mask_of, left_out)
        self._pairs: list[tuple[str, str]] = []
        for name in names:
            stem = files.stem(name)
            if stem in mask_of:
                self._pairs.append((name, mask_of[stem]))
                continue
            advice = f"expected {self.root / masks / stem}.png; on_bad='skip' leaves such photos out"
            problem = f"{self.root / photos / name}: has no mask, {advice}"
            left_out.append(Bad(f"{photos}/{name}", "missing mask", problem))
        self.left_out = files.accept_bad(left_out, on_bad, f"{self.root}: of {len(names)} photos")
        self._pairs = self._pairs[:limit]
        if not self._pairs:
            raise DataError(f"{self.root}: holds no photo with a mask; check photos={photos!r} and masks={masks!r}")

    def __len__(self) -> int:
        return len(self._pairs)

    def __repr__(self) -> str:
        return f"SamSgtFolder({self.root}, {len(self)} records, {self.skipped} skipped)"

    @property
    def skipped(self) -> int:
        """How many files have no partner, or lines of the index no photo."""
        return len(self.left_out)

    def record(self, i: int) -> Record:
        """Photo and mask picture as stored, each at its own size."""
        photo, mask = self._pairs[i]
        return Record(
            name=f"{self.photos}/{photo}",
            images=(files.read_bytes(self.root / self.photos / photo),),
            mask_picture=files.read_bytes(self.root / self.masks / mask, "mask"),
        )

    def _listed(self, path: Path, mask_of: Mapping[str, str], left_out: list[Bad]) -> list[str]:
        """The photos of an index file, relative to the photos' folder; lines that name none go to `left_out`."""
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: the index cannot be read ({error}); index=None takes all photos") from error
        names = [self._below_photos(line.strip(), mask_of) for line in lines if line.strip()]
        found: dict[str, None] = {}
        for name in names:
            if name in found:
                left_out.append(Bad(name, "duplicate line", f"{path}: lists {name} twice; the first one counts"))
            elif files.has_suffix(name, PHOTO_SUFFIXES):
                found[name] = None
            elif not PurePosixPath(name).name.startswith("._"):
                reason = f"{path}: the line {name!r} names no picture ({', '.join(PHOTO_SUFFIXES)})"
                left_out.append(Bad(name, "bad index line", reason))
        return list(found)

    def _below_photos(self, line: str, mask_of: Mapping[str, str]) -> str:
        """What follows the photos' folder in a listed path, which may come from another machine.

        A folder of that name may occur again above or below the right one: the reading that has a mask wins.
        """
        parts = PurePosixPath(line.replace("\\", "/")).parts
        places = [i + 1 for i, part in enumerate(parts[:-1]) if part == self.photos]
        readings = ["/".join(parts[place:]) for place in [*places, 0]]
        return next((name for name in readings if files.stem(name) in mask_of), readings[0])
