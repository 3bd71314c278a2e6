"""The compile cache and the plain twins, each tried in fresh processes on a package made for it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from accel.compile_cache import KEPT_FOLDERS, Store, default_base, source_key
from accel.errors import InputError

PACKAGE = Path(__file__).resolve().parent.parent / "accel"

CALLER = '''"""Calls across a module border."""
from accel.jit import intrinsic, njit, types
from accel.machine import callee
from accel.machine.callee import BIAS, step

def _plain_twice(x: int) -> int:
    return x + x

@intrinsic(plain=_plain_twice)
def twice(typingctx, x):
    return types.int64(types.int64), lambda context, builder, signature, args: builder.add(args[0], args[0])

@njit
def even(n):
    return True if n == 0 else odd(n - 1)

@njit
def odd(n):
    return False if n == 0 else even(n - 1)

@njit
def through_module(x):
    return callee.step(x)

@njit
def parity(n):
    return 1 if odd(n) else 0

@njit
def checked(x):
    if x < 0:
        raise ValueError("negative")
    return step(x)

@njit
def guarded(x):
    return checked(x) + 1

@njit
def plus(x, y):
    return x + y

@njit
def constants(x):
    return plus(x, 0) + plus(x, 4) + plus(0, 100)

TABLE = (step, through_module)

@njit
def through_tuple(x):
    total = 0
    for entry in range(2):
        if entry == 0:
            total += TABLE[0](x)
        else:
            total += TABLE[1](x)
    return total

@njit
def total(x):
    return step(twice(x)) + BIAS
'''
CALLEE = '''"""A callee and a constant that are compiled into their callers."""
from accel.jit import njit

BIAS = 100

@njit
def step(x):
    return x + 1
'''
# Prints what a fresh process gets for `expression`, and what it compiled or loaded for it.
PROBE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import accel.machine.caller as m
from accel import jit
value = eval(sys.argv[2])
totals = jit.compile_totals()
info = jit.cache_info()
print(json.dumps({"value": value, "compiled": totals.compiled, "loaded": totals.loaded, "folder": str(info.folder),
                  "entries": info.entries, "bytes": info.size_bytes, "writable": info.writable}))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a small copy of the package: the real jit.py and two jitted modules."""
    root = tmp_path / "source"
    (root / "accel" / "machine").mkdir(parents=True)
    for name in ("jit.py", "plain_twins.py", "compile_cache.py", "errors.py"):
        shutil.copy(PACKAGE / name, root / "accel" / name)
    (root / "accel" / "machine" / "caller.py").write_text(CALLER)
    (root / "accel" / "machine" / "callee.py").write_text(CALLEE)
    return root


def start(package: Path, expression: str, **environment: str) -> subprocess.Popen[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ACCEL_", "NUMBA_", "XDG_", "PYTHONPATH"))}
    env |= {"ACCEL_CACHE_DIR": str(package.parent / "cache")} | environment
    command = [sys.executable, "-c", PROBE, str(package), expression]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, cwd=package.parent, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out), err


def run(package: Path, expression: str = "m.total(5)", **environment: str) -> tuple[dict[str, Any], str]:
    return finish(start(package, expression, **environment))


def test_second_process_loads_instead_of_compiling(package: Path) -> None:
    first, _ = run(package)
    second, err = run(package)
    assert (first["value"], first["compiled"], first["loaded"]) == (111, 2, 0)
    assert (second["value"], second["compiled"], second["loaded"]) == (111, 0, 1)  # the callee is inside the caller
    assert second["entries"] == 1
    assert second["bytes"] > 0
    assert err == ""


@pytest.mark.parametrize(("old", "new", "value"), [("x + 1", "x + 2", 112), ("BIAS = 100", "BIAS = 200", 211)])
def test_a_change_in_a_callee_or_constant_of_another_file_counts(package: Path, old: str, new: str, value: int) -> None:
    assert run(package)[0]["value"] == 111
    path = package / "accel" / "machine" / "callee.py"
    before = path.stat()
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same time and size must not hide it
    assert run(package)[0]["value"] == value


