"""Every kernel of the catalog on nodes with little SRAM: a program with the right bits, or one error that says why."""

from __future__ import annotations

import re
from typing import Any

import pytest

import accel
from accel.errors import AccelError, CapacityError, InputError, UnsupportedError
from accel.kernels.catalog import CATALOG, library_kernel
from accel.testing import kernel_property


def scarce(size: int) -> Any:
    return accel.chip("mini").replace(**{"node.sram_bytes": size})


def examples(name: str) -> list[Any]:
    preset = CATALOG[name].preset
    return [p for p in library_kernel(name).examples if all(getattr(p, f) == v for f, v in preset.items())]


def refusal(kernel: Any, chip: Any, problem: Any, **options: Any) -> AccelError | None:
    try:
        kernel.program(chip, problem, **options)
    except AccelError as error:
        return error
    return None


@pytest.mark.parametrize("size", [16_384, 2_048])
@pytest.mark.parametrize("name", CATALOG)
def test_little_sram_is_enough_or_refused_in_one_line(name: str, size: int) -> None:
    chip, kernel = scarce(size), library_kernel(name)
    tried = 0
    for problem in examples(name):
        error = refusal(kernel, chip, problem)
        if error is not None:
            text = str(error)  # without a line, which would be one of the library
            assert isinstance(error, CapacityError)
            assert text.startswith(f"{problem.label} does not fit mini: "), text
            assert re.search(rf"; raise node\.sram_bytes \({size:,}\) of the chip, or \w+", text) or (
                "; raise node.semaphores of the chip, or" in text
            ), text
            assert "\n" not in text
            continue
        if not tried:  # one of those that fit is run against the definition
            kernel_property(name, cases=[problem], chips=[chip]).property.stage("reference")
        tried += 1


def test_the_parameters_that_were_given_are_the_way_out() -> None:
    with pytest.raises(CapacityError, match=r"relu 1000 .*; raise node\.sram_bytes \(16,384\) of the chip, or .*block"):
        accel.kernels.elementwise.build(scarce(16_384), size=1000, block=8192)


def test_what_lacks_is_not_always_sram() -> None:
    chip = accel.chip("mini").replace(**{"node.semaphores": 2})
    with pytest.raises(CapacityError, match=r"^matmul .* does not fit mini: semaphore .*; raise node\.semaphores of"):
        accel.kernels.matmul.build(chip, m=64, n=64, k=64)


@pytest.mark.parametrize("name", CATALOG)
def test_chips_go_by_name(name: str) -> None:
    kernel, problem = library_kernel(name), examples(name)[0]
    by_name, by_chip = (kernel.program(chip, problem).isa for chip in ("mini", accel.chip("mini")))
    assert by_name.code.tobytes() == by_chip.code.tobytes()
    with pytest.raises(AccelError, match="nimi"):
        kernel.program("nimi", problem)


@pytest.mark.parametrize("name", CATALOG)
def test_resident_operands_are_taken_or_named(name: str) -> None:
    kernel, problem = library_kernel(name), examples(name)[0]
    operand = next(iter(problem.operands))
    error = refusal(kernel, "mini", problem, resident=operand)
    if error is None:
        program = kernel.program("mini", problem, resident=operand)
        assert next(t for t in program.isa.tensors if t.name == operand).resident
    else:
        assert isinstance(error, UnsupportedError)
        assert re.search(rf"\b{operand}\b", str(error)), error
    with pytest.raises((InputError, UnsupportedError), match="nothing_like_it"):
        kernel.program("mini", problem, resident="nothing_like_it")


@pytest.mark.parametrize("name", CATALOG)
def test_parameters_of_tilings_are_known_or_refused(name: str) -> None:
    kernel, problem = library_kernel(name), examples(name)[0]
    with pytest.raises(InputError, match="no_such_tile"):
        kernel.program("mini", problem, no_such_tile=3)
