"""Coverage-guided fuzzing by atheris: `python -m tests.fuzz.atheris_run program -max_total_time=600`.

The first argument is one of program, assembly, toml, csv; the others are libFuzzer's (a corpus folder, -runs=N, ...).
Install it first: `pip install atheris` (Linux, CPython; it is no dependency of this package).
"""

from __future__ import annotations

import sys

# The readers, which coverage should lead through. What Numba compiles must keep its bytecode.
READERS = [
    "accel.isa.container", "accel.isa.validate", "accel.isa.fitting", "accel.isa.reserved", "accel.isa.assembly",
    "accel.isa.disassembly", "accel.hardware", "accel.baselines.measured",
]  # fmt: skip


def main(argv: list[str]) -> int:
    """Fuzz one target; 2 with one line on stderr where atheris or the target is missing."""
    try:
        import atheris
    except ImportError:
        sys.stderr.write("Cannot fuzz by coverage because atheris is not installed; pip install atheris\n")
        return 2
    with atheris.instrument_imports(include=READERS):
        from tests.fuzz.targets import TARGETS
    if len(argv) < 2 or argv[1] not in TARGETS:
        sys.stderr.write(f"Cannot fuzz {' '.join(argv[1:2]) or 'nothing'}; name one of {', '.join(TARGETS)}\n")
        return 2
    target = TARGETS[argv[1]]

    def once(data: bytes) -> None:
        target(data)

    atheris.Setup([argv[0], *argv[2:]], once)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
