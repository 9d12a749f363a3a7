"""Oxford-IIIT Pet: one animal a photo, with a trimap that says pet (1), background (2) or border (3).

    ROOT/images/Abyssinian_1.jpg
    ROOT/annotations/trimaps/Abyssinian_1.png
    ROOT/annotations/{list,trainval,test}.txt      lines "Abyssinian_1 CLASS SPECIES BREED", "#" begins a comment

About a dozen of the published files have other formats under the name .jpg; they are opened by what they contain.
"""

import codecs
import dataclasses
import unicodedata
from pathlib import Path

from sgt_jax.data.sources.reading.labels import segments
from sgt_jax.data.sources.reading.paired import PairedFolder, Partner
from sgt_jax.data.stored.record import BadRecord, Record
from sgt_jax.errors import DataError

SPLITS = ("list", "trainval", "test")  # "list" is everything
SPECIES = {"1": "cat", "2": "dog"}
PET, BACKGROUND, BORDER = 1, 2, 3


class Pets(PairedFolder):
    """Random access to the photos of a list file, in its order.

    Args:
      root: folder with images and annotations.
      split: "trainval", "test", or "list" for all that are in list.txt.
      names: what the pet's mask is called: "breed" (37, "american bulldog") or "species" ("cat", "dog").
      border: the undecided border is a mask of its own; else it belongs to nothing, as the background does.
      limit: use only the first so many records.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "trainval",
        names: str = "breed",
        border: bool = False,
        limit: int | None = None,
    ):
        if split not in SPLITS or names not in ("breed", "species"):
            raise DataError(f"pets: split={split!r} must be one of {SPLITS}, names={names!r} 'breed' or 'species'")
        advice = "unpack images.tar.gz and annotations.tar.gz there"
        super().__init__(root, "images", {"mask": Partner("annotations/trimaps")}, advice=advice)
        self.names, self._border = names, border
        self._list = self.root / "annotations" / f"{split}.txt"
        try:
            lines = self._list.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
        except OSError as error:
            raise DataError(f"{self._list}: the list cannot be read ({error}); {advice}") from error
        self._lines = [(i, line) for i, line in enumerate(lines, 1) if line.strip() and not line.startswith(b"#")]
        self._lines = self._lines[:limit]
        self.take([unicodedata.normalize("NFC", line.split()[0].decode("utf-8", "replace")) for _, line in self._lines])

    def record(self, i: int) -> Record:
        number, line = self._lines[i]
        fields = line.decode("utf-8", "replace").split()
        if len(fields) != 4 or fields[2] not in SPECIES:
            where = f"{self._list}, line {number}: {line[:80]!r}"
            raise BadRecord("bad line", f"{where} is not 'NAME CLASS SPECIES BREED' with species 1 or 2")
        record = super().record(i)
        species, breed = SPECIES[fields[2]], fields[0].rpartition("_")[0].replace("_", " ").lower()
        called = {PET: breed if self.names == "breed" else species, BORDER: "border" if self._border else None}
        found = segments(record.labels, record.name, (called | {BACKGROUND: None}).__getitem__)
        return dataclasses.replace(record, segments=found, extra={"species": species, "breed": breed})

    def make(self, name: str, found: dict[str, bytes]) -> Record:
        return Record(name, (found["picture"],), labels=found["mask"])
