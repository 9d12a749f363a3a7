"""A piece of a source: what training leaves out is what an evaluator may be asked about."""

from sgt_jax.data.stored.record import Record, Source
from sgt_jax.errors import DataError


class Cut(Source):
    """Records `skip` to `limit` - 1 of a source of files, in its order.

    Args:
      source: the whole.
      skip: so many records at the beginning are left out.
      limit: so many are counted, those that are left out among them; None takes all.

    Raises:
      DataError: nothing is left.
    """

    def __init__(self, source: Source, skip: int, limit: int | None) -> None:
        whole = len(source)
        self._source, self._skip, self._stop = source, skip, whole if limit is None else min(limit, whole)
        if not 0 <= skip < self._stop:
            raise DataError(f"{source!r}: skip={skip} and limit={limit} leave none of its {whole} records")
        self.left_out = source.left_out

    def __len__(self) -> int:
        return self._stop - self._skip

    def __repr__(self) -> str:
        return f"{self._source!r}[{self._skip}:{self._stop}]"

    def record(self, i: int) -> Record:
        return self._source.record(self._skip + i)

    @property
    def passed_over(self):
        return self._source.passed_over
