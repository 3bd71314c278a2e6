"""Program files of other versions and with damaged headers: refused in words of the format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

import accel
from accel.errors import ProgramError
from accel.isa import container
from accel.kernels import matmul


@pytest.fixture(scope="module")
def program() -> accel.Program:
    return matmul.build("mini", m=40, n=24, k=48)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda h: h.replace(b'"rows":4', b'"rows":"4"'), "a header with something else than a whole number at rows"),
        (lambda h: h.replace(b'"marks":[]', b'"marks":[7]'), "something else than text at marks[0]"),
        (lambda h: h.replace(b'"marks":[],', b""), "a header with no field 'marks' as a whole"),
        (lambda h: h.replace(b'"marks":[]', b'"marks":[],"extra":1'), "an unknown field 'extra' as a whole"),
        (lambda h: b"?" + h[1:], "a header with a mistake as a whole"),
        (lambda h: h.replace(b"matmul", b"mat\xffmul"), "a header that is no JSON text"),
        (lambda h: h.replace(b'"format_version":2', b'"format_version":3'), "format version 3, this package reads 2"),
    ],
)
def test_a_header_that_is_wrong_is_named_in_words_of_the_format(
    program: accel.Program, change: Callable[[bytes], bytes], text: str
) -> None:
    image = container.to_bytes(program.isa)
    length = int.from_bytes(image[8:16], "little")
    header = change(image[16 : 16 + length])
    assert header != image[16 : 16 + length]
    body = image[:8] + len(header).to_bytes(8, "little") + header + image[16 + length : -32]
    with pytest.raises(ProgramError) as caught:
        container.from_bytes(body + hashlib.sha256(body).digest(), "p.acc")
    assert str(caught.value).startswith("p.acc has ")
    assert text in str(caught.value)
    assert "; " in str(caught.value)


def test_a_file_of_version_1_is_refused() -> None:
    """tests/golden/version-1.acc was written by the last package of that version: tests.programs.copy_program()."""
    path = Path(__file__).parent / "golden" / "version-1.acc"
    with pytest.raises(ProgramError) as caught:
        accel.load(path)
    assert str(caught.value) == f"{path} has format version 1, this package reads 2; build it again"
