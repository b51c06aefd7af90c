"""The bundle runs on every Python from 3.6 to 3.13 that this computer has."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from support.pythons import VERSIONS, interpreter
from support.runner import Runner, bundle_path, job


@pytest.mark.parametrize("version", VERSIONS)
def test_hello_a_job_and_an_object_work_on(version: str, tmp_path: Path) -> None:
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    with Runner(tmp_path / "root", python=interpreter(version)) as runner:
        assert runner.result_of("hello", protocols=[1])["python"].startswith(version + ".")
        assert runner.receive(digest, 5, b"hello")[-1] == {"ok": True}
        assert runner.finish(job())["status"] == "ok"
        assert runner.result_of("clean", force=False) == {"removed": True}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_module_of_the_bundle_compiles_on(version: str, tmp_path: Path) -> None:
    python = interpreter(version)
    with zipfile.ZipFile(bundle_path()) as archive:
        archive.extractall(tmp_path)
    done = subprocess.run([python, "-m", "compileall", "-q", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_job_leaves_a_compiled_form_that_the_next_processes_run_on(version: str, tmp_path: Path) -> None:
    python, bundle = interpreter(version), tmp_path / "edgeopt_runner.pyz"
    with Runner(tmp_path / "root", python=python) as runner:
        assert runner.finish(job())["status"] == "ok"
    tag = f"*.cpython-{version.replace('.', '')}.pyz"
    (made,) = bundle_path().parent.glob(tag)
    shutil.copy2(bundle_path(), bundle)
    compiled = Path(shutil.copy2(made, tmp_path))
    assert imported_from(python, bundle) == f"{compiled}/edgeopt_runner/__init__.pyc"
    compiled.write_bytes(compiled.read_bytes()[:-1000] + bytes(1000))
    assert imported_from(python, bundle) == f"{bundle}/edgeopt_runner/__init__.py", "a damaged one is passed over"
    assert not compiled.exists()


def imported_from(python: str, bundle: Path) -> str:
    """The file that the package comes from when the bundle is run."""
    code = """if True:
        import runpy, sys
        sys.argv = [sys.argv[1], "--help"]
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        finally:
            print(sys.modules["edgeopt_runner"].__file__)
    """
    done = subprocess.run([python, "-I", "-c", code, str(bundle)], capture_output=True, text=True)
    return done.stdout.splitlines()[-1]
