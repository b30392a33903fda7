"""The reference for plugins says what the code says, of every hook; and the checker is seen to fail."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import tunnel_server
from tunnel_server import hookspecs
from tunnel_server.adapters.plugins.hooks import ASYNC, NAMES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/plugins/reference.md").read_text()
CHECKS = (ROOT / "tests/integration/test_plugin_docs.py").read_text()

_SECTION = re.compile(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def problems(hook: str, page: str, checks: str) -> list[str]:
    """Return what is wrong with the documentation of ``hook``; nothing if all is well."""
    section = dict(_SECTION.findall(page)).get(hook)
    if section is None:
        return ["no section"]
    blocks = _BLOCK.findall(section)
    found = [
        (len(blocks) < 2, "no example"),
        (not blocks or not _is_signature(hook, blocks[0]), "the signature differs"),
        (len(blocks) > 1 and not _implements(hook, blocks[1]), "the example does not implement it"),
        (f"- **May be async:** {'yes' if hook in ASYNC else 'no'}\n" not in section, "async or not differs"),
        (f"- **Combines:** {rule(hook, 'Combines')}\n" not in section, "the combining rule differs"),
        (f"- **Fails:** {rule(hook, 'Fails')}\n" not in section, "the failure rule differs"),
        (f"check_{hook}" not in _coroutines(checks), "no test of the example"),
    ]
    return [problem for wrong, problem in found if wrong]


def rule(hook: str, name: str) -> str:
    """Return a rule out of the docstring, on one line and in Markdown."""
    text = inspect.getdoc(getattr(hookspecs, hook)) or ""
    found = re.search(rf"^{name}: (.*?)(?=\n\n|\n\w+: |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, f"the docstring of {hook} has no {name}"
    markdown = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", " ".join(found[1].split()))
    return re.sub(r"``([^`]+)``", r"`\1`", markdown)


def _shape(code: str, hook: str) -> str | None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == hook:
            return f"{type(node).__name__} {ast.unparse(node.args)} -> {node.returns and ast.unparse(node.returns)}"
    return None


def _is_signature(hook: str, block: str) -> bool:
    try:
        return _shape(f"{block.rstrip()}: ...", hook) == _shape(inspect.getsource(getattr(hookspecs, hook)), hook)
    except SyntaxError:
        return False


def _implements(hook: str, block: str) -> bool:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == hook:
            return any(ast.unparse(mark).startswith("hookimpl") for mark in node.decorator_list)
    return False


def _coroutines(code: str) -> set[str]:
    return {node.name for node in ast.parse(code).body if isinstance(node, ast.AsyncFunctionDef)}


@pytest.mark.parametrize("hook", NAMES)
def test_every_hook_has_its_section_signature_rules_example_and_test(hook: str) -> None:
    assert problems(hook, PAGE, CHECKS) == []


def test_no_section_is_of_a_hook_that_is_not_there() -> None:
    assert set(dict(_SECTION.findall(PAGE))) == set(NAMES)


@pytest.mark.parametrize("name", tunnel_server.__all__)
def test_every_name_that_a_plugin_may_import_is_in_the_reference(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("## `name_tunnel`", "## `name_a_tunnel`", "no section"),
        ("def name_tunnel(\n    client: Client, request", "def name_tunnel(\n    request", "the signature differs"),
        ("client: Client, request: ForwardRequest\n) -> str", "client: Client, request: Request\n) -> str", "the sig"),
        ("| Awaitable[str | Sequence[str] | Reject | None] | None", "", "the signature differs"),
        ("@hookimpl\ndef name_tunnel(client, request)", "def name_tunnel(client, request)", "the example does not"),
        ("@hookimpl\ndef name_tunnel(client, request)", "@hookimpl\ndef tunnel_opened(tunnel)", "the example does not"),
        ("- **Combines:** the first answer that is not `None`;", "- **Combines:** any answer;", "the combining rule"),
        ("- **May be async:** yes", "- **May be async:** no", "async or not differs"),
    ],
)
def test_the_checker_finds_what_differs(before: str, after: str, problem: str) -> None:
    start = PAGE.index("## `name_tunnel`")
    end = PAGE.index("\n## ", start)
    section = PAGE[start:end]
    assert before in section

    found = problems("name_tunnel", PAGE[:start] + section.replace(before, after) + PAGE[end:], CHECKS)

    assert any(entry.startswith(problem) for entry in found)


def test_the_checker_misses_a_failure_rule_an_example_and_a_test() -> None:
    page = (
        "## `tunnel_closed`\n\n```python\ndef tunnel_closed(tunnel: Tunnel) -> Awaitable[None] | None\n```\n\n"
        f"- **May be async:** yes\n- **Combines:** {rule('tunnel_closed', 'Combines')}\n"
    )

    assert problems("tunnel_closed", page, "async def check_tunnel_opened(run): ...") == [
        "no example",
        "the failure rule differs",
        "no test of the example",
    ]
