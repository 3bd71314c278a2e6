"""Every Python and console block of the README and of docs/ runs, page by page.

- `python` blocks of a page share a namespace and a temporary folder, and run in order.
- `pycon` blocks are doctests: their output is compared.
- `console` blocks: each line `$ accel ...` or `$ python ...` runs and must exit with 0. Installing and building (pip,
  git, cd, make, python -m venv) is for the reader and is covered by the CI run; any other command is an error here.
- `<!-- file: name.py -->` on the line before a block also writes it to the page's folder.
- `<!-- exit: N -->` before a console block says that its last command exits with N.
- `<!-- compare -->` before a console block compares standard output with the lines below each command; "..." matches
  anything.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import FunctionType
from typing import NamedTuple

import pytest

from accel.kernels.catalog import CATALOG, library_kernel

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|:{3,})\s*(?P<info>[^`]*)$")
MARK = re.compile(r"<!--\s*(file|exit|compare)\s*:?\s*(.*?)\s*-->")
DIRECTIVE = re.compile(r"^\.\. auto(?:class|function|exception):: (\S+)\.(\w+)((?:\n   :.*)*)$", re.MULTILINE)
PUBLIC = ["", ".baselines", ".errors", ".hardware", ".lang", ".numerics", ".problem", ".results", ".timing"]
# accel.kernel and accel.Kernel are what users hold of the first two; the last makes hints inside messages.
BEHIND_OTHERS = {"accel.lang.Kernel", "accel.lang.kernel", "accel.errors.nearest"}
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
FOR_THE_READER = {"cd", "git", "make", "pip", "source", "."}
SHOWN_ONLY = {"", "text", "toml", "json", "make", "csv", "diff", "math"}


class Block(NamedTuple):
    """One fenced block: language, text, first line number in its page, and the marks that stand before it."""

    language: str
    text: str
    line: int
    marks: dict[str, str]


def blocks_of(page: str) -> list[Block]:
    """Return the fenced blocks of a Markdown page in order; directives such as {toctree} have languages in braces."""
    found: list[Block] = []
    marks: dict[str, str] = {}
    lines = iter(enumerate(page.splitlines(), 1))
    for number, line in lines:
        if opened := FENCE.match(line):
            body = []
            closed = False
            for _, inner in lines:
                if inner.strip() == opened["ticks"]:
                    closed = True
                    break
                body.append(inner.removeprefix(opened["indent"]))
            assert closed, f"line {number}: the block is not closed"
            words = opened["info"].split()
            found.append(Block(words[0] if words else "", "\n".join(body) + "\n", number + 1, marks))
            marks = {}
        elif mark := MARK.search(line):
            marks = marks | {mark[1]: mark[2]}
        elif line.strip():
            marks = {}
    return found


def pages() -> list[Path]:
    """Return the README and every page below docs/ that is written by hand or generated into the tree."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path for path in found if path.is_file() and "_build" not in path.parts]


def run_python(block: Block, namespace: dict[str, object], where: str) -> None:
    """Execute the block so that a failure shows the page's own line number."""
    code = compile("\n" * (block.line - 1) + block.text, where, "exec")
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, namespace)


def run_doctest(block: Block, namespace: dict[str, object], where: str) -> None:
    """Run the block as a doctest in the page's namespace."""
    test = doctest.DocTestParser().get_doctest(block.text, namespace, where, where, block.line - 1)
    report = io.StringIO()
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.write, clear_globs=False)
    namespace.update(test.globs)
    assert result.failed == 0, report.getvalue()


def commands_of(block: Block) -> list[tuple[str, str]]:
    """Return (command, shown output) pairs; a command goes on while its line ends in a backslash."""
    pairs: list[tuple[str, str]] = []
    lines = iter(block.text.splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                command = command[:-1] + next(lines).removeprefix("> ")
            pairs.append((command, ""))
        elif pairs:
            pairs[-1] = (pairs[-1][0], pairs[-1][1] + line + "\n")
    return pairs


def run_console(block: Block, folder: Path, where: str) -> None:
    """Run the block's commands in `folder`."""
    pairs = commands_of(block)
    assert pairs, f"{where}:{block.line}: a console block needs a line that starts with '$ '"
    for index, (command, shown) in enumerate(pairs):
        words = shlex.split(command, comments=True)
        if words[0] in FOR_THE_READER or words[:3] in (["python3", "-m", "venv"], ["python3", "-m", "pip"]):
            continue
        if words[0] == "accel":
            words[:1] = [sys.executable, "-m", "accel"]
        elif words[0] in {"python", "python3"}:
            words[0] = sys.executable
        else:
            pytest.fail(f"{where}:{block.line}: cannot run {words[0]!r}; use accel or python, or show it as text")
        environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "120"}
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        wanted = int(block.marks.get("exit", 0)) if index == len(pairs) - 1 else 0
        assert done.returncode == wanted, f"{where}:{block.line}: $ {command}\n{done.stdout}{done.stderr}"
        if "compare" in block.marks:
            matches = doctest.OutputChecker().check_output(shown, done.stdout, doctest.ELLIPSIS)
            assert matches, f"{where}:{block.line}: $ {command}\nshown:\n{shown}printed:\n{done.stdout}"


