"""The source distribution builds the wheel, and the wheel runs outside the checkout."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel that is built from its unpacked contents."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t"]
    subprocess.run([*command, "sdist", "-d", str(folder)], cwd=ROOT, check=True, capture_output=True)
    [sdist] = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        # Python 3.11.2, which Debian has, knows no filters yet
        archive.extractall(folder / "source", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    [source] = (folder / "source").iterdir()
    subprocess.run([*command, "wheel", "-d", str(folder)], cwd=source, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Run the installed program from a folder that is not the checkout, with a home that cannot be written."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(built[1])], check=True, capture_output=True)
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(*arguments):
        environment = os.environ | {"PYTHONPATH": str(target), "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
        assert list(elsewhere.iterdir()) == []
        return done

    run.target = target
    return run


def test_the_wheel_holds_the_package_and_its_data(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    for path in (ROOT / "estheory").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names
    assert "estheory/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"estheory"}


def test_the_wheel_runs_outside_the_checkout(installed):
    where = installed("-c", "import estheory; print(estheory.__file__)").stdout
    assert Path(where.strip()).is_relative_to(installed.target)
    program = str(installed.target / "bin" / "estheory")
    assert installed(program, "--version").stdout.startswith("estheory ")
    run = ["--dim", "4022468096", "--sigma", "0.0015", "--population", "30", "--steps", "100"]
    predicted = installed(program, "predict", *run)
    assert predicted.returncode == 0
    assert "displacement_norm" in predicted.stdout
    published = installed(program, "validate", "published")
    assert published.returncode == 3
    assert published.stderr == ""
    assert installed(program, "derive", "norm-mean").returncode == 0
