"""Every kernel of the library goes through the battery on its examples: whoever registers one is tested here."""

from __future__ import annotations

from typing import Any

import pytest

from accel.kernels.catalog import CATALOG, library_kernel
from accel.testing import kernel_property
from accel.testing import relations as r

# What is true of a kind beside what is asked of all: relations of plain problems (no epilogue, no split sums).
RELATIONS: dict[str, tuple[Any, ...]] = {
    "matmul": (
        r.scale_pow2("a"), r.negate("b"), r.linear("a"), r.linear("b"), r.one_hot("b"),
    ),
}  # fmt: skip


def lessons() -> dict[tuple[str, str], str]:
    """The first catalog name of every kernel, by lesson and kind."""
    found: dict[tuple[str, str], str] = {}
    for name, entry in CATALOG.items():
        found.setdefault((entry.lesson, entry.kind), name)
    return found


def examples() -> list[Any]:
    return [
        pytest.param(name, problem, id=problem.label.replace(" ", "-"))
        for name in lessons().values()
        for problem in library_kernel(name).examples
    ]


@pytest.mark.parametrize(("name", "problem"), examples())
def test_an_example_goes_through_the_battery(name: str, problem: Any) -> None:
    kernel_property(name, schedules=3, cases=[problem])()


@pytest.mark.parametrize("name", CATALOG)
def test_a_name_of_the_catalog_has_examples(name: str) -> None:
    preset = CATALOG[name].preset
    kernel = library_kernel(name)
    assert [e for e in kernel.examples if all(getattr(e, field) == value for field, value in preset.items())]


@pytest.mark.parametrize("name", ["cast", "sgd", "dropout", "cross_entropy", "grad_norm", "amax"])
def test_all_examples_at_once_have_seeds_of_their_own(name: str) -> None:
    """What is random is random in the definition too, and inputs that should not be given are answered."""
    held = kernel_property(name, schedules=1).property
    for stage in ("exact", "reference", "special"):
        held.stage(stage)


@pytest.mark.parametrize("kind", RELATIONS)
def test_relations_of_a_kind(kind: str) -> None:
    name = next(n for n, entry in CATALOG.items() if entry.kind == kind)
    plain = [e for e in library_kernel(name).examples if e.macs and e == type(e).parse(_sizes(e))]
    assert plain
    held = kernel_property(name, relations=RELATIONS[kind], cases=plain).property
    for relation in held.relations:
        held.stage(relation)


def _sizes(problem: Any) -> str:
    return ",".join(str(getattr(problem, name)) for name in type(problem).sizes())
