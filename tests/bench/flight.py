"""Columns over Arrow Flight, as something to measure our stream against."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np
import pyarrow as pa
import pyarrow.flight as pf
from numpy.typing import NDArray

Columns = dict[str, NDArray[np.unsignedinteger]]


class _Server(pf.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """Sends one table, in as many rows to a message as the ticket says."""

    def __init__(self, table: pa.Table) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self._table = table

    def do_get(self, context: pf.ServerCallContext, ticket: pf.Ticket) -> pf.RecordBatchStream:
        batches = self._table.to_batches(max_chunksize=int(ticket.ticket))
        return pf.RecordBatchStream(pa.RecordBatchReader.from_batches(self._table.schema, batches))


def _serve(columns: Columns, parent: Connection) -> None:
    with _Server(pa.table(columns)) as server:
        parent.send(server.port)
        parent.recv()


@contextmanager
def flight_of(columns: Columns) -> Iterator[Callable[[int], int]]:
    """Serve columns in a process of its own; yield what reads them all, so many at a time."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(columns, theirs))
    process.start()
    with pf.connect(f"grpc://127.0.0.1:{ours.recv()}") as client:
        yield lambda rows: _read(client, rows)
    ours.send("end")
    process.join()


def _read(client: pf.FlightClient, rows: int) -> int:
    """Read all columns into numpy, as `FaultEvents.from_message` does."""
    count = 0
    for chunk in client.do_get(pf.Ticket(str(rows).encode())):
        columns = [column.to_numpy() for column in chunk.data.columns]
        count += len(columns[0])
    return count
