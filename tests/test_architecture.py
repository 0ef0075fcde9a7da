"""The rules of docs/architecture.md: imports point down, and no other code depends on the name of a row."""

import ast
import re

import pytest
from places import ROOT

from stylegan2_adamix.objectives import OBJECTIVES
from training.presets import PRESETS

# From top to bottom; a module imports from its own layer and from those below it.
LAYERS = (
    ("experiments",),
    ("tools",),
    ("training",),
    ("metrics",),
    ("torch_utils", "dnnlib"),
    ("stylegan2_adamix",),
)
PACKAGES = ["benchmarks", *(name for layer in LAYERS for name in layer)]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(path.read_text())
    for path in sorted([*ROOT.glob("*.py"), *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))])
}


def depth(module):
    """The layer of a module; commands, the Python interface and benchmarks are above all layers."""
    if module == "training.api":
        return -1
    package = module.split(".")[0]
    return next((i for i, layer in enumerate(LAYERS) if package in layer), -1)


def imports(tree):
    """The project's modules that a module imports anywhere; imports for type checkers do not count."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in inner]
        yield from (name for name in names if name in MODULES)


GRAPH = {module: sorted(set(imports(tree)) - {module}) for module, tree in MODULES.items()}


def test_imports_point_down():
    upward = [(module, other) for module, others in GRAPH.items() for other in others if depth(other) < depth(module)]
    assert upward == []


def test_imports_have_no_cycle():
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for other in GRAPH[module]:
            visit(other)
        done.add(path.pop())

    for module in GRAPH:
        visit(module)


@pytest.mark.parametrize(
    ("names", "home"), [(PRESETS, "training.presets"), (OBJECTIVES, "stylegan2_adamix.objectives")]
)
def test_no_other_code_compares_the_name_of_a_row(names, home):
    """No other code of the trainer or of the loss compares the name of a preset or of an objective."""
    for module, tree in MODULES.items():
        if module == home or depth(module) <= 0:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                words = {word for part in ast.walk(node) if isinstance(part, ast.Constant) for word in [part.value]}
                assert not words & (set(names) - {"auto", "logistic"}), f"{module}:{node.lineno}: {ast.unparse(node)}"


def test_functions_and_classes_are_short():
    """At most 40 lines and 15 methods, in every module and command."""
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 40, f"{module}.{node.name}"
            if isinstance(node, ast.ClassDef):
                assert sum(isinstance(child, ast.FunctionDef) for child in node.body) <= 15, f"{module}.{node.name}"


def test_the_loss_names_no_term():
    """Terms are found through the hooks of term.py; terms.py alone lists them."""
    terms = re.compile(r"adamix\b|adaptivemix|sdp|lecam|R1\b|R2\b|path.?length", re.IGNORECASE)
    for name in ("core", "phases", "batch", "backward", "gan"):
        text = (ROOT / "stylegan2_adamix" / f"{name}.py").read_text()
        assert not terms.search(text.replace("stylegan2_adamix", "")), name
