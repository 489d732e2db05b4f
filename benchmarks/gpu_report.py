"""What the parts of benchmarks/gpu.sh have printed, as report.md and report.json.

python -m benchmarks.gpu_report WORK OUT

WORK has `about`, what the whole is; parts.tsv, with name, exit status, seconds and command of each part; and
NAME.out and NAME.err.
"""

import json
import sys
from itertools import groupby
from pathlib import Path

TOLD = 15  # last lines of what a part that failed has said
LIMIT_REACHED = (124, 137)  # exit status of what timeout(1) has stopped


def main() -> None:
    work, out = map(Path, sys.argv[1:])
    about = (work / "about").read_text(encoding="utf-8").strip()
    lines = (work / "parts.tsv").read_text(encoding="utf-8").splitlines()
    parts = [read_part(work, *line.split("\t")) for line in lines]
    told = json.dumps({"about": about, "parts": parts}, indent=1)
    (out / "report.json").write_text(told + "\n", encoding="utf-8")
    (out / "report.md").write_text(report(about, parts), encoding="utf-8")


def read_part(work: Path, name: str, status: str, seconds: str, command: str) -> dict:
    """A part with all that it has printed, and the tables in that."""
    output, told = (_text(work / f"{name}.{kind}") for kind in ("out", "err"))
    begun = (work / f"{name}.out").exists()
    return {
        "name": name,
        "command": command,
        "ended": ending(int(status)) if begun else "not begun: no time was left",
        "seconds": int(seconds),
        "output": output,
        "tables": [rows_of(block) for is_table, block in blocks(output) if is_table],
        "said": [] if status == "0" else told.splitlines()[-TOLD:],
    }


def ending(status: int) -> str:
    if status in LIMIT_REACHED:
        return "stopped at its limit"
    return f"failed ({status})" if status else "well"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def blocks(output: str) -> list[tuple[bool, list[str]]]:
    """Tables (True) and the text between them, as lines."""
    grouped = groupby(output.splitlines(), key=lambda line: line.startswith("|"))
    return [(is_table, list(lines)) for is_table, lines in grouped]


def rows_of(table: list[str]) -> list[dict[str, str]]:
    """The rows of a Markdown table below its heads and its rule."""
    heads, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    return [dict(zip(heads, row, strict=False)) for row in rows]


def report(about: str, parts: list[dict]) -> str:
    rows = [f"| {part['name']} | {part['ended']} | {part['seconds']} |" for part in parts]
    table = "\n".join(["| part | ended | seconds |", "| --- | --- | ---: |", *rows])
    text = ["# What one GPU does", about, table]
    for part in parts:
        text += [f"## {part['name']}", f"`{part['command']}`"]
        for is_table, lines in blocks(part["output"]):
            text.append("\n".join(lines) if is_table else fenced(lines))
        text.append(fenced(part["said"]))
    return "\n\n".join(filter(None, text)) + "\n"


def fenced(lines: list[str]) -> str:
    content = "\n".join(lines).strip("\n")
    return f"```\n{content}\n```" if content else ""


if __name__ == "__main__":
    main()