def test_a_change_above_compiled_code_keeps_the_cache(package: Path) -> None:
    run(package)
    (package / "accel" / "cli").mkdir()
    (package / "accel" / "cli" / "verbs.py").write_text("'''New.'''\n")
    assert run(package)[0]["compiled"] == 0


def test_two_processes_at_once(package: Path) -> None:
    processes = [start(package, expression) for expression in ("m.total(5)", "m.total(5.5) if False else m.total(6)")]
    assert [finish(process)[0]["value"] for process in processes] == [111, 113]
    assert run(package)[0]["compiled"] == 0


def test_different_signatures_of_one_function_at_once(package: Path) -> None:
    processes = [start(package, f"float(m.step({argument}))") for argument in ("1", "1.5", "True", "1.25")]
    assert [finish(process)[0]["value"] for process in processes] == [2.0, 2.5, 2.0, 2.25]
    again, _ = run(package, "[float(m.step(x)) for x in (1, 1.5, True)]")
    assert (again["value"], again["compiled"], again["loaded"]) == ([2.0, 2.5, 2.0], 0, 3)


@pytest.mark.parametrize("harm", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_damaged_file_is_compiled_anew(package: Path, harm: Any) -> None:
    folder = Path(run(package)[0]["folder"])
    for path in folder.glob("*.bin"):
        path.write_bytes(harm(path.read_bytes()))
    repaired, _ = run(package)
    assert (repaired["value"], repaired["compiled"]) == (111, 2)
    assert run(package)[0]["compiled"] == 0


def test_unwritable_cache_gives_one_notice_and_works(package: Path) -> None:
    blocked = package.parent / "a file"
    blocked.write_text("in the way of the folder")
    result, err = run(package, ACCEL_CACHE_DIR=str(blocked))
    assert (result["value"], result["writable"]) == (111, False)
    assert err.count("\n") == 1
    assert "set ACCEL_CACHE_DIR to a writable folder" in err
    assert not Path(result["folder"]).exists(), "the folder of one process ends with it"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_home(package: Path) -> None:
    home = package.parent / "home"
    home.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    result, err = run(package, ACCEL_CACHE_DIR="", HOME=str(home))
    assert (result["value"], result["writable"]) == (111, False)
    assert err.count("\n") == 1


@pytest.mark.parametrize("switch", [{}, {"NUMBA_DISABLE_JIT": "1"}])
def test_plain_twins_run_no_compiled_code(package: Path, switch: dict[str, str]) -> None:
    expression = (
        "[m.total.plain(5), m.even.plain(10), m.odd.plain(10), m.through_module.plain(3), m.through_tuple.plain(3), "
        "jit.plain(m.total)(2**70) == 2**71 + 101]"  # plain integers do not wrap: proof that the intrinsic is plain too
    )
    result, _ = run(package, expression, **switch)
    assert result["value"] == [111, True, False, 4, 8, True]
    assert (result["compiled"], result["loaded"]) == (0, 0)


def test_what_only_jitted_code_has_called_can_be_called_from_python(package: Path) -> None:
    first, _ = run(package, "[m.total(5), m.step(5), m.step(5), m.total(5)]")
    assert (first["value"], first["compiled"], first["entries"]) == ([111, 6, 6, 111], 3, 2)
    second, _ = run(package, "[m.step(5), m.total(5)]")
    assert (second["value"], second["compiled"], second["loaded"]) == ([6, 111], 0, 2)


def test_functions_that_call_each_other(package: Path) -> None:
    assert run(package, "[m.even(10), m.odd(10), m.parity(7), m.even(3)]")[0]["value"] == [True, False, 1, False]
    assert run(package, "[m.parity(7), m.odd(7), m.even(6)]")[0]["value"] == [1, True, True]


def test_error_of_an_inner_function_reaches_python(package: Path) -> None:
    expression = "[m.guarded(3), str(__import__('pytest').raises(ValueError, m.guarded, -1).value)]"
    for _ in range(2):  # compiled, then loaded
        assert run(package, expression)[0]["value"] == [5, "negative"]


def test_constant_arguments_compile_once(package: Path) -> None:
    result, _ = run(package, "m.constants(2)")
    assert (result["value"], result["compiled"]) == (2 + 6 + 100, 2)


def test_failed_compilation_leaves_nothing_behind(package: Path) -> None:
    expression = "(__import__('pytest').raises(Exception, m.total, 'text'), jit._started, m.total(5))[1:]"
    assert run(package, expression)[0]["value"] == [[], 111]


def test_jitted_equals_plain(package: Path) -> None:
    assert run(package, "[m.total(7), m.even(7), m.through_module(7)]")[0]["value"] == [115, False, 8]
    assert run(package, "[f.plain(7) for f in (m.total, m.even, m.through_module)]")[0]["value"] == [115, False, 8]


def test_on_compile_reports_each_compilation(package: Path) -> None:
    expression = "(seen := [], jit.on_compile(lambda *event: seen.append(event[:2])), m.total(1), seen)[-1]"
    step, total = "machine.callee.step", "machine.caller.total"
    assert sorted(run(package, expression)[0]["value"]) == [[step, False], [total, False]]
    assert run(package, expression)[0]["value"] == [[total, True]]


def test_target_override(package: Path) -> None:
    portable, _ = run(package, "jit.isa_target()", ACCEL_TARGET="portable")
    default, _ = run(package, "jit.isa_target()")
    assert portable["value"] == "portable"
    assert default["value"] in {"avx512", "avx2", "portable"}
    assert (portable["folder"] == default["folder"]) == (default["value"] == "portable")
    process = start(package, "jit.isa_target()", ACCEL_TARGET="avx1024")
    _, err = process.communicate(timeout=120)
    assert "InputError: Cannot use ACCEL_TARGET='avx1024'" in err


def test_old_folders_go_but_never_one_in_use(tmp_path: Path) -> None:
    holding = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from accel.compile_cache import Store
store = Store(Path(sys.argv[2]), "held")
print("ready", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", holding, str(PACKAGE.parent), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        for age in range(1, 7):
            folder = tmp_path / f"jit-old{age}"
            folder.mkdir()
            os.utime(folder, (1e9 - age, 1e9 - age))
        os.utime(tmp_path / "jit-held", (1, 1))
        (tmp_path / "other").mkdir()
        store = Store(tmp_path, "new")
        left = {path.name for path in tmp_path.iterdir()}
        holder.communicate("")
    assert left == {"jit-new", "jit-held", "other", "jit-old1", "jit-old2"}
    assert len([name for name in left if name.startswith("jit-") and name != "jit-held"]) == KEPT_FOLDERS
    os.close(store._lock_fd or 0)


def test_key_depends_on_names_texts_and_facts(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("2")
    key = source_key(tmp_path, ["x"])
    assert source_key(tmp_path, ["x"]) == key
    assert source_key(tmp_path, ["y"]) != key
    (tmp_path / "notes.txt").write_text("no source")
    assert source_key(tmp_path, ["x"]) == key
    (tmp_path / "a.py").rename(tmp_path / "c.py")
    assert source_key(tmp_path, ["x"]) != key


def test_default_base_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(tmp_path / "chosen"))
    assert default_base() == tmp_path / "chosen"
    monkeypatch.delenv("ACCEL_CACHE_DIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_base() == tmp_path / "xdg" / "accel"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_base() == tmp_path / ".cache" / "accel"


def test_target_beyond_the_processor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from accel import jit

    monkeypatch.setattr(jit, "host_cpu", lambda: jit.HostCpu("plain", frozenset({"sse2"})))
    monkeypatch.setenv("ACCEL_TARGET", "avx512")
    with pytest.raises(InputError, match="this processor lacks it; use one of portable"):
        jit.isa_target.__wrapped__()
