"""A sweep in the hands of someone who means it harm, or mistypes: one short printable line, soon, and no traceback."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import accel
from accel.errors import InputError, SpecError
from accel.sweep import Space
from accel.sweep.export import check
from accel.sweep.store import Store

MATMUL: dict[str, Any] = {
    "problem": {"kind": "matmul", "m": 64, "n": 48, "k": 32}, "chip": {"base": "mini"}, "axes": {"kernel.bk": [32, 64]},
}  # fmt: skip
LONG = "x" * 5000


def refused(data: dict[str, Any]) -> str:
    """Return the error of a space, which is one printable line that fits on a screen."""
    with pytest.raises(SpecError) as error:
        Space.from_dict({**MATMUL, **data})
    text = str(error.value)
    assert text.isprintable()
    assert len(text) < 600
    return text


@pytest.mark.parametrize(
    "name", [LONG, f"kernel.{LONG}", f"problem.{LONG}", f"ports.*.{LONG}", "mesh.holes." + "9" * 5000]
)
def test_a_name_that_no_line_can_hold_is_refused_wherever_it_stands(name: str) -> None:
    rule = f"has a name of {len(name):,} characters; give one of at most 100"
    assert rule in refused({"axes": {name: [1, 2]}})
    assert rule in refused({"constraints": {name: "1 < 2"}})
    assert rule in refused({"zip": {name: ["kernel.bk", "kernel.bm"]}})
    assert rule in refused({"limits": {name: 1}})
    assert rule in refused({name: 1})
    assert rule in refused({"chip": {name: 1}})
    assert "no axis" in refused({"zip": {"a": [name, "kernel.bk"]}})


@pytest.mark.parametrize("name", ["a" * 1900, "a." * 900 + "b", "node." + "c" * 100])
def test_a_name_that_no_line_can_hold_is_refused_in_an_expression(name: str) -> None:
    assert "no name has more than 100" in refused({"constraints": {"c": f"1 < {name}"}})
    assert "no name has more than 100" in refused({"kernel": {"bm": f"= {name}"}})


@pytest.mark.parametrize("sign", ["\n", "\0", "\x1b[2J", "\u202e", "\u2028", "\ud7ff"])
def test_a_name_that_would_change_what_the_terminal_shows_is_refused_as_code(sign: str) -> None:
    for data in ({"axes": {f"kernel.b{sign}": [1]}}, {"constraints": {sign: "1 < 2"}}, {sign: 1}, {"chip": {sign: 1}}):
        assert f"{sign!a}"[1:-1] in refused(data)


@pytest.mark.parametrize("value", [LONG, [LONG], [["w", LONG]]])
def test_text_that_no_line_can_hold_is_refused(value: Any) -> None:
    assert "at most 1,000" in refused({"chip": {"base": "mini", "name": value}})
    axis = value if isinstance(value, list) else [value]
    assert "at most 1,000" in refused({"axes": {"kernel.version": axis}})


@pytest.mark.parametrize("value", [3, True, 0.5, [1], ["w", 2], [["w"]], "= 3"])
def test_resident_operands_are_names(value: Any) -> None:
    assert "[kernel] resident = " in refused({"kernel": {"resident": value}})
    if value != "= 3":
        told = refused({"axes": {"kernel.resident": [value]}})
        assert "[axes] kernel.resident" in told
        assert "operand" in told


def test_an_empty_table_is_no_value_and_never_the_default() -> None:
    assert "[chip] base is an empty table" in refused({"chip": {"base": {}}})
    assert "[kernel] bm is an empty table" in refused({"kernel": {"bm": {}}})
    assert "[problem] m is an empty table" in refused({"problem": {"kind": "matmul", "m": {}, "n": 8, "k": 8}})


def test_a_loss_that_there_is_not_cannot_be_the_objective() -> None:
    assert "did you mean 'loss.wait_memory'" in refused({"objective": "loss.wait_memry"})
    assert "did you mean 'loss.useful'" in refused({"objective": "loss."})
    assert Space.from_dict({**MATMUL, "objective": "-loss.useful"}).objective == "-loss.useful"


def test_an_expression_with_spaces_before_it_is_no_text_of_an_axis() -> None:
    assert "an axis has plain values" in refused({"axes": {"kernel.version": ["  = 3"]}})


def test_a_constraint_of_2000_characters_is_a_short_reason() -> None:
    long = Space.from_dict({**MATMUL, "constraints": {"c": "1 < " * 480 + "1"}})
    legal, broken = long.legal([0, 1])
    assert not legal.any()
    assert len(long.rule(int(broken[0]))) < 200
    with pytest.raises(Exception, match=r"^c: '1 < 1 .*\.\.\.' does not hold$"):
        long.resolve(0)


@pytest.mark.parametrize(
    "given",
    [
        {"from": 1.0, "to": 2.0, "count": 1_000_000},
        {"from": 1e-300, "to": 1e300, "count": 1_000_000, "scale": "log"},
        {"from": 0.1, "to": 100_000.0, "step": 0.1},
        {"from": 1, "to": 1 << 61, "count": 1_000_000, "multiple": 4},
    ],
)
def test_the_longest_axes_keep_their_ends_and_rise(given: dict[str, Any]) -> None:
    (axis,) = Space.from_dict({**MATMUL, "axes": {"kernel.bk": given}}).axes
    assert len(axis.values) == 1_000_000
    assert (axis.values[0], axis.values[-1]) == (
        given["from"] // 4 * 4 if "multiple" in given else given["from"],
        given["to"],
    )
    assert all(one < two for one, two in zip(axis.values, axis.values[1:], strict=False))  # type: ignore[operator]


def test_the_number_of_too_many_values_is_not_written_out() -> None:
    assert "has more than 2^62 values" in refused({"axes": {"kernel.bk": {"from": 0.0, "to": 1e308, "step": 1e-308}}})


@pytest.mark.parametrize(
    ("low", "high", "count"), [(50.0, 800.0, 9), (0.1, 7.3, 41), (1.0, 10.0, 1001), (3e-300, 2e300, 77)]
)
def test_long_ranges_have_the_values_of_exact_arithmetic(low: float, high: float, count: int) -> None:
    def values(scale: str) -> list[float]:
        data = {**MATMUL, "axes": {"kernel.bk": {"from": low, "to": high, "count": count, "scale": scale}}}
        return [float(value) for value in Space.from_dict(data).axes[0].values]  # type: ignore[arg-type]

    first, last = Fraction(repr(low)), Fraction(repr(high))
    assert values("linear") == [float(first + (last - first) * Fraction(i, count - 1)) for i in range(count)]
    with localcontext(Context(prec=80)):
        ratio = (Decimal(last.numerator) / last.denominator) / (Decimal(first.numerator) / first.denominator)
        exact = [Decimal(repr(low)) * ratio ** (Decimal(i) / (count - 1)) for i in range(count)]
    assert values("log") == [float(value) for value in exact]


def damaged(path: Path, old: bytes, new: bytes) -> Path:
    """Return a copy of a store with some bytes changed, to as many others."""
    content = path.read_bytes()
    assert old in content
    assert len(old) == len(new)
    target = path.with_name("damaged.db")
    target.write_bytes(content.replace(old, new))
    return target


def used(path: Path) -> None:
    """Do all that one does with a store."""
    with Store.open(path) as store:
        store.meta()
        store.rows()
        store.best()
    accel.sweep({**MATMUL, "fidelity": "bound"}, store=path, executor=Here())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'[{"name"', b'[{"nam\xff"'),
        (b'[{"name"', b'[{"nome"'),
        (b'[{"name"', b'{[""""""'),
        (b'"json": false', b'"jsin": false'),
        (b"sources", b"sourced"),
        (b"axes", b"axis"),
        (b'"workers"', b'"workers\x00'),
        (b"CREATE TABLE points", b"CREATE TABLE point\xff"),
        (b"CREATE TABLE meta (name TEXT", b"CREATE TABLE meta (nome TEXT"),
    ],
)
def test_a_store_whose_texts_are_damaged_is_one_short_line(tmp_path: Path, old: bytes, new: bytes) -> None:
    accel.sweep({**MATMUL, "fidelity": "bound"}, store=tmp_path / "a.db", executor=Here())
    path = damaged(tmp_path / "a.db", old, new)
    with pytest.raises(InputError, match=r"Cannot (read|write) sweep store") as error:
        used(path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300 + len(str(path))


def test_a_name_that_sqlite_takes_for_more_than_a_file_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "file:a.db?mode=ro", "a b#?.db"):
        accel.sweep({**MATMUL, "fidelity": "bound"}, store=name, executor=Here())
        assert Path(name).is_file()
        assert len(accel.load_sweep(name)) == 2


@pytest.mark.parametrize("name", ["a\0b", "x" * 3000 + ".db"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"Cannot use '.* as a sweep store: .*; give the path of a file") as error:
        accel.sweep(MATMUL, store=name, executor=Here())
    assert len(str(error.value)) < 400


def test_a_table_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, rule in ((tmp_path / "no" / "a.csv", "there is no folder"), (tmp_path, "no known format")):
        with pytest.raises(InputError, match=rule):
            check(path)
    with monkeypatch.context() as patch:
        patch.setattr("accel.sweep.export.os.access", lambda *_: False)  # as it is for all but root
        with pytest.raises(InputError, match="may not be written; use another"):
            check(tmp_path / "a.csv")
    check(tmp_path / "a.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        check(tmp_path / "d.csv")


class Here(Executor):
    """Runs what it is given at once."""

    def submit(self, work: Any, /, *args: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(self.answer(work(*args, **more)))
        except OSError as error:
            future.set_exception(error)
        return future

    def answer(self, outcome: Any) -> Any:
        return outcome


class Odd(Here):
    """Gives something else than it was asked for."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def answer(self, outcome: Any) -> Any:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


