"""The house: who may import whom, how long a file and a function may be, what no file may hold."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "lrfr_jax").rglob("*.py"))
SCRIPTS = [*SOURCES, *sorted((ROOT / "configs").rglob("*.py")), *sorted((ROOT / "launch").glob("*"))]

# Every file's floor; a file imports lower floors and its own folder. A new file must be given its place here.
FLOORS = {
    "errors": 0,
    "image_ops": 0,
    "terminal": 1,
    "files": 1,
    "models": 1,
    "evals.metrics": 1,
    "data.records": 1,
    "machines": 2,
    "data": 2,
    "pictures": 2,
    "weights": 2,
    "objective": 2,
    "evals": 3,
    "exports": 3,
    "checkpoints": 4,
    "run": 5,
    "trained": 5,
    "sizing": 6,
}
# What a user starts: `python -m lrfr_jax.NAME`. Above all floors, and nobody imports them.
DOORS = ("main", "evaluate", "pretrained", "adapt", "average", "embed", "compare", "verify", "search", "export", "plan")
DOORS += ("prepare", "analysis", "benchmark", "demo")
# Formulas, which import no file of the project; those of the heads import each other.
IMPORT_NOTHING = (
    "objective.distances",
    "objective.heads.head",
    "image_ops",
    "evals.metrics",
    "data.records",
)
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_STORY, DEEPEST = 300, 50, 80, 3


def module_of(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(ROOT / "lrfr_jax").with_suffix("").parts).removesuffix("__init__").rstrip(".")


def floor_of(module: str) -> int:
    room = module.split(".")[0]
    if room in DOORS:
        return max(FLOORS.values()) + 1
    return FLOORS[module] if module in FLOORS else FLOORS[room]


def imports_of(path: pathlib.Path) -> set[str]:
    """Modules of the project (without `lrfr_jax.`) that a file imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    project = {name.removeprefix("lrfr_jax.") for name in names if name.startswith("lrfr_jax.")}
    modules = {module_of(source) for source in SOURCES}
    return {name if name in modules else name.rpartition(".")[0] for name in project} - {""}


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_go_down(path):
    module = module_of(path)
    if not module:
        assert imports_of(path) == {"trained.embedder"}  # when it is asked for
        return
    folder = module.split(".")[0]
    for imported in imports_of(path):
        assert imported.split(".")[0] == folder or floor_of(imported) < floor_of(module), f"{module} imports {imported}"
        assert imported.split(".")[0] not in DOORS or imported.split(".")[0] == folder, f"{module} imports a door"
    if module in IMPORT_NOTHING:
        assert not imports_of(path)
    if module.startswith("objective.heads"):
        assert all(imported.startswith("objective.heads") for imported in imports_of(path))


def test_the_root_holds_doors_only():
    """And the ground: a stranger reads the folder as a table of contents."""
    files = {module_of(path) for path in SOURCES if path.parent == ROOT / "lrfr_jax"} - {""}
    assert files == {name for name in DOORS if (ROOT / f"lrfr_jax/{name}.py").exists()} | {"errors", "image_ops"}
    assert {path.name for path in (ROOT / "lrfr_jax").iterdir() if path.is_dir() and list(path.glob("*.py"))} == {
        *(name.split(".")[0] for name in (*FLOORS, *DOORS)),
    } - files


def test_metrics_need_numpy_only():
    tree = ast.parse((ROOT / "lrfr_jax/evals/metrics.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - sys.stdlib_module_names == {"numpy", "jaxtyping"}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda path: path.stem)
def test_configs_import_only_configs(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] in ("ml_collections", "configs")
        assert not isinstance(node, ast.Import)


def depth(node: ast.AST) -> int:
    """How many loops, branches, with and try blocks stand inside each other; an elif stands beside its if."""
    nests = isinstance(node, ast.For | ast.While | ast.If | ast.Try | ast.With)
    chain = node.orelse if isinstance(node, ast.If) and [type(n) for n in node.orelse] == [ast.If] else []
    below = max((depth(child) for child in ast.iter_child_nodes(node) if child not in chain), default=0)
    return max([below + nests, *map(depth, chain)])


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_sizes(path):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            longest = LONGEST_STORY if node.name == "train" else LONGEST_FUNCTION
            docstring = ast.get_docstring(node, clean=False) or ""
            length = node.end_lineno - node.lineno + 1 - len(docstring.splitlines())
            assert length <= longest, f"{path.name}: {node.name} has {length} lines without its docstring"
            assert depth(node) <= DEEPEST + (node.name == "train"), f"{path.name}: {node.name} nests too deeply"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_unsafe_reading(path):
    text = path.read_text()
    for word in ("allow_pickle=True", "pickle.load", " eval(", "extractall"):
        assert word not in text, f"{path.name} holds {word}"


def test_public_functions_have_docstrings():
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if (
                isinstance(node, ast.FunctionDef | ast.ClassDef)
                and not node.name.startswith("_")
                and node.name != "main"
            ):
                assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"
