"""How the engine's functions are compiled, said once.

numba keeps compiled code on disk by source file, and does not notice when a
callee in another file changes: it would run the old one. So the directory is
named after everything that compiled code depends on. A directory that cannot be
written is copied to a private one: a read-only image still starts warm.
"""

import atexit
import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import llvmlite
import numba
import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba.core import cgutils, config
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.extending import intrinsic
from numba.np import arrayobj

PACKAGE = Path(__file__).resolve().parent.parent
CACHE_VARIABLE = "FAULTLANE_CACHE_DIR"
CACHE_LINE = 64
FETCHED_MAX = 16 * CACHE_LINE  # of a record: what most steps look at stands in front


# The engine and every room below it: a test holds that it imports no other. What the profiles of
# machines say is data.
SOURCES = (
    "engine/**/*.py",
    "engine/**/*.npy",
    "scenario/**/*.py",
    "machines/profile.py",
    "arch/**/*.py",
    "summary.py",
    "policy.py",
    "kernels.py",
    "codes.py",
    "columns.py",
)


def _depends_on() -> str:
    """Return a hash of all that the compiled code was made from."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in SOURCES for path in PACKAGE.glob(pattern)):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    cpu = config.CPU_NAME or llvm.get_host_cpu_name()
    features = config.CPU_FEATURES
    if features is None:
        features = llvm.get_host_cpu_features().flatten()
    for version in (numba.__version__, llvmlite.__version__, np.__version__, cpu, features):
        digest.update(str(version).encode() + b"\0")
    return digest.hexdigest()[:16]


def _home() -> Path:
    """Return where compiled code is kept: the variable, or the user's cache directory."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "faultlane"


def _is_writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


def _cache_directory() -> Path | None:
    """Return a directory that can be written and holds what was compiled before, if anything.

    None if nothing can be written anywhere: then every process compiles for itself.
    """
    directory = _home() / f"kernels-{_depends_on()}"
    if _is_writable(directory):
        return directory
    try:
        private = Path(tempfile.mkdtemp(prefix="faultlane-kernels-"))
    except OSError:
        return None
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    if directory.is_dir():
        shutil.copytree(directory, private, dirs_exist_ok=True)
        for copy in (private, *private.rglob("*")):
            copy.chmod(copy.stat().st_mode | stat.S_IWUSR)
    return private


CACHE_DIRECTORY = _cache_directory()


def is_cold() -> bool:
    """Whether nothing was compiled yet: the first run will take its time."""
    return CACHE_DIRECTORY is None or not any(CACHE_DIRECTORY.rglob("*.nbi"))


# Whose functions Python calls: what makes a record, and tests. All others need no way in,
# which saves a quarter of the time that compiling takes.
CALLED_FROM_PYTHON = (
    "draw",
    "queue",
    "run_heap",
    "tally",
    "locks.folio_lock",
    "locks.rwsem",
    "locks.vma_lock",
    "memory.generations",
    "memory.page_table",
    "memory.rmap",
)


def compiled(function):
    """Compile a function of the engine: no GIL, no memory of its own, whole numbers as they are.

    All memory is the world's, so no references are counted.

    It is optimised together with whoever calls it, and mostly with them alone.
    """
    room = function.__module__.removeprefix(f"{__package__}.")
    return _njit(function, 1, _Linked if room in CALLED_FROM_PYTHON else _Part)


def entry_point(function):
    """Compile a function that Python calls, optimised with everything that it calls."""
    return _njit(function, 3, _Whole)


def straight(entry):
    """Return a shorter way to an entry point, for calls whose arguments have one type only.

    numba looks at the types of the arguments each time, which for a record of a thousand fields
    takes as long as hundreds of events.
    """
    if config.DISABLE_JIT:
        return entry

    def call(*arguments):
        if not entry.overloads:
            return entry(*arguments)
        (known,) = entry.overloads.values()
        return known.entry_point(*arguments)

    return call


class _Part(JITCodeLibrary):  # type: ignore[misc]
    """Code that only other compiled code calls: it is optimised, and made machine code, with that.

    Otherwise each function would be linked with all that it calls, optimised and translated, and
    again as a part of each of its callers, and of theirs.
    """

    def finalize(self):
        self._raise_if_finalized()
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, _):
        return 0


class _Linked(JITCodeLibrary):  # type: ignore[misc]
    """Code that Python calls, linked with all parts that it needs, each of them once."""

    def finalize(self):
        self._linking_libraries[:] = _with_parts(self._linking_libraries)
        super().finalize()


def _with_parts(libraries):
    """Return libraries, and all parts that they call, and these in turn."""
    found = dict.fromkeys(libraries)
    waiting = list(found)
    while waiting:
        library = waiting.pop()
        if isinstance(library, _Part):
            more = [other for other in library._linking_libraries if other not in found]
            found |= dict.fromkeys(more)
            waiting += more
    return list(found)


class _Whole(_Linked):
    """Code that holds copies of all that it calls.

    numba lets other code use these copies as well. Kept private, they can be inlined
    whatever their length, and lose arguments and results that nobody looks at. So they
    must have no symbols: other code would find them by name, and call them as they were.
    """

    def _optimize_final_module(self):
        for function in self._final_module.functions:
            if function.linkage == llvm.Linkage.linkonce_odr:
                function.linkage = llvm.Linkage.private
        super()._optimize_final_module()


