"""Messages suit callers in Python too: below the command line none names an option such as `--box`."""

import ast
import re
from pathlib import Path

import pytest

from tests.shared import ROOT

LIBRARY = ["utils", "datasets", "rendering", "model", "evaluation", "pipeline"]
OPTION = re.compile(r"(?<![\w-])--[a-zA-Z]")
COMMAND = re.compile(r"(python -m |picopose [a-z]).*", re.DOTALL)  # a remedy may name one, with its options


def options_in(source: str) -> list[str]:
    """The texts in Python code that name options; a text that is one option is another program's argument."""
    nodes = list(ast.walk(ast.parse(source)))
    joined = [node.values for node in nodes if isinstance(node, ast.JoinedStr)]
    inside = {id(part) for parts in joined for part in parts}
    single = [[node] for node in nodes if isinstance(node, ast.Constant) and id(node) not in inside]
    texts = ["".join(str(getattr(part, "value", "")) for part in parts) for parts in (*joined, *single)]
    return [
        text for text in texts if OPTION.search(COMMAND.sub("", text)) and not re.fullmatch(r"--[\w-]+", text)
    ]


@pytest.mark.parametrize("folder", LIBRARY)
def test_no_message_below_the_command_line_names_an_option(folder):
    for path in sorted(Path(ROOT / folder).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if "import argparse" not in source:  # else it is a command itself
            assert not options_in(source), path


def test_the_check_sees_options():
    assert options_in('f"--box {box}: nothing"') and options_in('"pass its --camera or K"')
    assert not options_in('["--num_workers", f"run python -m picopose templates --dataset {name}", "a -- b"]')
