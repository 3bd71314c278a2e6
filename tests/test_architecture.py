"""The house of the library, checked: floors, the single door to Numba, names, file sizes, docstrings."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from accel.compile_cache import ABOVE_COMPILED_CODE

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "accel"

# Bottom to top. A floor imports only floors below it; floors on one line are siblings and never see each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("files",),
    ("compile_cache", "plain_twins", "provenance"),
    ("jit",),
    ("numerics",),
    ("problem",),
    ("isa", "hardware"),
    ("lang",),
    ("machine", "timing", "check"),
    ("results",),
    ("program",),
    ("batch",),
    ("kernels",),
    ("verification",),
    ("mapping",),
    ("baselines",),
    ("comparison",),
    ("scaleout",),
    ("networks",),
    ("frontends",),
    ("validation",),
    ("sweep",),
    ("plan",),
    ("report",),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
BESIDE = {"testing"}  # may import every floor; no floor may import it
SEES_WHAT_IS_BESIDE = {"cli"}  # `accel check` runs the battery on a user's kernel
DOOR = {"__init__", "__main__"}  # the package's own front doors stand above everything
BASELINES_MUST_NOT_SEE = {"isa", "lang", "machine", "timing", "check", "program", "kernels"}
HARD_LIMIT = 500
EMPTY_NAMES = re.compile(r"(^|_)(utils?|helpers?|misc|common|base|manager)(_|$)")


def modules() -> list[Path]:
    """Return every source file of the package, each once, with kernels/ under its package path."""
    files = [p for p in PACKAGE.rglob("*.py") if PACKAGE / "kernels" not in p.parents]
    files += [PACKAGE / "kernels" / p.relative_to(ROOT / "kernels") for p in (ROOT / "kernels").rglob("*.py")]
    return sorted(set(files))


def floor_of(path: Path) -> str:
    """Return the floor that a file of the package belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted name) for every import at any depth, type-checking blocks and functions included."""
    package = ["accel", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            if origin == "accel":
                for alias in node.names:
                    yield node.lineno, f"accel.{alias.name}"
            else:
                yield node.lineno, origin
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            # importlib.import_module("accel.x") is an import, too
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def faults_of(path: Path, text: str) -> list[str]:
    """Return what the imports of the file break."""
    floor = floor_of(path)
    found = []
    for line, name in imports(ast.parse(text), path):
        top, _, rest = name.partition(".")
        where = f"{path.relative_to(ROOT)}:{line}"
        if top in {"numba", "llvmlite"} and floor != "jit":
            found.append(f"{where} imports {name}: only accel/jit.py may")
        if top == "kernels":
            found.append(f"{where} imports {name}: its name is accel.kernels")
        if top != "accel" or floor in DOOR:
            continue
        target = rest.partition(".")[0]
        if target == "__version__":
            continue  # a constant of the package, which every module's import has loaded already
        if not target:
            found.append(f"{where} imports accel itself: name the floor")
        elif target == floor or floor in BESIDE or (target in BESIDE and floor in SEES_WHAT_IS_BESIDE):
            continue
        elif target in BESIDE:
            found.append(f"{where} imports {name}: library code never imports testing")
        elif target not in LEVEL:
            found.append(f"{where} imports {name}: {target} is not a floor")
        elif LEVEL[target] == LEVEL[floor]:
            found.append(f"{where} imports {name}: {floor} and {target} are siblings")
        elif LEVEL[target] > LEVEL[floor]:
            found.append(f"{where} imports {name}: {target} stands above {floor}")
        elif floor == "baselines" and target in BASELINES_MUST_NOT_SEE:
            found.append(f"{where} imports {name}: baselines know GPUs only")
    return found


def test_every_module_belongs_to_a_floor() -> None:
    assert {floor_of(path) for path in modules()} <= set(LEVEL) | BESIDE | DOOR


def test_floors_import_only_what_is_below() -> None:
    assert [fault for path in modules() for fault in faults_of(path, path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    ("file", "text", "rule"),
    [
        ("isa/x.py", "from accel.hardware import ChipSpec", "siblings"),
        ("timing/x.py", "def f():\n    import accel.machine.engine", "siblings"),
        ("numerics/x.py", "from ..program import Program", "stands above"),
        ("numerics/x.py", "from accel import program", "stands above"),
        ("lang/x.py", "import importlib\nimportlib.import_module('accel.cli')", "stands above"),
        ("machine/x.py", "import numba", "only accel/jit.py"),
        ("isa/x.py", "if TYPE_CHECKING:\n    from llvmlite import ir", "only accel/jit.py"),
        ("program.py", "from accel.testing import strategies", "never imports testing"),
        ("baselines/x.py", "from accel.timing import Timing", "GPUs only"),
        ("isa/x.py", "import accel", "name the floor"),
        ("cli/x.py", "import kernels.matmul", "accel.kernels"),
    ],
)
def test_the_import_check_sees(file: str, text: str, rule: str) -> None:
    (fault,) = faults_of(PACKAGE / file, text)
    assert rule in fault


def test_what_stays_out_of_the_cache_key_is_never_imported_by_compiled_code() -> None:
    above = {name.removesuffix(".py") for name in ABOVE_COMPILED_CODE}
    imported: dict[str, set[str]] = {}
    users = set()
    for path in modules():
        floor = floor_of(path)
        names = {name for _, name in imports(ast.parse(path.read_text()), path) if name.startswith("accel.")}
        imported.setdefault(floor, set()).update(name.split(".")[1] for name in names)
        if "accel.jit" in names:
            users.add(floor)
    reached, fresh = set(), users - DOOR
    assert len(fresh) > 3
    while fresh:
        reached |= fresh
        fresh = {other for floor in fresh for other in imported.get(floor, ())} - reached
    assert not above & reached


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_module_is_small_named_and_described(path: Path) -> None:
    text = path.read_text("utf-8")
    lines = text.count("\n")
    assert lines <= HARD_LIMIT, f"{lines} lines: split it"
    for part in path.relative_to(PACKAGE).parts:
        assert not EMPTY_NAMES.search(part.removesuffix(".py")), f"{part} says nothing of what is inside"
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring, "a module docstring is the map of the library"
    first = docstring.splitlines()[0]
    assert first.endswith((".", ":")), f"the first line must be a sentence of its own: {first!r}"
    stub = re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", text)
    assert stub is None, f"unfinished: {stub and stub.group()}"


def test_public_names_resolve_after_every_submodule_is_imported() -> None:
    """A submodule import binds its name on the package: no public function may be shadowed by that."""
    check = """
