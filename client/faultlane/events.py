"""Events as numpy: entry i of every column belongs to the i-th fault or operation.

The columns are those of `FaultBatch` and `OperationBatch` in the proto, which explains each of
them. What a run hands out batch by batch is joined by `concat`, or written batch by batch by
`write_parquet`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from numpy.typing import NDArray

from faultlane import v1 as pb
from faultlane.errors import MissingExtra

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
Rows = slice | NDArray[np.bool_] | NDArray[np.integer]

_DTYPE_OF: dict[int, str] = {
    FieldDescriptor.TYPE_FIXED32: "<u4",
    FieldDescriptor.TYPE_FIXED64: "<u8",
}


class _Events:
    """What faults and operations have in common: columns of equal length."""

    MESSAGE: ClassVar[type[Message]]

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Take the columns out of a batch."""
        return cls(
            **{
                field.name: np.asarray(getattr(message, field.name), dtype=_DTYPE_OF[field.type])
                for field in cls.MESSAGE.DESCRIPTOR.fields
            }
        )

    @classmethod
    def concat(cls, batches: Iterable[Self]) -> Self:
        """Join batches in their order; no batches make an empty one."""
        parts = [batch.columns() for batch in batches]
        if not parts:
            return cls.from_message(cls.MESSAGE())
        return cls(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})

    def columns(self) -> dict[str, NDArray[np.unsignedinteger]]:
        """All columns by name, in the order of the proto."""
        return {field.name: getattr(self, field.name) for field in self.MESSAGE.DESCRIPTOR.fields}

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a data frame. Needs the extra `pandas`."""
        return _module("pandas", "pandas").DataFrame(self.columns())

    def to_polars(self) -> "polars.DataFrame":
        """Return a data frame. Needs the extra `polars`."""
        return _module("polars", "polars").DataFrame(self.columns())

    def to_arrow(self) -> "pyarrow.Table":
        """Return a table. Needs the extra `arrow`."""
        return _module("pyarrow", "arrow").table(self.columns())

    def to_parquet(self, path: str | PathLike[str]) -> None:
        """Write a Parquet file. Needs the extra `arrow`."""
        write_parquet((self,), path)

    def __len__(self) -> int:
        return len(next(iter(self.columns().values())))

    def __getitem__(self, rows: Rows) -> Self:
        """Some of the rows: a slice, a mask or row numbers, as numpy takes them."""
        return type(self)(**{name: column[rows] for name, column in self.columns().items()})


@dataclass(frozen=True, eq=False)
class FaultEvents(_Events):
    """Some faults.

    Examples
    --------
    >>> with client.run(scenario) as run:
    ...     faults = FaultEvents.concat(run.events())
    >>> slowest = faults[faults.duration_ns.argsort()[-3:]]
    >>> len(slowest), slowest.duration_ns.dtype
    (3, dtype('uint64'))
    >>> list(faults[:10].to_pandas().columns[:3])
    ['thread', 'touch', 'process']
    """

    MESSAGE: ClassVar[type[Message]] = pb.FaultBatch

    thread: U32
    touch: U64
    process: U32
    cpu: U32
    vma: U32
    address: U64
    access: U32
    kind: U32
    start_ns: U64
    duration_ns: U64
    finished: U32
    lock: U32
    attempts: U32
    vma_retries: U32
    retry_reasons: U32
    result: U32
    major: U32
    reads: U32
    mmap_reads: U32
    cpu_ns: U64
    wait_mmap_lock_ns: U64
    wait_folio_ns: U64
    wait_device_ns: U64
    wait_run_queue_ns: U64
    wait_lock_word_ns: U64
    blocker: U32
    wait_invalidate_lock_ns: U64
    wait_writeback_ns: U64
    wait_throttle_ns: U64
    wait_reclaim_ns: U64
    wait_swap_cache_ns: U64
    wait_userfaultfd_ns: U64
    wait_falloc_ns: U64
    reads_lost: U32
    wait_vma_ns: U64
    wait_fault_mutex_ns: U64


@dataclass(frozen=True, eq=False)
class OperationEvents(_Events):
    """Some operations on the address space and on files.

    Examples
    --------
    >>> with client.run(scenario) as run:
    ...     operations = OperationEvents.concat(run.operations())
    >>> operations.to_polars().shape == (len(operations), len(operations.columns()))
    True
    """

    MESSAGE: ClassVar[type[Message]] = pb.OperationBatch

    thread: U32
    ordinal: U64
    process: U32
    cpu: U32
    kind: U32
    address: U64
    pages: U64
    start_ns: U64
    duration_ns: U64
    finished: U32
    wait_mmap_lock_ns: U64
    wait_vma_ns: U64
    wait_run_queue_ns: U64
    wait_lock_word_ns: U64
    cpu_ns: U64
    hold_ns: U64
    blocker: U32
    wait_invalidate_lock_ns: U64
    wait_folio_ns: U64
    wait_device_ns: U64
    wait_writeback_ns: U64
    wait_throttle_ns: U64
    wait_reclaim_ns: U64
    wait_swap_cache_ns: U64
    wait_userfaultfd_ns: U64


def write_parquet(batches: Iterable[_Events], path: str | PathLike[str]) -> None:
    """Write batches, at least one, into one Parquet file as they come, one after another.

    Needs the extra `arrow`.

    Examples
    --------
    >>> with client.run(scenario) as run:
    ...     write_parquet(run.events(), "faults.parquet")
    """
    parquet = _module("pyarrow.parquet", "arrow")
    tables = (batch.to_arrow() for batch in batches)
    first = next(tables)
    with parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _module(name: str, extra: str) -> Any:
    """Import what only this needs."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"{error}: pip install 'faultlane[{extra}]'") from error
