"""What is wrong in a scenario file is told with its line, and with the name that was meant.

Fields and names of their values are checked when the file is read; what only the server knows is
told by the path of the field.
"""

from pathlib import Path

import pytest

from faultlane.errors import InvalidScenario
from faultlane.scenario import read_scenario

FILE = """\
workload:
  files:
    - name: log
      size_bytes: 1MiB
      device: disk
      kind: REGULAR
      bad: [{offset_bytes: 4KiB, length_bytes: 8KiB}]
  processes:
    - name: app
      vmas:
        - {name: log, length_bytes: 1MiB, file: {file: log, map_private: true}}
      groups:
        - name: writers
          threads: 2
          program:
            - touch: {vma: log, uniform: {}, access: WRITE, kernel_mode: true}
            - ftruncate: {file: log, size_bytes: 64KiB}
            - punch_hole: {file: log, offset_bytes: 4KiB}
            - sync_file_range: {file: log, wait: true}
            - fadvise_dontneed: {file: log}
            - kill: {signal: HANDLED, group: writers}
machine:
  arch: x86
  cpus: 2
  devices:
    - name: disk
      latency: {fixed_ns: 100us}
      write_latency: {fixed_ns: 4ms}
      error_ppm: 10
      stable_writes: true
kernel:
  dirty_bytes: 16MiB
  dirty_background_bytes: 8MiB
  retry_policy:
    file:
      vma_lock_on: [F7, F8]
      vma_retries_max: 3
      drop_for_io: ALWAYS
      uptodate_direct: YES_NOT_WRITEBACK
      relock_and_map: TRY
horizon_ns: 1s
"""

# What is replaced in the file, by what; where that is told, and what is said of it.
SPOILT = [
    # names of fields and of values
    ("kind: REGULAR", "kin: REGULAR", 6, "workload.files[0].kin", "(did you mean kind?)"),
    ("kind: REGULAR", "kind: TMPSF", 6, "workload.files[0].kind", "(did you mean TMPFS?)"),
    ("bad:", "bed:", 7, "workload.files[0].bed", "(did you mean bad?)"),
    ("map_private", "private", 11, "vmas[0].file.private", "(did you mean map_private?)"),
    ("kernel_mode", "kernelmode", 16, "touch.kernelmode", "(did you mean kernel_mode?)"),
    ("ftruncate", "truncate", 17, "program[1].truncate", "(did you mean ftruncate?)"),
    ("punch_hole", "punchole", 18, "program[2].punchole", "(did you mean punch_hole?)"),
    ("sync_file_range", "sync", 19, "program[3].sync", "(did you mean sync_file_range?)"),
    ("fadvise_dontneed", "fadvise", 20, "program[4].fadvise", "(did you mean fadvise_dontneed?)"),
    ("signal: HANDLED", "signal: HANDELD", 21, "kill.signal", "(did you mean HANDLED?)"),
    ("write_latency", "write_latncy", 28, "devices[0].write_latncy", "(did you mean write_latency"),
    ("error_ppm", "errors_ppm", 29, "devices[0].errors_ppm", "(did you mean error_ppm?)"),
    ("dirty_bytes", "dirty", 32, "kernel.dirty", "(did you mean dirty_bytes?)"),
    ("retry_policy:", "retry:", 34, "kernel.retry", "(did you mean retry_policy?)"),
    ("[F7, F8]", "[F7, NO_MAP]", 36, "file.vma_lock_on[1]", "(did you mean NO_MAP_PAGES?)"),
    ("vma_retries_max", "vma_retrys_max", 37, "file.vma_retrys_max", "(did you mean vma_retries_m"),
    ("YES_NOT_WRITEBACK", "YES_NO_WRITEBACK", 39, "uptodate_direct", "mean YES_NOT_WRITEBACK?)"),
    # units in the wrong place, and values of another kind
    ("size_bytes: 64KiB", "size_bytes: 64ms", 17, "ftruncate.size_bytes", "or one in "),
    ("error_ppm: 10", "error_ppm: 10us", 29, "devices[0].error_ppm", "a whole number, 0 to"),
    ("error_ppm: 10", "error_ppm: 0.1", 29, "devices[0].error_ppm", "a whole number, 0 to"),
    ("fixed_ns: 4ms", "fixed_ns: 4KiB", 28, "write_latency.fixed_ns", "or one in "),
    ("vma_retries_max: 3", "vma_retries_max: 3s", 37, "vma_retries_max", "a whole number, 0 to"),
    ("wait: true", "wait: 1", 19, "sync_file_range.wait", "want true or false"),
    ("[F7, F8]", "F7", 36, "vma_lock_on", "want a list"),
    ("kernel:\n", "kernel:\n  policy_id: rfc\n", 35, "retry_policy", "nothing beside policy_id"),
]  # fmt: skip


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    return path


def test_the_file_that_is_spoilt_can_be_read(tmp_path: Path) -> None:
    scenario = read_scenario(written(tmp_path, FILE))

    assert scenario.kernel.retry_policy.file.vma_retries_max == 3
    assert scenario.workload.processes[0].groups[0].program[5].kill.group == "writers"


@pytest.mark.parametrize(
    ("right", "wrong", "line", "field", "said"), SPOILT, ids=[row[1] for row in SPOILT]
)
def test_the_line_and_what_was_meant_are_told(
    tmp_path: Path, right: str, wrong: str, line: int, field: str, said: str
) -> None:
    assert right in FILE
    path = written(tmp_path, FILE.replace(right, wrong, 1))

    with pytest.raises(InvalidScenario) as caught:
        read_scenario(path)

    (violation,) = caught.value.violations
    assert str(violation).startswith(f"{path}:{line}: ")
    assert field in str(violation)
    assert said in str(violation)


def test_all_of_it_is_told_at_once(tmp_path: Path) -> None:
    text = FILE
    wrongs = [SPOILT[number] for number in (1, 3, 5, 9, 10, 12, 14, 16)]
    for right, wrong, *_ in wrongs:
        text = text.replace(right, wrong, 1)

    with pytest.raises(InvalidScenario) as caught:
        read_scenario(written(tmp_path, text))

    assert len(caught.value.violations) == len(wrongs)