import importlib, pkgutil, types
import accel
before = {name: type(getattr(accel, name)) for name in accel.__all__}
for found in pkgutil.walk_packages(accel.__path__, "accel."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
public = set(accel.__all__)
functions = {"bench", "chip", "kernel", "load", "tensor"}
modules = {"kernels", "problem"}
missing = (functions | modules) - public
assert not missing, f"accel lacks {sorted(missing)}"
for name in public:
    value = getattr(accel, name)
    assert type(value) is before[name], f"accel.{name} was {before[name]} and is now {type(value)}"
for name in functions | ({"assemble", "tune"} & public):
    assert callable(getattr(accel, name)) and not isinstance(getattr(accel, name), types.ModuleType), name
for name in modules:
    assert isinstance(getattr(accel, name), types.ModuleType), name
for found in pkgutil.walk_packages(accel.__path__, "accel."):
    if found.name.endswith("__main__"):
        continue
    package, _, leaf = found.name.rpartition(".")
    held = vars(importlib.import_module(package)).get(leaf)
    assert isinstance(held, types.ModuleType), f"{found.name} is shadowed by {held!r}"
"""
    if not (PACKAGE / "__init__.py").is_file():
        pytest.fail("accel/__init__.py is missing")
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["numpy", "numba", "rich"])
def test_importing_accel_loads_nothing_heavy(name: str) -> None:
    check = f"import accel, sys; assert {name!r} not in sys.modules, 'import accel loads {name}'"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_kernel_library_refuses_its_folder_name() -> None:
    command = [sys.executable, "-c", "import kernels"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "use accel.kernels instead" in done.stderr


def test_every_lint_exception_is_explained() -> None:
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    config = tomllib.loads("\n".join(lines))["tool"]["ruff"]["lint"]
    ignored = set(config["ignore"]) | {code for codes in config["per-file-ignores"].values() for code in codes}
    for code in ignored:
        rows = [line for line in lines if line.strip().startswith(f'"{code}",')]
        assert rows, f"{code} must stand on a line of its own"
        for row in rows:
            assert re.search(r'",\s+# \S.{10,}', row), f"{row.strip()} lacks its reason"


def test_every_inline_lint_exception_is_explained() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in modules()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"#\s*noqa", line) and not re.search(r"#\s*noqa: [A-Z0-9, ]+?\s+(#|-) \S.{5,}", line)
    ]
    assert bare == []
