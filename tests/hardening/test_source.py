"""What the package's source never does: run or unpack what it reads, or write a file that could end up half."""

import ast
from pathlib import Path

import pytest

import estheory

ROOT = Path(estheory.__file__).parent

RUNS_CODE = {"eval", "exec", "compile", "__import__", "execfile"}
NEVER_IMPORTED = {"marshal", "shelve", "tarfile", "dill", "cloudpickle", "joblib", "yaml", "pty"}
NEVER_CALLED = {
    *("extract", "extractall", "unpack_archive", "system", "popen"),
    *("Unpickler", "parse_expr", "sympify", "lambdify", "literal_eval"),
}
ALLOWED = {("derivations/algebra.py", "eval")}
"""What sympy prints of an expression of the package's own derivations; no file or user can put anything there."""


def name_of(call):
    """Return the last part of what is called, and all of it as written."""
    whole = ast.unparse(call.func)
    return whole.rpartition(".")[2], whole


def complaints(source, place="x.py"):
    """Return what a module's source does that this package does not, one line each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [f"imports {a.name}" for a in node.names if a.name.split(".")[0] in NEVER_IMPORTED]
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")[0]
            found += [f"imports from {module}"] * (module in NEVER_IMPORTED or module == "pickle")
        if not isinstance(node, ast.Call):
            continue
        last, whole = name_of(node)
        options = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if (isinstance(node.func, ast.Name) and last in RUNS_CODE and (place, last) not in ALLOWED) or (
            last in NEVER_CALLED
        ):
            found.append(f"calls {whole}")
        if whole in ("pickle.load", "pickle.loads"):
            found.append(f"calls {whole}")
        if whole == "torch.load" and options.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if options.get("allow_pickle", "False") != "False" or options.get("trust_remote_code", "False") != "False":
            found.append(f"{whole} trusts what it reads")
        if options.get("shell", "False") != "False":
            found.append(f"{whole} with a shell")
    return found


def test_nothing_read_is_run_or_unpacked():
    files = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}
    found = {place: complaints(source, place) for place, source in files.items()}
    assert {place: lines for place, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        *("eval('1')", "exec(text)", "import tarfile", "from pickle import load", "pickle.loads(raw)"),
        *("torch.load(file)", "torch.load(file, weights_only=False)", "np.load(file, allow_pickle=True)"),
        *("archive.extractall(folder)", "shutil.unpack_archive(a, b)", "subprocess.run(line, shell=True)"),
        *("os.system(line)", "sp.sympify(text)", "AutoModel.from_pretrained(m, trust_remote_code=True)"),
    ],
)
def test_the_scan_sees_what_it_is_for(source):
    """The negative control."""
    assert complaints(source)


@pytest.mark.parametrize("source", ["torch.load(f, weights_only=True)", "re.compile(p)", "model.eval()"])
def test_the_scan_lets_pass_what_is_harmless(source):
    assert complaints(source) == []