if config.DISABLE_JIT:

    def prefetch(record):
        """Do nothing: without compilation there is nothing to gain."""

    def prefetch_at(column, index):
        """Do nothing: without compilation there is nothing to gain."""

    def prefetch_row(columns, row):
        """Do nothing: without compilation there is nothing to gain."""

    def lesser(one, one_next, other, other_next):
        """Return the lesser of two pairs of integers that are not negative."""
        return min((one, one_next), (other, other_next))

else:

    @intrinsic
    def prefetch(_, record):
        """Let the processor fetch the front of a record that is needed in some events' time."""

        def generate(context, builder, signature, arguments):
            _fetch(builder, arguments[0], min(record.size, FETCHED_MAX))
            return context.get_dummy_value()

        return numba.types.void(record), generate

    @intrinsic
    def prefetch_at(_, column, index):
        """Let the processor fetch an element of a column that is needed in some events' time."""

        def generate(context, builder, signature, arguments):
            array = context.make_array(column)(context, builder, arguments[0])
            place = context.cast(builder, arguments[1], index, numba.types.intp)
            start = cgutils.get_item_pointer(context, builder, column, array, [place])
            _fetch(builder, start, 1)
            return context.get_dummy_value()

        return numba.types.void(column, index), generate

    @intrinsic
    def prefetch_row(_, columns, row):
        """Let the processor fetch where a row of a record of columns will be written to."""

        def generate(context, builder, signature, arguments):
            start = builder.bitcast(arguments[0], cgutils.voidptr_t)
            for column in columns.fields.values():
                if isinstance(column.type, numba.types.NestedArray):
                    step = cgutils.intp_t(column.type.dtype.bitwidth // 8)
                    offset = builder.mul(arguments[1], step)
                    offset = builder.add(offset, cgutils.intp_t(column.offset))
                    _fetch(builder, builder.gep(start, [offset]), 1)
            return context.get_dummy_value()

        return numba.types.void(columns, row), generate

    @intrinsic
    def lesser(_, one, one_next, other, other_next):
        """Return the lesser of two pairs of integers that are not negative.

        Which one it is nobody can guess, so there is no branch in it: the pairs are compared as
        integers of 128 bits.
        """
        pair = numba.types.UniTuple(numba.types.int64, 2)

        def generate(context, builder, signature, arguments):
            first, second = arguments[:2], arguments[2:]
            is_second = builder.icmp_unsigned("<", _wide(builder, *second), _wide(builder, *first))
            chosen = [builder.select(is_second, b, a) for a, b in zip(first, second, strict=True)]
            return context.make_tuple(builder, signature.return_type, chosen)

        return pair(*(numba.types.int64,) * 4), generate


def _wide(builder, high, low):
    """Make one integer of two."""
    bits = ir.IntType(128)
    return builder.or_(builder.shl(builder.zext(high, bits), bits(64)), builder.zext(low, bits))


def _fetch(builder, pointer, size):
    """Let some bytes be fetched, line by line, to be written to."""
    start = builder.bitcast(pointer, cgutils.voidptr_t)
    bits = cgutils.int32_t
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, bits, bits, bits])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    to_write, keep, data = (bits(flag) for flag in (1, 3, 1))
    for offset in range(0, size, CACHE_LINE):
        line = builder.gep(start, [cgutils.intp_t(offset)])
        builder.call(fetch, [line, to_write, keep, data])


def _njit(function, level, library):
    keep = CACHE_DIRECTORY is not None and library is not _Part
    before = config.CACHE_DIR
    if keep:
        config.CACHE_DIR = str(CACHE_DIRECTORY)
    try:
        dispatcher = numba.njit(
            nogil=True, cache=keep, error_model="numpy", _nrt=False, **_way_in(library)
        )(function)
    finally:
        config.CACHE_DIR = before
    if hasattr(dispatcher, "py_func"):
        dispatcher.compile = _with(dispatcher.compile, level, library)
    return dispatcher


def _way_in(library):
    """Return the options by which Python can call a function, or cannot."""
    return {"no_cpython_wrapper": True, "no_cfunc_wrapper": True} if library is _Part else {}


def _with(compile_, level, library):
    """Let a dispatcher compile at an optimisation level of its own, to a kind of library."""

    def compile_so(signature):
        with (
            _for_now(config, "OPT", config._OptLevel(level)),
            _for_now(JITCPUCodegen, "_library_class", library),
            _for_now(JITCPUCodegen, "set_env", _set_env_of[library is _Part]),
            _for_now(arrayobj, "fix_integer_index", _index_as_it_is),
            _for_now(numba.types.Record, "__repr__", _say_once),
        ):
            return compile_(_without_literals(signature))

    return compile_so


def _set_no_env(*_):
    """Leave out where a part would find its environment: it is no machine code yet."""


_set_env_of = {False: JITCPUCodegen.set_env, True: _set_no_env}


@contextmanager
def _for_now(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _index_as_it_is(context, builder, index_type, index, _):
    """Take an index as it is: none of the engine's counts from the end."""
    return context.cast(builder, index, index_type, numba.types.intp)


_say = numba.types.Record.__repr__
_said: dict[int, str] = {}


def _say_once(record):
    """Return what a record says of itself: numba asks often, and the world has much to say."""
    if record._code not in _said:
        _said[record._code] = _say(record)
    return _said[record._code]


def _without_literals(signature):
    """Compile once for all values of an argument: a constant is a type of its own to numba."""
    if isinstance(signature, tuple):
        return tuple(numba.types.unliteral(argument) for argument in signature)
    return signature
