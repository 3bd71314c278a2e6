"""Coverage-guided fuzzing by atheris: `python -m tests.fuzz.atheris_run program -max_total_time=600`.

The first argument is one of program, assembly, toml, csv; the others are libFuzzer's (a corpus folder, -runs=N, ...).
Install it first: `pip install atheris` (Linux, CPython; it is no dependency of this package).
"""

from __future__ import annotations

import sys


def main(argv: list[str]) -> int:
    """Fuzz one target; 2 with one line on stderr where atheris or the target is missing."""
    from tests.fuzz.targets import TARGETS

    if len(argv) < 2 or argv[1] not in TARGETS:
        sys.stderr.write(f"Cannot fuzz {argv[1:2]}; name one of {', '.join(TARGETS)}\n")
        return 2
    try:
        import atheris
    except ImportError:
        sys.stderr.write("Cannot fuzz by coverage because atheris is not installed; pip install atheris\n")
        return 2
    target = TARGETS[argv[1]]
    # The readers are what coverage should lead through; NumPy and compiled code only slow it down.
    for name in ("accel.isa.container", "accel.isa.validate", "accel.isa.fitting", "accel.isa.assembly",
                 "accel.isa.assembly_scan", "accel.isa.assembly_operands", "accel.isa.assembly_maps",
                 "accel.isa.assembly_roles", "accel.hardware.schema", "accel.baselines.measured"):  # fmt: skip
        module = sys.modules[name]
        for key, value in vars(module).items():
            if callable(value) and getattr(value, "__module__", None) == name and not isinstance(value, type):
                setattr(module, key, atheris.instrument_func(value))
    atheris.Setup([argv[0], *argv[2:]], target)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
