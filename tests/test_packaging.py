"""The package works as a wheel, as a source archive, as an editable install, and from the clone root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging")]

PROBE = """
import importlib, pkgutil, sys
from pathlib import Path
import accel
import accel.kernels
home = Path(accel.__file__).parent
names = sorted(m.name for m in pkgutil.iter_modules(accel.kernels.__path__) if not m.ispkg)
for name in names:
    assert getattr(accel.kernels, name).__name__ == f"accel.kernels.{name}"
assert (home / "py.typed").is_file()
data = sorted(p.relative_to(home).as_posix() for p in home.rglob("*") if p.suffix in {".toml", ".csv"})
print(home.parent, ",".join(names), ",".join(data), sep="|")
try:
    importlib.import_module("kernels")
except ImportError as error:
    assert isinstance(error, ModuleNotFoundError) or "use accel.kernels" in str(error), error
else:
    raise AssertionError("`import kernels` must fail")
"""


def call(*command: str | Path, cwd: Path) -> str:
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources as a clone has them: the symbolic link is kept, build products are not."""
    target = tmp_path_factory.mktemp("clone") / "accel"
    target.mkdir()
    for name in ("accel", "kernels"):
        shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, target / name)
    assert (target / "accel" / "kernels").is_symlink()
    return target


@pytest.fixture(scope="module")
def archives(clone: Path) -> tuple[Path, Path]:
    """The wheel and the source archive, built from the clone."""
    call(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist", "--outdir", clone / "dist", cwd=clone)
    (wheel,), (sdist,) = (clone / "dist").glob("*.whl"), (clone / "dist").glob("*.tar.gz")
    return wheel, sdist


def fresh_python(folder: Path) -> Path:
    """Return the interpreter of a new environment that sees this one's dependencies but not its editable installs."""
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def install(python: Path, *what: str | Path, cwd: Path) -> None:
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--ignore-installed"]
    call(sys.executable, "-m", "pip", "--python", python, "install", *options, *what, cwd=cwd)


def kernels_and_data() -> tuple[str, str]:
    names = sorted(p.stem for p in (ROOT / "kernels").glob("[!_]*.py"))
    data = sorted(
        p.relative_to(ROOT / "accel").as_posix() for p in (ROOT / "accel").rglob("*") if p.suffix in {".toml", ".csv"}
    )
    return ",".join(names), ",".join(data)


def check(python: Path, cwd: Path, home: Path) -> None:
    found, names, data = call(python, "-c", PROBE, cwd=cwd).split("|")
    assert Path(found).resolve().is_relative_to(home.resolve())
    assert (names, data) == kernels_and_data()


def test_archives_hold_kernels_once(archives: tuple[Path, Path]) -> None:
    wheel, sdist = archives
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        in_sdist = {member.name.partition("/")[2] for member in archive if member.isfile()}
    for names in (in_wheel, in_sdist):
        assert {"accel/kernels/__init__.py", "accel/kernels/parts/__init__.py"} <= set(names)
        assert "accel/py.typed" in names
        assert not [name for name in names if name.startswith("kernels/")]
    assert [name for name in in_wheel if name.endswith("LICENSE")]


def test_wheel(archives: tuple[Path, Path], tmp_path: Path) -> None:
    python = fresh_python(tmp_path / "env")
    install(python, archives[0], cwd=tmp_path)
    check(python, tmp_path, tmp_path / "env")
    check(python, ROOT / "docs", tmp_path / "env")


def test_source_archive(archives: tuple[Path, Path], tmp_path: Path) -> None:
    python = fresh_python(tmp_path / "env")
    install(python, archives[1], cwd=tmp_path)
    check(python, tmp_path, tmp_path / "env")


def test_editable_install(clone: Path, tmp_path: Path) -> None:
    python = fresh_python(tmp_path / "env")
    install(python, "--editable", clone, cwd=tmp_path)
    check(python, tmp_path, clone)
    check(python, clone, clone)


def test_clone_root_without_install(clone: Path, tmp_path: Path) -> None:
    check(fresh_python(tmp_path / "env"), clone, clone)
