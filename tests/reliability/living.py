"""A server that is started again whenever it has ended, at the same address."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.reliability.server import Settings


class Living:
    """One data directory, one port, and one server process after another.

    `within` is a command that runs the command of the servers, somewhere else.
    """

    def __init__(
        self, data_dir: Path, settings: Settings | None = None, within: tuple[str, ...] = ()
    ) -> None:
        self.data_dir = data_dir
        self.settings = settings or Settings()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.pid = 0  # of the server; 0: none lives
        command = [*within, sys.executable, "-m", "tests.reliability.server"]
        self._starter = subprocess.Popen(
            [*command, str(data_dir), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self) -> None:
        """Start it, and wait until it serves."""
        assert self._starter.stdin, "it has a pipe"
        self._starter.stdin.write(self.settings.as_text() + "\n")
        self._starter.stdin.flush()
        told = {self._heard(), self._heard()}  # it may be ready before its process is told
        assert "ready" in told, f"it did not start: {told}"
        (self.pid,) = (int(each) for each in told - {"ready"})

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._end(signal.SIGKILL) == -signal.SIGKILL

    def terminate(self) -> None:
        """End it with SIGTERM, as a machine does that shuts down."""
        assert self._end(signal.SIGTERM) == 0

    def close(self) -> None:
        """End whatever there is."""
        if self.pid:
            self.kill()
        self._starter.communicate()

    def _end(self, number: signal.Signals) -> int:
        os.kill(self.pid, number)
        self.pid = 0
        return int(self._heard())

    def _heard(self) -> str:
        assert self._starter.stdout, "it has a pipe"
        return self._starter.stdout.readline().strip()
