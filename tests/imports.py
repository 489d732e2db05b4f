"""What a Python file imports, read without running it: names of modules, or the top-level ones alone."""

import ast
from pathlib import Path


def modules(path: Path) -> set[str]:
    """Dotted names of all that a file imports, of whatever kind."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported(path: Path) -> set[str]:
    """Top-level names of all that a file imports."""
    return {name.split(".")[0] for name in modules(path)}
