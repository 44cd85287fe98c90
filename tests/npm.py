"""Packages from npm for tests, installed once into the user's cache directory."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path


def installed(package_json: Path) -> Path:
    """Return the `node_modules` with what `package_json` asks for, installed on first use."""
    npm = shutil.which("npm")
    assert npm, "npm is not in the PATH: install Node.js, with which it comes"
    wanted = hashlib.sha256(package_json.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faultlane"
    home = cache / f"node-{wanted}"
    if not home.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        _install(npm, package_json, home)
    return home / "node_modules"


def _install(npm: str, package_json: Path, home: Path) -> None:
    """Make `home` at once and complete, also if somebody else makes it at the same time."""
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="node-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        shutil.copy(package_json, made / "package.json")
        options = ["--no-fund", "--no-audit", "--no-package-lock", "--silent"]
        subprocess.run([npm, "install", *options, "--prefix", made], check=True)
        try:
            made.rename(home)
        except OSError:
            assert home.is_dir(), f"cannot make {home}"
