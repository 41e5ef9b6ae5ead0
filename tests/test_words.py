"""The words of the project: docstrings are imperative or noun phrases, never answers to a question word."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
_QUESTION = re.compile(r"(What|Who|When|How|Where|Whether|Which|Why)\b")
_DOCUMENTED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


def test_docstrings_do_not_open_with_a_question_word() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = []
    for name in listed.stdout.split():
        if not (ROOT / name).exists():
            continue  # deleted, and not yet committed
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            text = ast.get_docstring(node) if isinstance(node, _DOCUMENTED) else None
            if text and _QUESTION.match(text):
                found.append(f"{name}: {text.splitlines()[0]}")
    assert found == []
