"""Sources whose format has no random access (tars, parquet): `ingest` reads them in order, shard by shard."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NoReturn

from sgt_jax.data.examples import Example
from sgt_jax.data.stored.record import Bad, Record, Shard, Source, settled
from sgt_jax.errors import DataError


class StreamedSource(Source):
    """Subclasses give `pieces`; training needs random access and says so."""

    def shards(self, size: int = 5000) -> Sequence[Shard]:
        """The pieces that the format itself has (archives, row groups); tiny ones are joined to at most `size` records."""
        pieces = list(self.pieces(size))
        return pieces if self.upright and self.truncated else [Settled(p, self.upright, self.truncated) for p in pieces]

    def pieces(self, size: int) -> Sequence[Shard]:
        """The shards, with records as the format has them."""
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


@dataclasses.dataclass(frozen=True)
class Settled(Shard):
    """A shard whose records say of their pictures what the source's options say."""

    shard: Shard
    upright: bool
    truncated: bool

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.shard.name

    @property
    def count(self) -> int | None:  # type: ignore[override]
        return self.shard.count

    @property
    def passed_over(self) -> Counter:
        return self.shard.passed_over

    def __iter__(self) -> Iterator[Record | Bad]:
        for item in self.shard:
            yield item if isinstance(item, Bad) else settled(item, self.upright, self.truncated)
