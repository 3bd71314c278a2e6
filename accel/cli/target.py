"""From KERNEL and its options to a program: a library kernel by name, or a kernel of the user's own file."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from accel.cli.arguments import KernelOptions, parse_mesh, parse_names, parse_numbers, parse_params, parse_tensors
from accel.errors import AccelError, InputError, Location, nearest

if TYPE_CHECKING:
    from accel.hardware import ChipSpec
    from accel.problem import Problem
    from accel.program import Kernel, Program

__all__ = ["Target", "assembled", "is_program", "load_function", "problem_of", "resolve", "tiling_of"]

LARGEST_TEXT = 1 << 30  # bytes of assembly
_LIBRARY_ONLY = ("--shape", "--dtype", "--out-dtype", "--trans-a", "--trans-b", "--variant", "--direction", "--stride",
                 "--pad", "--dilation", "--groups")  # fmt: skip
_USER_ONLY = ("--arg", "--mesh")


class Target(NamedTuple):
    """A built program, the text that names it, and its problem where it is a library kernel.

    below: what random inputs of a tensor stay below, from 0 on, where --arg says so. own: a kernel of the user's file
    and what it was built from.
    """

    label: str
    program: Program
    problem: Problem | None
    below: dict[str, int]
    own: tuple[Kernel, dict[str, Any]] | None = None


def is_file(kernel: str) -> bool:
    """Return whether KERNEL names a function in a file rather than a library kernel."""
    return ".py" in kernel or ":" in kernel or os.sep in kernel


def is_program(kernel: str) -> bool:
    """Return whether KERNEL names a program file or assembly, which are built already."""
    return kernel.endswith((".acc", ".asm"))


def assembled(file: str, chip: str | None = None) -> Program:
    """Return the program of an assembly file, for `chip` in place of the one it names."""
    from accel.files import read_whole
    from accel.program import assemble

    content = read_whole(file, LARGEST_TEXT, "assembly file")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no text in UTF-8 (byte {error.start}); give assembly, or a .acc file") from None
    return assemble(text, chip, source=file)


def _program_target(options: KernelOptions) -> Target:
    """Load or assemble a program; options that would build another one are refused."""
    from accel.program import load

    context = click.get_current_context(silent=True)
    chosen = context is not None and context.get_parameter_source("chip") is ParameterSource.COMMANDLINE
    given = (["--chip"] if chosen else []) + [name for name, there in options.given().items() if there]
    if given:
        raise InputError(f"{given[0]} does not go with {options.kernel}: it is a program already; leave it out")
    program = load(options.kernel) if options.kernel.endswith(".acc") else assembled(options.kernel)
    return Target(options.kernel, program, None, {})


def resolve(options: KernelOptions) -> Target:
    """Build the program that the options name; every mistake is an AccelError of one line."""
    from accel.hardware import chip as find_chip

    if is_program(options.kernel):
        return _program_target(options)
    spec = find_chip(options.chip)
    if is_file(options.kernel):
        return _user_target(options, spec)
    from accel.comparison import build

    problem = problem_of(options)
    program = build(problem, spec, resident=parse_names(options.resident), **tiling_of(options))
    return Target(problem.label, program, problem, {})


def problem_of(options: KernelOptions) -> Problem:
    """Return the problem of a library kernel's options; InputError names the nearest kernel or the missing option."""
    from accel import problem
    from accel.kernels.catalog import CATALOG, library_kernel

    if options.kernel not in CATALOG:
        hint = (
            nearest(options.kernel, CATALOG) or "; use one that accel kernels lists, file.py:fn, FILE.acc or FILE.asm"
        )
        raise InputError(f"unknown kernel {options.kernel!r}{hint}")
    _refuse(options, _USER_ONLY, f"{options.kernel} is a library kernel; give --shape and --param")
    entry = CATALOG[options.kernel]
    kind = problem.kind(entry.kind)
    if options.shape is None:
        example = library_kernel(options.kernel).examples[-1]
        sizes = ",".join(str(getattr(example, name)) for name in kind.sizes())
        raise InputError(f"{options.kernel} needs --shape {','.join(kind.sizes())}; give for example --shape {sizes}")
    fields = {key: value for key, value in parse_params(options.param).items() if key in kind.__struct_fields__}
    for name, value in _options_for(options).items():
        if name not in kind.__struct_fields__:
            raise InputError(f"--{name.replace('_', '-')} does not go with {options.kernel}: it has no {name}")
        if name in fields:
            raise InputError(f"{name} is given by --{name.replace('_', '-')} and by --param; give it once")
        fields[name] = value
    fixed = sorted(set(fields) & set(entry.preset))
    if fixed:
        raise InputError(f"{fixed[0]} of {options.kernel} is {entry.preset[fixed[0]]!r} and cannot be given")
    if "out_dtype" not in fields and "dtype" in fields and _default(kind, "out_dtype") == _default(kind, "dtype"):
        fields["out_dtype"] = fields["dtype"]
    return kind.parse(options.shape, **entry.preset, **fields)


