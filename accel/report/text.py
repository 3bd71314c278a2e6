"""A report without pictures: Markdown for people, tidy CSV for other programs."""

from __future__ import annotations

from collections.abc import Sequence

from accel.report import summaries, views
from accel.report.sheet import Cell, Sheet, csv_text, markdown_text
from accel.report.subject import Subject

__all__ = ["markdown", "records", "sheets_of", "tables"]

WORDS_ONLY = ("nodes", "links")  # figures whose numbers are too many for a page of Markdown


def markdown(subjects: Sequence[Subject], *, title: str) -> str:
    """Return the report as Markdown: what each figure shows in words, and the tables that people read."""
    parts = [f"# {markdown_text(title)}"]
    if len(subjects) > 1:
        parts += ["## All of them", summaries.overview(subjects).markdown()]
    for subject in subjects:
        parts += [f"## {markdown_text(subject.label)}", summaries.headline(subject).markdown()]
        gpus = summaries.gpus(subject)
        if gpus is not None:
            parts += [f"### {gpus.title}", gpus.markdown()]
        for figure in views.figures(subject):
            parts += [f"### {figure.title}", markdown_text(figure.alt)]
            if figure.name not in WORDS_ONLY:
                parts.append(figure.sheet.markdown())
        for sheet in (summaries.lines(subject), summaries.traffic(subject)):
            if sheet.rows:
                parts += [f"### {sheet.title}", sheet.markdown()]
    notes = summaries.notes(subjects)
    if notes is not None:
        parts += [f"## {notes.title}", notes.markdown()]
    for chip in dict.fromkeys(s.program.chip for s in subjects):
        sheet = summaries.chip_facts(chip)
        parts += [f"## {markdown_text(sheet.title)}", markdown_text(chip.description), sheet.markdown()]
    made = summaries.provenance(subjects)
    return "\n\n".join((*(part for part in (*parts, f"## {made.title}", made.markdown()) if part), ""))


def sheets_of(subject: Subject) -> tuple[Sheet, ...]:
    """Return every table of one subject, those of its figures included."""
    found = [summaries.headline(subject), summaries.gpus(subject), *(f.sheet for f in views.figures(subject)),
             summaries.lines(subject), summaries.traffic(subject)]  # fmt: skip
    return tuple(sheet for sheet in found if sheet is not None)


def tables(subjects: Sequence[Subject], *, title: str) -> dict[str, str]:
    """Return CSV texts by table name; subjects share a file for each table, told apart by its first column."""
    by_name: dict[str, list[tuple[str, Sheet]]] = {}
    for subject in subjects:
        for sheet in sheets_of(subject):
            by_name.setdefault(sheet.name, []).append((subject.label, sheet))
    for chip in dict.fromkeys(s.program.chip for s in subjects):
        by_name.setdefault("chip", []).append((chip.name, summaries.chip_facts(chip)))
    made = {name: csv_text(sheets) for name, sheets in by_name.items()}
    for sheet in (summaries.overview(subjects), summaries.provenance(subjects)):
        made[sheet.name] = csv_text([(title, sheet)], key="report")
    return made


def records(subject: Subject) -> dict[str, list[dict[str, Cell]]]:
    """Return every table of one subject as plain data by table name, for JSON."""
    chip = summaries.chip_facts(subject.program.chip)
    return {sheet.name: sheet.records() for sheet in (*sheets_of(subject), chip, summaries.provenance((subject,)))}
