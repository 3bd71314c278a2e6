"""Write the golden cycle counts and the table of the README anew, and print every change for review."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from golden_cases import GOLDEN, PROGRAMS, README, TABLE_BEGIN, TABLE_END, golden, readme_table

ABOUT = (
    "Cycles of our own cycle model, kept so that no change of timing goes unseen; no evidence that it is right. "
    "Written by `python tests/golden/update.py`. A commit that changes a number says why in its message."
)


def main() -> None:
    """Time every program, print old -> new where they differ, and write the file and the table."""
    old = golden() if GOLDEN.is_file() else {}
    new = {}
    for name, build in PROGRAMS.items():
        new[name] = build().time().cycles
        before = old.get(name)
        if before != new[name]:
            change = "new" if before is None else f"{100 * (new[name] / before - 1):+.2f} %"
            sys.stdout.write(f"{name}: {before} -> {new[name]} ({change})\n")
    for name in sorted(old.keys() - new.keys()):
        sys.stdout.write(f"{name}: {old[name]} -> gone\n")
    GOLDEN.write_text(json.dumps({"about": ABOUT, "cycles": new}, indent=2, ensure_ascii=False) + "\n", "utf-8")
    head, _, rest = README.read_text("utf-8").partition(TABLE_BEGIN)
    _, _, tail = rest.partition(TABLE_END)
    README.write_text(head + TABLE_BEGIN + readme_table(new) + TABLE_END + tail, "utf-8")


if __name__ == "__main__":
    main()
