"""The door of the command line: verbs by name, one line for every error, exit codes, quiet ends."""

from __future__ import annotations

import codecs
import errno
import importlib
import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from types import FrameType, TracebackType

import click

from accel import __version__
from accel.errors import AccelError, AssemblyError, CapacityError, InternalError, nearest

__all__ = ["VERBS", "main"]

OK, FINDINGS, BAD_INPUT, BROKEN, INTERRUPTED, PIPE_CLOSED, TERMINATED = 0, 1, 2, 70, 130, 141, 143

# Verb -> module that defines a command of that name, in the order of `accel --help`.
VERBS = {
    "demo": "accel.cli.demo",
    "run": "accel.cli.run",
    "bench": "accel.cli.bench",
    "check": "accel.cli.check",
    "sweep": "accel.cli.sweep",
    "report": "accel.cli.report",
    "asm": "accel.cli.assembly",
    "disasm": "accel.cli.assembly",
    "chips": "accel.cli.catalogs",
    "gpus": "accel.cli.catalogs",
    "kernels": "accel.cli.kernels",
    "isa": "accel.cli.catalogs",
    "warm": "accel.cli.host",
    "doctor": "accel.cli.host",
}
_interrupted = threading.Event()  # Ctrl-C was pressed, or SIGTERM came
GRACE_S = 1.0  # compiled code sees neither: after this long without an end the process is ended for it
_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class _Terminated(KeyboardInterrupt):
    """SIGTERM: ends like Ctrl-C, so that what is half written is taken away, with the exit code that a shell gives."""


class _Verbs(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click calls it so
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - Click calls it so
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(VERBS[cmd_name]), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            hint = nearest(args[0], VERBS) or f"; use one of {', '.join(VERBS)}"
            raise click.UsageError(f"unknown command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)


@click.command(
    cls=_Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Results go to stdout, progress and errors to stderr. Exit codes: 0 ok, 1 findings or a failed check, "
    "2 bad input, 130 interrupted.",
)
@click.version_option(__version__, prog_name="accel", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")
@click.pass_context
def _cli(ctx: click.Context, debug: bool) -> int:
    """Write, run, check and time kernels for tile-based training chips, and compare them with GPUs."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
    return OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv` (default: this process's) and return its exit code; never raises."""
    if argv is None:
        _end_on_second_thought()
        _spell_out_what_cannot_be_shown()
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args[: next((i for i, a in enumerate(args) if not a.startswith("-")), len(args))]
    try:
        with _cli.make_context("accel", list(args)) as ctx:
            code = _cli.invoke(ctx)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Exit as end:
        return _flushed(int(end.exit_code))
    except _Terminated:
        return TERMINATED
    except (KeyboardInterrupt, EOFError, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        return _fail(_usage(error), BAD_INPUT)
    except InternalError as error:
        return _internal(error, args, debug)
    except AccelError as error:
        if debug:
            traceback.print_exc()
        return _bad_input(error)
    except OSError as error:
        if error.errno == errno.EPIPE:
            return _pipe_closed()
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) and not debug:
            _silence_stdout()
            return _fail(f"cannot write the result: {error.strerror}; free some space or write elsewhere", BAD_INPUT)
        if error.errno == errno.ENOENT and not _folder_is_there():
            return _fail("the current folder is gone; change to one that is there", BAD_INPUT)
        return _internal(error, args, debug)
    except MemoryError:
        return _fail("out of memory on this machine; use a smaller shape or fewer --blocks", BAD_INPUT)
    except Exception as error:  # noqa: BLE001 - the last line of defence: whatever it is, the user sees one line
        return _internal(error, args, debug)
    return int(code or OK)


def _bad_input(error: AccelError) -> int:
    """Print an error of ours in one line, and below it the picture that some carry."""
    message, picture = str(error), ""
    if isinstance(error, AssemblyError):
        message, picture = f"{error.at}:{error.column}: {error.message}", error.excerpt
    elif isinstance(error, CapacityError):
        picture = error.allocation_map
    code = _fail(message, BAD_INPUT)
    if picture and sys.stderr is not None:
        sys.stderr.write(f"{picture.rstrip()}\n")
    return code


def _fail(message: str, code: int) -> int:
    """Print one line on stderr."""
    if sys.stderr is not None:
        text = " ".join(part.strip() for part in message.splitlines() if part.strip())
        try:
            sys.stderr.write(f"accel: error: {text}\n")
            sys.stderr.flush()
        except OSError:
            return code  # nobody can be told; the exit code still says it
    return code


def _usage(error: click.ClickException) -> str:
    """Return Click's complaint as one line with the nearest option and where to read on."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "accel"
    if isinstance(error, click.NoSuchOption):
        known = [opt for p in context.command.params for opt in p.opts] if context is not None else []
        hint = nearest(error.option_name, known) or f"; see {path} --help"
        return f"{path} has no option {error.option_name!r}{hint}"
    text = error.format_message().rstrip(".")
    text = text[:1].lower() + text[1:]
    return text if "; " in text else f"{text}; see {path} --help"


def _internal(error: BaseException, args: list[str], debug: bool) -> int:
    if _interrupted.wait(0.1):  # an interrupted compiler raises what it likes; the thread that knows may be a bit late
        return INTERRUPTED
    if debug:
        traceback.print_exception(error)
    where = _innermost(error.__traceback__)
    return _fail(
        f"internal error, please report it with this command: {type(error).__name__}: {error} ({where}); "
        f"accel --debug {' '.join(args)} shows the traceback",
        BROKEN,
    )


def _innermost(trace: TracebackType | None) -> str:
    place = "unknown place"
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{os.path.basename(code.co_filename)}:{trace.tb_lineno}"  # noqa: PTH119 - no Path needed for a name
        trace = trace.tb_next
    return place


def _flushed(code: int) -> int:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        return _pipe_closed()
    return code


def _pipe_closed() -> int:
    """End quietly: whoever read our output has seen enough."""
    _silence_stdout()
    return PIPE_CLOSED


def _silence_stdout() -> None:
    """Point stdout nowhere, so that the interpreter's own flush at exit has nothing to complain about."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        return  # stdout is no real file (a test's buffer): nothing is flushed at exit


def _folder_is_there() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - no Path needed for a question
    except OSError:
        return False
    return True


def _spell_out_what_cannot_be_shown() -> None:
    """Let an encoding without our characters (the C locale) show lines as -, bars as #, and the rest by their codes."""
    codecs.register_error("accel", _spelled_out)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="accel")


def _spelled_out(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown, end = codecs.backslashreplace_errors(error)
    text = error.object[error.start : end]
    if all("\u2500" <= char < "\u25a0" for char in text):
        shown = "".join("-" if char < "\u2580" else "#" for char in text)
    return shown, end


def _end_on_second_thought() -> None:
    """Make Ctrl-C and SIGTERM end a process that is deep in compiled code, which cannot see the KeyboardInterrupt."""

    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)

    def watch() -> None:
        while True:
            caught = os.read(read_end, 1)
            if caught and caught[0] in _CODES:
                _interrupted.set()
                time.sleep(GRACE_S)
                os._exit(_CODES[signal.Signals(caught[0])])

    threading.Thread(target=watch, daemon=True, name="interrupt").start()
