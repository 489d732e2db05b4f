"""benchmarks/gpu_report.py tells what each part printed, and what failed."""

import json
import sys

from benchmarks.gpu_report import main


def test_parts_that_ended_well_and_parts_that_did_not(tmp_path, monkeypatch):
    commands = ["speed\t0\t12\tpython -m speed", "crash\t1\t3\tfalse", "slow\t124\t60\tsleep 99"]
    commands += ["late\t124\t0\ttrue"]
    (tmp_path / "parts.tsv").write_text("\n".join(commands) + "\n")
    (tmp_path / "about").write_text("of a friday\n")
    (tmp_path / "speed.out").write_text(
        "on one card\n| size | ms |\n| --- | --- |\n| 8 | 3.5 |\n| 32 | 9 |\n"
    )
    (tmp_path / "speed.err").write_text("a warning\n")
    (tmp_path / "crash.out").touch()
    (tmp_path / "slow.out").touch()
    (tmp_path / "crash.err").write_text("\n".join(f"line {i}" for i in range(40)))
    monkeypatch.setattr(sys, "argv", ["gpu_report", str(tmp_path), str(tmp_path)])
    main()
    whole = json.loads((tmp_path / "report.json").read_text())
    assert whole["about"] == "of a friday"
    speed, crash, slow, late = whole["parts"]
    assert speed["ended"] == "well" and speed["seconds"] == 12 and speed["said"] == []
    assert speed["tables"] == [[{"size": "8", "ms": "3.5"}, {"size": "32", "ms": "9"}]]
    assert crash["ended"] == "failed (1)" and crash["said"][-1] == "line 39" and len(crash["said"]) == 15
    assert late["ended"] == "not begun: no time was left"
    assert slow["ended"] == "stopped at its limit" and slow["output"] == ""
    text = (tmp_path / "report.md").read_text()
    assert "of a friday\n\n| part | ended" in text
    assert "| crash | failed (1) | 3 |" in text and "```\non one card\n```\n\n| size | ms |" in text
    assert "a warning" not in text and "line 39\n```" in text