def run_page(text: str, where: str, folder: Path) -> int:
    """Run every block of a page; return how many ran."""
    namespace: dict[str, object] = {"__name__": "__page__"}
    ran = 0
    with contextlib.chdir(folder):
        for block in blocks_of(text):
            if name := block.marks.get("file"):
                (folder / name).write_text(block.text, "utf-8")
            if block.language == "python":
                run_python(block, namespace, where)
            elif block.language == "pycon":
                run_doctest(block, namespace, where)
            elif block.language == "console":
                run_console(block, folder, where)
            else:
                known = block.language in SHOWN_ONLY or block.language.startswith("{")
                assert known, f"{where}:{block.line}: unknown language {block.language!r}"
                continue
            ran += 1
    return ran


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_page_runs(page: Path, tmp_path: Path) -> None:
    run_page(page.read_text("utf-8"), page.relative_to(ROOT).as_posix(), tmp_path)


def test_blocks_share_a_namespace_and_write_files(tmp_path: Path) -> None:
    page = "```python\nx = 2\n```\n<!-- file: mine.py -->\n```python\ny = x * 3\n```\n```pycon\n>>> y\n6\n```\n"
    assert run_page(page, "page", tmp_path) == 3
    assert (tmp_path / "mine.py").read_text() == "y = x * 3\n"


@pytest.mark.parametrize(
    ("page", "failure"),
    [
        ("```python\nraise ValueError('seen')\n```\n", "seen"),
        ("```pycon\n>>> 1 + 1\n3\n```\n", "Expected"),
        ("```console\n$ python -c 'raise SystemExit(3)'\n```\n", "SystemExit"),
        ("<!-- compare -->\n```console\n$ python -c 'print(1)'\n2\n```\n", "printed"),
        ("```console\n$ accel chips nowhere\n```\n", "unknown chip"),
        ("```console\n$ rm -r x\n```\n", "cannot run 'rm'"),
        ("```console\nno command\n```\n", "needs a line"),
        ("```pythn\n1\n```\n", "unknown language"),
        ("```python\n1\n", "not closed"),
    ],
)
def test_a_wrong_block_fails(page: str, failure: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, ValueError, pytest.fail.Exception), match=failure):
        run_page(page, "page", tmp_path)


def test_exit_and_compare_marks(tmp_path: Path) -> None:
    page = (
        "<!-- exit: 2 -->\n```console\n$ python -c 'raise SystemExit(2)'\n```\n"
        "<!-- compare -->\n```console\n$ python -c 'print(\"a 17 b\")'\na ... b\n```\n"
    )
    assert run_page(page, "page", tmp_path) == 2


def referred() -> dict[str, tuple[object, str]]:
    """Return what the directives of the reference name, with their options: each name once, each thing once."""
    found: dict[str, tuple[object, str]] = {}
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        for module, name, options in DIRECTIVE.findall(page.read_text("utf-8")):
            full = f"{module}.{name}"
            assert full not in found, f"{page.name}: {full} stands in the reference twice"
            found[full] = getattr(importlib.import_module(module), name), options
    assert len({id(thing) for thing, _ in found.values()}) == len(found)
    return found


def functions_in_the_reference() -> list[tuple[str, FunctionType]]:
    """Return the functions and the shown methods of the reference by name."""
    found = []
    for name, (thing, options) in referred().items():
        if isinstance(thing, FunctionType):
            found.append((name, thing))
        elif inspect.isclass(thing) and ":members:" in options:
            hidden = "".join(re.findall(r":exclude-members: (.*)", options)).split(", ")
            for own, held in vars(thing).items():
                function = getattr(held, "__func__", held)
                if not own.startswith("_") and own not in hidden and isinstance(function, FunctionType):
                    found.append((f"{name}.{own}", function))
    return found


@pytest.mark.parametrize("name", CATALOG)
def test_a_kernel_stands_in_the_table_with_its_sizes(name: str) -> None:
    rows = [line for line in (ROOT / "docs" / "kernels.md").read_text("utf-8").splitlines() if f"`{name}`" in line]
    table = [row.split("|") for row in rows if row.startswith("|")]
    assert [row[3].strip() for row in table] == [",".join(library_kernel(name).problem.sizes())], name


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_class_and_function_is_in_the_reference(package: str) -> None:
    module = importlib.import_module(f"accel{package}")
    public = {f"accel{package}.{name}": getattr(module, name) for name in module.__all__}
    wanted = {name: thing for name, thing in public.items() if inspect.isclass(thing) or inspect.isfunction(thing)}
    there = {id(thing) for thing, _ in referred().values()}
    missing = sorted(name for name, thing in wanted.items() if id(thing) not in there and name not in BEHIND_OTHERS)
    assert not missing, f"docs/reference/ does not show {', '.join(missing)}"


@pytest.mark.parametrize(
    ("name", "function"), functions_in_the_reference(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_docstring_names_every_parameter(name: str, function: FunctionType) -> None:
    text = inspect.getdoc(function) or ""
    free = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    own = [p.name for p in inspect.signature(function).parameters.values() if p.kind not in free]
    missing = [word for word in own if word not in {"self", "cls"} and not re.search(rf"\b{word}\b", text)]
    assert text, f"{name} has no docstring"
    assert not missing, f"the docstring of {name} says nothing of {', '.join(missing)}"


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^(`{3,}).*?^\1", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    missing = [link for link in LINK.findall(prose) if not (page.parent / link).exists()]
    assert not missing, f"{page.relative_to(ROOT)} links to {missing}"