@pytest.mark.parametrize("given", [None, 3, [], {}, {"status": "fine"}, OSError("the line\nis cut")])
def test_what_an_executor_makes_up_is_a_failed_point_of_one_line(given: Any) -> None:
    result = accel.sweep(MATMUL, executor=Odd(given))
    assert result.counts == {"failed": 2}
    assert {row["reason"] for row in result.rows} <= {
        "OSError: the line is cut", f"the executor gave {type(given).__name__}, no outcome of a point"
    }  # fmt: skip


class Closed(Here):
    """Takes some jobs, then raises what no executor should."""

    def __init__(self, takes: int) -> None:
        self.takes = takes

    def submit(self, work: Any, /, *args: Any, **more: Any) -> Future[Any]:
        self.takes -= 1
        if self.takes < 0:
            raise OSError("the line is cut")
        return super().submit(work, *args, **more)


class Straight(Executor):
    """Knows no futures."""

    def submit(self, work: Any, /, *args: Any, **more: Any) -> Any:
        return work(*args, **more)


class Cancels(Executor):
    """Cancels everything."""

    def submit(self, work: Any, /, *args: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        assert future.cancel()
        future.set_running_or_notify_cancel()
        return future


@pytest.mark.parametrize(
    ("executor", "rule"),
    [
        (Closed(0), "Closed: the line is cut"),
        (Closed(2), "Closed: the line is cut"),
        (ThreadPoolExecutor, "missing 1 required"),
        (Straight(), "its submit.. gave dict, no Future"),
        (Cancels(), "The executor has given up .CancelledError"),
    ],
)
def test_an_executor_that_is_none_is_one_line(executor: Any, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        accel.sweep(MATMUL, executor=executor)


def test_who_is_told_of_progress_can_be_called() -> None:
    with pytest.raises(InputError, match="Cannot tell 3 of progress"):
        accel.sweep(MATMUL, progress=3, executor=Here())  # type: ignore[arg-type]
