"""The stubs that are checked in are those that the .proto files give."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = Path("faultlane/v1")


def files(folder: Path) -> dict[str, bytes]:
    """Return what the files of a folder hold, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    into = tmp_path_factory.mktemp("stubs")
    subprocess.run([sys.executable, ROOT / "protos" / "generate", "--into", into], check=True)
    return files(into / PACKAGE)


def test_every_proto_has_its_stubs(generated: dict[str, bytes]) -> None:
    protos = {path.stem for path in (ROOT / "protos" / PACKAGE).glob("*.proto")}

    assert {f"{stem}_pb2.py" for stem in protos} <= generated.keys()


def test_generated_again_the_stubs_are_the_same_byte_for_byte(generated: dict[str, bytes]) -> None:
    checked_in = files(ROOT / "client" / PACKAGE)

    assert checked_in.keys() == generated.keys()
    assert [name for name in generated if checked_in[name] != generated[name]] == []
