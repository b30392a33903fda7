"""The files around the code."""

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "tunnel-server-$name"
version = "0.1.0"
description = "A plugin for tunnel-server"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["tunnel-server>=$version"]

[project.optional-dependencies]
test = ["pytest>=8", "pytest-asyncio>=0.25"]

# By this the server finds the plugin: its name, and the class to make it of.
[project.entry-points.tunnel_server]
$name = "$package:Plugin"

[tool.setuptools.packages.find]
where = ["src"]

[tool.setuptools.package-data]
$package = ["py.typed"]

[tool.pytest.ini_options]
testpaths = ["tests"]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
"""

README = """\
# tunnel-server-$name

A plugin for tunnel-server. It lets clients have only tunnels whose names the operator allows.

## Use

    pip install tunnel-server-$name
    TUNNEL_SERVER_${setting}_ALLOWED='web, api-*' tunnel-server run

It is used wherever it is installed; `tunnel-server plugins` lists it.

| setting | environment | default | meaning |
| --- | --- | --- | --- |
| `${lower}_allowed` | `TUNNEL_SERVER_${setting}_ALLOWED` | `*` | names to allow; `*` and `?` stand for any characters |

A client that asks for another name is told:

    forward /shop refused: the name 'shop' is not allowed here; allowed: web, api-*

## Work on it

    pip install -e '.[test]'
    pytest
"""

GITIGNORE = """\
__pycache__/
*.egg-info/
.venv/
build/
dist/
.pytest_cache/
/ssh/
"""

WORKFLOW = """\
name: test
on: [push, pull_request]
permissions:
  contents: read
jobs:
  test:
    runs-on: ubuntu-latest
    strategy:
      matrix:
        python: ["3.11", "3.12", "3.13"]
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: $${{ matrix.python }}
      - run: pip install -e '.[test]'
      - run: pytest
"""
