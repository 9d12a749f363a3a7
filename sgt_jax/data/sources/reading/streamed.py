"""Sources whose format has no random access (tars, parquet): `ingest` reads them in order, shard by shard."""

from collections.abc import Sequence
from typing import NoReturn

from sgt_jax.data.examples import Example
from sgt_jax.data.stored.record import Record, Shard, Source
from sgt_jax.errors import DataError


class StreamedSource(Source):
    """Subclasses give `shards`; training needs random access and says so."""

    def shards(self, size: int = 0) -> Sequence[Shard]:
        """The pieces that the format itself has (an archive, a row group); `size` is not asked."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({getattr(self, 'root', '')})"

    def _refuse(self) -> NoReturn:
        raise DataError(f"{self!r} can only be read in order: make it random access with `python -m sgt_jax ingest`")

    def __len__(self) -> int:
        self._refuse()

    def record(self, i: int) -> Record:
        self._refuse()

    def __getitem__(self, i: int) -> Example:
        self._refuse()
