"""Compiled code counts no references, can be cached, and is found again where it was left."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from faultlane_server.engine import jit, run, warm_up

PACKAGE = jit.PACKAGE
NAME = PACKAGE.name
ENTRY_POINTS = [run.step, run.close, run.start]
CALL = re.compile(r"\b(?:call|invoke) [^@\n]*@\"?(NRT_\w+)")

# What else compiled code may be made of: all of it is in the name of the cache's directory.
OTHERS = {"numba", "llvmlite", "numpy"}

START = f"""
import json, sys, tempfile, time
from pathlib import Path

take = tempfile.TemporaryFile

def refuse(*args, dir=None, **others):
    if dir is not None and Path(dir).is_relative_to(sys.argv[1]):
        raise PermissionError(dir)
    return take(*args, dir=dir, **others)

if sys.argv[2] == "read-only":
    tempfile.TemporaryFile = refuse

began = time.perf_counter()
from {NAME}.engine import is_cold, jit, run, warm_up
cold = is_cold()
warm_up()
stats = [f.stats for f in (run.step, run.close, run.start)]
print(json.dumps({{
    "cold": cold,
    "hits": sum(sum(s.cache_hits.values()) for s in stats),
    "misses": sum(sum(s.cache_misses.values()) for s in stats),
    "directory": str(jit.CACHE_DIRECTORY),
    "took_s": round(time.perf_counter() - began, 2),
}}))
"""


@pytest.fixture(scope="module", autouse=True)
def kernels():
    warm_up()


# Reference counts.


def counting_calls(dispatcher: Any) -> dict[str, list[str]]:
    """Return which functions of a library call the reference counter, and what of it.

    The counter itself, and the wrappers through which Python calls, are not looked at.
    """
    (result,) = dispatcher.overloads.values()
    found = {}
    for function in result.library._get_module_for_linking().functions:
        is_wrapper = function.name.startswith(("_ZN7cpython", "cfunc.", "NRT_"))
        if not function.is_declaration and not is_wrapper:
            found[function.name] = CALL.findall(str(function))
    return {name: calls for name, calls in found.items() if calls}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS, ids=lambda entry: entry.__name__)
def test_no_reference_is_counted(entry_point):
    assert counting_calls(entry_point) == {}


def test_counted_references_would_be_found():
    @numba.njit
    def pick(values, which):
        if which:
            return values
        return values[1:]

    pick(np.zeros(3), True)

    assert counting_calls(pick)


def test_the_whole_engine_is_looked_at():
    (result,) = run.step.overloads.values()
    text = str(result.library._get_module_for_linking())

    for function in ("7handler", "5rwsem", "9readahead", "5flags", "4fork", "6device"):
        assert function in text


# Recursion, which numba can compile but not load from its cache.


def calls_between(root: Path) -> dict[str, set[str]]:
    """Return which functions of the modules under `root` call which others, by full names."""
    calls: dict[str, set[str]] = {}
    for path in root.rglob("*.py"):
        module = ".".join(path.relative_to(root.parent.parent).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        known = {name: f"{origin}.{name}" for origin, name in _imported(tree)}
        known |= {f.name: f"{module}.{f.name}" for f in _functions(tree)}
        for function in _functions(tree):
            calls[f"{module}.{function.name}"] = set(_called(function, known))
    return calls


def _functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield node.module, alias.name


def _called(function: ast.FunctionDef, known: dict[str, str]) -> Iterator[str]:
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in known:
                yield known[name]
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=inner)) if name in known:
                yield f"{known[name]}.{inner}"


def test_no_function_of_the_engine_calls_itself_by_any_way_round():
    calls = calls_between(PACKAGE / "engine")

    assert f"{NAME}.engine.run._happen" in calls[f"{NAME}.engine.run.step"]
    assert f"{NAME}.engine.tally.count" in calls[f"{NAME}.engine.fault.file._miss"]
    TopologicalSorter(calls).prepare()


def test_a_way_round_would_be_found(tmp_path):
    room = tmp_path / "package" / "room"
    room.mkdir(parents=True)
    (room / "one.py").write_text("from package.room import two\ndef f():\n    two.g()\n")
    (room / "two.py").write_text("from package.room.one import f\ndef g():\n    return [f()]\n")

    with pytest.raises(CycleError):
        TopologicalSorter(calls_between(room)).prepare()


# What compiled code depends on.


def sources() -> set[Path]:
    return {path for pattern in jit.SOURCES for path in PACKAGE.glob(pattern)}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


def test_the_sources_import_nothing_that_the_cache_does_not_know():
    known = {module_of(path) for path in sources()} | {"faultlane_server.machines"}  # data
    for path in sorted(path for path in sources() if path.suffix == ".py"):
        for name in imports_of(path):
            top = name.split(".")[0]
            assert name in known or top in OTHERS or top in sys.stdlib_module_names, (path, name)


@pytest.mark.parametrize(
    ("edited", "is_another"),
    [
        ("codes.py", True),
        ("machines/profile.py", True),
        ("machines/neutral.py", False),
        ("engine/locks/rwsem.py", True),
        ("engine/tables/exp2.npy", True),
        ("scenario/limits.py", True),
        ("service/status.py", False),
    ],
)
def test_an_edit_below_the_engine_makes_another_cache(tmp_path, monkeypatch, edited, is_another):
    before = jit._depends_on()
    copy = tmp_path / NAME
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(jit, "PACKAGE", copy)
    assert jit._depends_on() == before

    with (copy / edited).open("ab") as file:
        file.write(b"\n")

    assert (jit._depends_on() != before) == is_another


# A second process.


def start(home: Path, how: str, scratch: Path) -> dict[str, Any]:
    """Start a process that warms up, and return what it says."""
    environment = {**os.environ, jit.CACHE_VARIABLE: str(home), "TMPDIR": str(scratch)}
    command = [sys.executable, "-c", START, str(home), how]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(answer.stdout)
    return told


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Make a copy of what is compiled, so that a test may do to it what it likes."""
    assert jit.CACHE_DIRECTORY is not None
    home = tmp_path / "home"
    shutil.copytree(jit.CACHE_DIRECTORY, home / jit.CACHE_DIRECTORY.name)
    return home


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_second_process_starts_warm(home, tmp_path):
    told = start(home, "writable", tmp_path)
    print(f"a warm start takes {told['took_s']} s")

    assert not told["cold"]
    assert (told["hits"], told["misses"]) == (len(ENTRY_POINTS), 0)
    assert Path(told["directory"]).parent == home


def test_a_cache_that_cannot_be_written_is_used_through_a_private_copy(home, tmp_path):
    before = files_of(home)
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    told = start(home, "read-only", scratch)

    assert not told["cold"]
    assert (told["hits"], told["misses"]) == (len(ENTRY_POINTS), 0)
    assert Path(told["directory"]).parent == scratch
    assert files_of(home) == before


def test_the_engine_can_be_imported_where_nothing_can_be_written() -> None:
    program = f"""
import tempfile

def refuse(*args, **others):
    raise PermissionError

tempfile.TemporaryFile = tempfile.mkdtemp = refuse
from {NAME}.engine import is_cold, jit
assert jit.CACHE_DIRECTORY is None and is_cold()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
