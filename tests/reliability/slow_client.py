"""A client that reads one byte at a time, by hand: HTTP/2 without a library that would read more.

It allows the server to send as much as HTTP/2 can express, so that nothing but the server
itself bounds how far it goes ahead.
"""

import socket
import struct

from google.protobuf.message import Message

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW_MAX = 2**31 - 1
WINDOW_FIRST = 65535

DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4


class SlowClient:
    """Has called a streaming method, and reads the answer a byte at a time."""

    def __init__(self, address: str, method: str, request: Message) -> None:
        host, port = address.split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.sendall(PREFACE + _opening() + _call(method, address, request))

    def read_byte(self) -> None:
        """Read the next byte, which is there already or will be soon."""
        assert len(self._socket.recv(1)) == 1, "the server has hung up"

    def close(self) -> None:
        self._socket.close()


def _opening() -> bytes:
    """Allow as much as can be allowed, on the stream and on the connection."""
    settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, WINDOW_MAX)
    more = struct.pack(">I", WINDOW_MAX - WINDOW_FIRST)
    return _frame(SETTINGS, 0, 0, settings) + _frame(WINDOW_UPDATE, 0, 0, more)


def _call(method: str, address: str, request: Message) -> bytes:
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": address,
        "te": "trailers",
        "content-type": "application/grpc",
    }
    content = request.SerializeToString()
    message = b"\0" + struct.pack(">I", len(content)) + content
    return _frame(
        HEADERS, END_HEADERS, 1, b"".join(_literal(*header) for header in headers.items())
    ) + _frame(DATA, END_STREAM, 1, message)


def _literal(name: str, value: str) -> bytes:
    """Return a header that is in no table, as HPACK has it."""
    assert max(len(name), len(value)) < 127, "a length of one byte"
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream)
    return head + payload
