"""write_report: a program or a comparison as an HTML page, as Markdown, as tables and as pictures for papers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from accel.errors import InputError, UnsupportedError, nearest
from accel.files import write_folder, write_whole
from accel.report import page
from accel.report import text as plain_text
from accel.report.subject import Reportable, Subject, subjects_of

if TYPE_CHECKING:
    from accel.sweep.result import SweepResult
    from accel.sweep.store import Store

__all__ = ["FORMATS", "INSTALL", "check_plan", "plotly_source", "require_folder", "write_page", "write_report"]

SINGLE = {"html": (".html", ".htm"), "md": (".md", ".markdown")}  # formats of one file, with its endings
FORMATS = ("html", "md", "csv", "png", "svg")
NEEDS = {"html": "plotly", "png": "matplotlib", "svg": "matplotlib"}  # format -> package
INSTALL = "pip install 'accel-codesign[report]'"
FACTS = Sequence[tuple[str, str]]


def write_report(
    what: Reportable | Iterable[Reportable] | str | os.PathLike[str] | Store | SweepResult,
    path: str | os.PathLike[str] = "accel-report.html",
    *,
    formats: Iterable[str] | None = None,
    title: str | None = None,
    fidelity: str = "packet",
) -> tuple[Path, ...]:
    """Write a report on a Program, a Comparison of `accel.bench`, several of them, or a sweep; return its files.

    what: one of these, or an iterable of them; or a sweep: the path of its store, a Store, what `accel.sweep` returns
    (see `accel.report.sweeps.write_sweep`, which can also say what its figures show first). title: headline (default:
    what it is about). path: FILE.html or FILE.md;
    or, with `formats` of more than one file, a folder. formats: any of html (one self-contained page under 6 MB), md
    (the tables), csv (one tidy table a file), png and svg (each figure, by matplotlib); None takes it from the ending
    of `path`. fidelity: at which programs are timed. Files are written whole or not at all. Raises InputError for bad
    arguments or a place that cannot be written, UnsupportedError where plotly (html) or matplotlib (png, svg) is not
    installed.
    """
    if isinstance(what, str | os.PathLike) or type(what).__module__.startswith("accel.sweep."):
        from accel.report.sweeps import write_sweep

        return write_sweep(what, path, formats=formats, title=title)
    chosen, single = check_plan(path, formats)
    subjects = subjects_of(cast("Reportable", what), fidelity)
    headline = title or _title(subjects)
    contents: dict[str, bytes] = {}
    for name in chosen:
        contents |= _MAKERS[name](subjects, headline)
    if single:
        write_whole(path, next(iter(contents.values())), "report")
        return (Path(path),)
    return write_folder(path, contents, "report")


def write_page(
    subjects: Sequence[Subject], path: str | os.PathLike[str], *, title: str, script: str | None, facts: FACTS = (),
    advance: Callable[[], None] = lambda: None,
) -> Path:  # fmt: skip
    """Write the HTML page alone; without `script`, the source of Plotly, it has tables and no figures, and says so.

    advance is called after each subject: drawing its timeline repeats its run.
    """
    write_whole(
        path, page.render(subjects, title=title, script=script, facts=facts, advance=advance).encode(), "report"
    )
    return Path(path)


def plotly_source() -> str | None:
    """Return the source of Plotly's JavaScript, None where the package is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return None
    return str(get_plotlyjs())


def check_plan(path: str | os.PathLike[str], formats: Iterable[str] | None) -> tuple[tuple[str, ...], bool]:
    """Return the formats, each once, and whether `path` is their one file (else a folder), before any work is done.

    InputError for formats or a path that do not fit, UnsupportedError where a package is not installed.
    """
    chosen, single = _plan(path, formats)
    for name in chosen:
        if name in NEEDS and find_spec(NEEDS[name]) is None:
            raise UnsupportedError(f"Cannot write {name} because {NEEDS[name]} is not installed; use {INSTALL}")
    require_folder(path)
    if not single and Path(path).exists() and not Path(path).is_dir():
        raise InputError(
            f"cannot write report to {str(path)!r}: Not a folder; give a folder in a place that you may write to"
        )
    return chosen, single


def require_folder(path: str | os.PathLike[str]) -> None:
    """Raise InputError if the folder that a report goes into is not there or may not be written."""
    folder = Path(path).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        what = "may not be written" if folder.is_dir() else "does not exist"
        raise InputError(
            f"cannot write report to {str(path)!r}: its folder {what}; give a file in a folder that you may write to"
        )


def _plan(path: str | os.PathLike[str], formats: Iterable[str] | None) -> tuple[tuple[str, ...], bool]:
    try:
        ending = Path(path).suffix.lower()
    except TypeError:
        raise InputError(f"Cannot write a report to {path!r}; give the path of a file or a folder") from None
    if formats is None:
        found = next((name for name, endings in SINGLE.items() if ending in endings), None)
        if found is None:
            raise InputError(
                f"Cannot tell the format of the report from {str(path)!r}; use a name that ends in .html or .md, or "
                f"name formats among {', '.join(FORMATS)}"
            )
        return (found,), True
    chosen = tuple(dict.fromkeys((formats,) if isinstance(formats, str) else formats))
    for name in chosen:
        if name not in FORMATS:
            hint = nearest(str(name), FORMATS) or f"; use {', '.join(FORMATS)}"
            raise InputError(f"Cannot write a report as {name!r}: no such format{hint}")
    if not chosen:
        raise InputError(f"Cannot write a report in no format; use {', '.join(FORMATS)}")
    if len(chosen) == 1 and ending in SINGLE.get(chosen[0], ()):
        return chosen, True
    if any(ending in endings for endings in SINGLE.values()):
        raise InputError(
            f"Cannot write {', '.join(chosen)} to {str(path)!r} because that names one file of another kind; "
            "use the name of a folder"
        )
    return chosen, False


def _title(subjects: Sequence[Subject]) -> str:
    chips = ", ".join(dict.fromkeys(s.program.chip.name for s in subjects))
    return f"{subjects[0].label} on {chips}" if len(subjects) == 1 else f"{len(subjects)} programs on {chips}"


def _html(subjects: Sequence[Subject], title: str) -> dict[str, bytes]:
    return {"report.html": page.render(subjects, title=title, script=plotly_source()).encode()}


def _markdown(subjects: Sequence[Subject], title: str) -> dict[str, bytes]:
    return {"report.md": plain_text.markdown(subjects, title=title).encode()}


def _tables(subjects: Sequence[Subject], title: str) -> dict[str, bytes]:
    return {f"{name}.csv": content.encode() for name, content in plain_text.tables(subjects, title=title).items()}


def _pictures(kind: str, subjects: Sequence[Subject], title: str) -> dict[str, bytes]:
    from accel.report.papers import pictures

    return pictures(subjects, kind)


_MAKERS: dict[str, Callable[[Sequence[Subject], str], dict[str, bytes]]] = {
    "html": _html, "md": _markdown, "csv": _tables, "png": partial(_pictures, "png"), "svg": partial(_pictures, "svg"),
}  # fmt: skip
