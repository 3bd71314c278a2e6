"""The battery of tests on a kernel of the user's own file: what `accel check` asks beside hazards."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.cli.output import say
from accel.errors import InputError

if TYPE_CHECKING:
    from accel.cli.target import Target

__all__ = ["Answer", "answers_of", "parse_bound", "parse_relations", "show_answers"]


class Answer(NamedTuple):
    """What one stage of the battery said: "ok", "failed" or "skipped", one line, and Python that shows a failure."""

    stage: str
    state: str
    text: str
    reproduction: str


def parse_relations(text: str | None) -> list[Any]:
    """Return the relations of "scale_pow2, permute(x=0, y=0)"; InputError for another form, name or option."""
    from accel.testing.relations import relation_of

    found = []
    for node in _elements(text):
        call = node if isinstance(node, ast.Call) else None
        name = call.func if call is not None else node
        if not isinstance(name, ast.Name):
            raise InputError(f"--relations {text!r} is no list of names; give for example 'scale_pow2, permute(x=0)'")
        relation = relation_of(name.id)
        try:
            args = [ast.literal_eval(a) for a in call.args] if call else []
            options = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords} if call else {}
        except ValueError:
            raise InputError(f"--relations {text!r}: options are names, numbers and texts in quotes") from None
        found.append(relation(*args, **options) if call else relation)
    return found


def parse_bound(text: str | None) -> Any:
    """Return the `bound=` of "1e-5", "sum_of_products(64)" or "file.py:fn"; InputError for anything else."""
    if text is None:
        return None
    terms = re.fullmatch(r"sum_of_products\(([0-9]{1,15})\)", text.replace(" ", ""), re.ASCII)
    if terms is not None:
        from accel.testing import sum_of_products

        return sum_of_products(int(terms[1]))
    try:
        number = float(text)
    except ValueError:
        if ".py:" not in text:
            raise InputError(f"--bound {text!r} is no bound; give a number, sum_of_products(N) or file.py:fn") from None
        from accel.cli.target import load_function

        return load_function(text, "bound")
    if not (math.isfinite(number) and number >= 0):
        raise InputError(f"--bound {text!r} is no distance; give a number from 0 on")
    return number


def _elements(text: str | None) -> list[ast.expr]:
    if text is None:
        return []
    try:
        tree = ast.parse(f"[{text}]", mode="eval").body
    except SyntaxError:
        raise InputError(f"--relations {text!r} is no list of names; give for example 'scale_pow2, negate'") from None
    assert isinstance(tree, ast.List)
    return tree.elts


def answers_of(target: Target, reference: Callable[..., Any] | None, bound: Any, relations: list[Any], domain: str,
               schedules: int, seed: int) -> Iterator[Answer]:  # fmt: skip
    """Yield what the stages of the battery say of the kernel and the arguments that a target was built from."""
    from accel.errors import AccelError, BoundsError
    from accel.testing import PropertyError, kernel_property

    assert target.own is not None
    kernel, case = target.own
    held = kernel_property(
        kernel, reference, relations, domain, max(1, schedules), cases=[case], chips=[target.program.chip], seed=seed,
        bound=bound, inputs=_bounded(target) if target.below else None,
    ).property  # fmt: skip
    for stage in held.stages:
        if stage == "hazards" or (stage == "schedules" and not schedules):
            continue
        try:
            held.stage(stage)
        except PropertyError as error:
            yield Answer(stage, "failed", error.text, error.reproduction)
        except BoundsError as error:
            error.message += _how_to_bound(target)
            raise
        except AccelError:
            raise
        else:
            reason = held.skipped.get(stage)
            yield Answer(stage, "ok", "", "") if reason is None else Answer(stage, "skipped", reason, "")


def _how_to_bound(target: Target) -> str:
    """Return how to say what a drawn index may be, if there are int32 inputs that nothing is said about."""
    free = [t for t in target.program.isa.tensors if t.is_input and t.dtype == "int32" and t.name not in target.below]
    sizes = [f"{t.name}=int32[{','.join(map(str, t.shape))}]" for t in free]
    return f"; inputs are drawn, and --arg '{sizes[0]}<N' draws them from 0 to N - 1" if sizes else ""


def _bounded(target: Target) -> Callable[..., dict[str, Any]]:
    """Return the function that makes the inputs whose numbers --arg bounds."""

    def inputs(rng: Any, **arrays: Any) -> dict[str, Any]:
        return {n: rng.integers(0, top, arrays[n].shape).astype(arrays[n].dtype) for n, top in target.below.items()}

    return inputs


def show_answers(label: str, answers: list[Answer], reference: bool) -> None:
    """Print one line a stage, and the Python that shows each failure."""
    wrong = [answer for answer in answers if answer.state == "failed"]
    well = sum(answer.state == "ok" for answer in answers)
    verdict = f"{len(wrong)} of {len(answers)} FAILED" if wrong else f"{well} of {len(answers)} asked, all well"
    say(f"battery of {label}: {verdict}")
    width = max((len(answer.stage) for answer in answers), default=0)
    for answer in answers:
        state = {"ok": "ok", "failed": "FAILED", "skipped": "skipped"}[answer.state]
        say(f"  {answer.stage:{width}}  {state}{': ' if answer.text else ''}{answer.text}")
    if not reference:
        say("  no reference: give an oracle with --ref file.py:fn")
    for answer in wrong:
        say(f"\nTo see {answer.stage}:\n")
        for line in answer.reproduction.splitlines():
            say(f"    {line}" if line else "")