def _options_for(options: KernelOptions) -> dict[str, Any]:
    """Return what the options of the command line say of a problem, by field."""
    found: dict[str, Any] = {name: True for name in ("trans_a", "trans_b") if getattr(options, name)}
    plain = ("dtype", "out_dtype", "direction", "groups")
    found |= {name: getattr(options, name) for name in plain if getattr(options, name) is not None}
    for name in ("stride", "pad", "dilation"):
        if getattr(options, name) is not None:
            found[name] = parse_numbers(f"--{name}", getattr(options, name))
    return found


def _default(kind: type[Problem], field: str) -> object:
    """Return the default of a field of a kind of problem, None where it has none or no such field."""
    optional = kind.__struct_fields__[len(kind.sizes()) :]
    return dict(zip(optional, kind.__struct_defaults__, strict=True)).get(field)


def tiling_of(options: KernelOptions) -> dict[str, Any]:
    """Return the tiling parameters of a library kernel's options: the parameters that are no fields of its problem."""
    from accel import problem
    from accel.kernels.catalog import CATALOG

    fields = problem.kind(CATALOG[options.kernel].kind).__struct_fields__
    tiling = {name: value for name, value in parse_params(options.param).items() if name not in fields}
    return {**({"version": options.variant} if options.variant else {}), **tiling}


def _refuse(options: KernelOptions, names: tuple[str, ...], reason: str) -> None:
    for name in names:
        if options.given()[name]:
            raise InputError(f"{name} does not go with {options.kernel}: {reason}")


def _user_target(options: KernelOptions, spec: ChipSpec) -> Target:
    from accel.lang import tensor
    from accel.program import Kernel

    _refuse(options, _LIBRARY_ONLY, "it is a kernel of your own; give its tensors by --arg and the rest by --param")
    shapes, mesh = parse_tensors(options.arg), parse_mesh(options.mesh)
    params: dict[str, Any] = dict(parse_params(options.param))
    kernel = load_function(options.kernel, "kernel")
    if not isinstance(kernel, Kernel):
        raise InputError(f"{options.kernel} is not a kernel; decorate the function with @accel.kernel")
    taken = set(shapes) & set(params)
    if taken:
        raise InputError(f"{min(taken)!r} is given by --arg and by --param; give it once")
    reserved = sorted({"chip", "mesh", "resident", "flops", "facts", "self"} & {*shapes, *params})
    if reserved:
        raise InputError(f"{reserved[0]!r} is a word of Kernel.build and no kernel argument; rename it in the kernel")
    arguments: dict[str, Any] = {name: tensor(shape, dtype) for name, (shape, dtype, _) in shapes.items()}
    below = {name: bound for name, (_, _, bound) in shapes.items() if bound is not None}
    case: dict[str, Any] = {**({"mesh": mesh} if mesh else {}), **arguments, **params}
    if options.resident is not None:
        case["resident"] = parse_names(options.resident)
    return Target(options.kernel, kernel.build(spec, **case), None, below, (kernel, case))


def load_function(where: str, what: str) -> Any:
    """Return the callable that "file.py:fn" names, running the file; InputError says what is wrong with either.

    The file's folder becomes importable, as it is for `python file.py`.
    """
    file, colon, name = where.rpartition(":")
    if not colon or not file or not name:
        raise InputError(f"{what} {where!r} names no function; give file.py:fn")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{what} file {file!r} does not exist; give the path of a Python file")
    module = _loaded(path, what)
    found = vars(module).get(name)
    if not _is_function(found):
        own = [key for key, value in vars(module).items() if _is_function(value) and _is_from(value, module)]
        hint = nearest(name, own) or f"; it has {', '.join(own) or 'no functions'}"
        raise InputError(f"{file} has no function {name!r}{hint}")
    return found


def _is_function(value: object) -> bool:
    from accel.program import Kernel

    return callable(value) or isinstance(value, Kernel)


def _is_from(value: object, module: ModuleType) -> bool:
    """Return whether the file itself defines `value`, so that hints do not list what it imports."""
    function = getattr(value, "fn", value)  # a kernel holds its function
    return getattr(function, "__module__", None) == module.__name__


def _loaded(path: Path, what: str) -> ModuleType:
    key = f"_accel_user_{path.stem}_{abs(hash(path.resolve()))}"
    if key in sys.modules:
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{what} file {str(path)!r} is not a Python file; give one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.modules[key] = module
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except AccelError as error:
        _forget(key, folder)
        if error.at is None:
            error.at = _line_in(path, error)
        raise
    except (Exception, SystemExit) as error:
        _forget(key, folder)
        raise InputError(
            f"running the {what} file raised {type(error).__name__}: {error}; it must load without errors",
            at=_line_in(path, error),
        ) from error
    return module


def _forget(key: str, folder: str) -> None:
    del sys.modules[key]
    sys.path.remove(folder)


def _line_in(path: Path, error: BaseException) -> Location:
    """Return the last line of the user's file that the error passed through."""
    if isinstance(error, SyntaxError) and error.lineno:
        return Location(str(path), error.lineno)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename).name == path.name and frame.lineno]
    return Location(str(path), own[-1] if own else 1)
