"""Compiling ahead in several processes: what is told, and that no process outlives whatever ends the wait."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from accel.cli import ahead
from accel.machine import host

TELLS = "print('timing.engine.run', flush=True); print('timing.count.count_work', flush=True)"
HANGS = "import time; print('started', flush=True); time.sleep(600)"
DIES = "import os; print('half', flush=True); os.abort()"


class Log:
    """What compile_ahead did: engines exercised here, names heard, states told, processes started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, child: str, *, cores: int = 2, empty: bool = True) -> None:
        self.here: list[str] = []
        self.heard: list[str] = []
        self.states: list[bool] = []
        self.processes: list[subprocess.Popen[str]] = []
        self.failure: BaseException | None = None
        monkeypatch.setattr(ahead, "_CHILD", child.replace("{", "{{").replace("}", "}}"))
        monkeypatch.setattr(ahead, "cores", lambda: cores)
        monkeypatch.setattr(ahead, "exercise", self.exercise)
        monkeypatch.setattr(host, "nothing_compiled", lambda: empty)
        start = subprocess.Popen

        def popen(*args: Any, **kwargs: Any) -> Any:
            self.processes.append(start(*args, **kwargs))
            return self.processes[-1]

        monkeypatch.setattr(subprocess, "Popen", popen)

    def exercise(self, engine: str) -> None:
        self.here.append(engine)
        if self.failure is not None:
            raise self.failure

    def go(self, *engines: str) -> None:
        ahead.compile_ahead(engines, self.heard.append, at_work=self.states.append)


def test_the_first_engine_here_the_second_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(monkeypatch, TELLS)
    log.go("machine", "timing", "check")
    assert log.here == ["machine", "check"]
    assert log.heard == ["timing.engine.run", "timing.count.count_work"]
    assert log.states == [True, False]
    assert [process.returncode for process in log.processes] == [0]


def test_a_process_that_dies_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(monkeypatch, DIES)
    log.go("machine", "timing")
    assert (log.here, log.states) == (["machine"], [True, False])
    assert log.processes[0].returncode not in (0, None)


def test_an_interrupt_ends_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(monkeypatch, HANGS, cores=8)
    log.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        log.go("machine", "timing", "check")
    assert len(log.processes) == 2
    assert all(process.returncode is not None for process in log.processes), "killed and waited for: no zombie"
    assert log.states == [True, False]


def test_no_process_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(monkeypatch, TELLS)

    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    log.go("machine", "timing")
    assert (log.here, log.states) == (["machine"], [True, False])


@pytest.mark.parametrize(
    ("engines", "cores", "empty"),
    [(("machine", "timing"), 1, True), (("timing",), 2, True), (("machine", "timing"), 2, False)],
)
def test_nothing_to_gain_nothing_done(
    monkeypatch: pytest.MonkeyPatch, engines: tuple[str, ...], cores: int, empty: bool
) -> None:
    log = Log(monkeypatch, TELLS, cores=cores, empty=empty)
    log.go(*engines)
    assert (log.here, log.processes, log.states) == ([], [], [])


def test_a_process_ends_with_its_parent() -> None:
    command = [sys.executable, "-c", "from accel.cli import ahead; print('up', flush=True); ahead._end_with_parent()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        assert child.poll() is None
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(60) == 1
