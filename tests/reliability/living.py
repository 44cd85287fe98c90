"""A server that is started again whenever it has ended, at the same address."""

import socket
import subprocess
import sys
from pathlib import Path

from tests.reliability.server import Settings


class Living:
    """One data directory, one port, and one server process after another."""

    def __init__(
        self, data_dir: Path, settings: Settings | None = None, within: tuple[str, ...] = ()
    ) -> None:
        self.data_dir = data_dir
        self.settings = settings or Settings()
        self._within = within  # the command that runs the command of the server
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self._process, "it was started"
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it serves."""
        command = [*self._within, sys.executable, "-m", "tests.reliability.server"]
        arguments = [str(self.data_dir), str(self._port), self.settings.as_text()]
        self._process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("127.0.0.1:")
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process:
            self._process.kill()
            self._reap()

    def terminate(self) -> None:
        """End it with SIGTERM, as a machine does that shuts down."""
        assert self._process, "it was started"
        self._process.terminate()
        assert self._reap() == 0, "it ends by itself"

    def _reap(self) -> int:
        assert self._process, "it was started"
        assert self._process.stdout, "it has a pipe"
        code = self._process.wait(60)
        self._process.stdout.close()
        self._process = None
        return code
