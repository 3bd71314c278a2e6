"""A failing trial made small: sizes first, then numbers; what is left is what a person has to look at."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from accel.errors import AccelError
from accel.testing.subjects import NotApplicable
from accel.testing.trials import OtherShape, Trial, build_trial

__all__ = ["shrunk"]

SECONDS = 20.0  # for one failure; what is reached by then is shown


def shrunk(trial: Trial, fails: Callable[[Trial], str | None], seconds: float = SECONDS) -> tuple[Trial, str]:
    """Return a small trial that still fails, and what fails in it.

    fails: the question, as `Stage.ask`. Simpler kinds of inputs are tried first, then every size smaller wherever it
    stands in the case (so that what was equal stays equal), then zeros in place of numbers. Wrong numbers do not shrink
    to a wrong shape: a case that the reference was not written for says nothing about the kernel.
    """
    end = time.monotonic() + seconds

    text = fails(trial)
    assert text is not None
    shape = isinstance(text, OtherShape)

    def ask(other: Trial) -> str | None:
        try:
            found = fails(other)
        except (NotApplicable, AccelError):
            return None
        return found if isinstance(found, OtherShape) == shape else None

    trial, text = _simpler_kind(trial, text, ask)  # first, as one hot number lies elsewhere in a smaller array
    going = True
    while going and time.monotonic() < end:
        going = False
        for case in trial.subject.smaller(trial.case):
            try:
                other = build_trial(trial.subject, case, trial.chip, trial.kind, trial.seed)
            except AccelError:
                continue
            found = ask(other)
            if found is not None:
                trial, text, going = other, found, True
                break
            if time.monotonic() > end:
                break
    return _simpler_numbers(trial, text, ask, end)


def _simpler_kind(trial: Trial, text: str, ask: Callable[[Trial], str | None]) -> tuple[Trial, str]:
    for kind in ("ones", "counting"):
        if trial.kind == kind:
            break
        other = build_trial(trial.subject, trial.case, trial.chip, kind, trial.seed)
        found = ask(other)
        if found is not None:
            return other, found
    return trial, text


def _simpler_numbers(trial: Trial, text: str, ask: Callable[[Trial], str | None], end: float) -> tuple[Trial, str]:
    for name in list(trial.inputs):
        array = np.asarray(trial.inputs[name])
        if array.size > 256:
            continue
        for place in range(array.size):
            if time.monotonic() > end:
                return trial, text
            changed: Any = np.array(trial.inputs[name])
            if not changed.reshape(-1)[place]:
                continue
            changed.reshape(-1)[place] = 0
            other = trial.with_inputs({**trial.inputs, name: changed})
            found = ask(other)
            if found is not None:
                trial, text = other, found
    return trial, text
