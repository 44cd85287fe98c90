"""A small disk of our own, which can be filled and made read-only: a tmpfs in a namespace.

No privileges are needed for it, where the kernel lets everybody have namespaces.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1 << 20


class SmallDisk:
    """Seen by those alone who are run `within` it."""

    def __init__(self, path: Path, holder: int) -> None:
        self.path = path
        namespaces = ["--target", str(holder), "--user", "--mount"]
        self.within = ("nsenter", "--preserve-credentials", *namespaces)

    def fill(self) -> None:
        """Leave no byte free."""
        filled = self._shell(f"head --bytes 100G /dev/zero > {self.path / 'ballast'}")
        assert "No space left" in filled.stderr, filled.stderr

    def free(self) -> None:
        self._shell(f"rm --force {self.path / 'ballast'}")

    def set_read_only(self, *, read_only: bool) -> None:
        how = "ro" if read_only else "rw"
        done = self._shell(f"mount -o remount,{how} {self.path}")
        assert done.returncode == 0, done.stderr

    def free_bytes(self) -> int:
        return int(self._shell(f"df --output=avail -B1 {self.path} | tail -1").stdout)

    def files(self) -> dict[str, str]:
        """Return a checksum of each file but the lock."""
        found = self._shell(f"cd {self.path} && find . -type f ! -name lock | xargs sha256sum")
        return {line.split()[1]: line.split()[0] for line in found.stdout.splitlines()}

    def _shell(self, command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self.within, "sh", "-c", command], capture_output=True, text=True, check=False
        )


@contextmanager
def small_disk(path: Path, mib: int) -> Iterator[SmallDisk]:
    """Mount a disk of so many MiB; skip the test where that is not allowed."""
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        pytest.skip("no util-linux, which has unshare and nsenter")
    path.mkdir()
    mount = f"mount -t tmpfs -o size={mib}m tmpfs {path} && echo mounted && exec cat"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as holder:  # type: ignore[call-overload]
        if holder.stdout.readline() != "mounted\n":
            pytest.skip(f"no namespaces here: {holder.stderr.read()}")
        try:
            yield SmallDisk(path, holder.pid)
        finally:
            holder.kill()
