"""The bundle: same source, same bytes, and nothing in it but the runner."""

import ast
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgeopt_runner
from edgeopt.remote import bundle, loader


def test_two_builds_elsewhere_with_other_times_and_modes_are_the_same_bytes(tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "edgeopt_runner"
    source = Path(edgeopt_runner.__file__).parent
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*.py"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o600)
    code = (
        "import os,sys; os.umask(0o077); os.chdir('/'); sys.path.insert(0, sys.argv[1]);"
        "from pathlib import Path; from edgeopt.remote.bundle import build_bundle;"
        "print(build_bundle(Path(sys.argv[2])).digest); import edgeopt_runner"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code, str(copy.parent), str(tmp_path / "b.pyz")], capture_output=True, text=True
    )
    here = bundle.build_bundle(tmp_path / "a.pyz")
    assert elsewhere.stdout.strip() == here.digest, elsewhere.stderr
    assert (tmp_path / "a.pyz").read_bytes() == (tmp_path / "b.pyz").read_bytes()


def test_the_digest_is_that_of_the_file_and_follows_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = bundle.build_bundle(tmp_path / "a.pyz")
    assert built.digest == hashlib.sha256(built.path.read_bytes()).hexdigest()
    (tmp_path / "edgeopt_runner").mkdir()
    (tmp_path / "edgeopt_runner" / "__init__.py").write_text("")
    monkeypatch.setattr(bundle, "_source_folder", lambda: tmp_path / "edgeopt_runner")
    assert bundle.build_bundle(tmp_path / "b.pyz").digest != built.digest


def test_a_bundle_with_the_right_bytes_is_left_as_it_is(tmp_path: Path) -> None:
    built = bundle.build_bundle(tmp_path / "a.pyz")
    os.utime(built.path, (1e9, 1e9))
    bundle.build_bundle(tmp_path / "a.pyz")
    assert built.path.stat().st_mtime == 1e9
    built.path.write_bytes(b"spoiled")
    assert bundle.build_bundle(tmp_path / "a.pyz") == built
    assert hashlib.sha256(built.path.read_bytes()).hexdigest() == built.digest


def test_the_bundle_holds_the_runners_python_files_only(tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle.build_bundle(tmp_path / "a.pyz").path) as archive:
        names = archive.namelist()
    assert names == sorted(names)
    assert {"__main__.py", "edgeopt_runner/server.py", "edgeopt_runner/protocol/frames.py"} <= set(names)
    assert all(name.endswith(".py") and (name == "__main__.py" or name.startswith("edgeopt_runner/")) for name in names)


def statements(text: str) -> list[tuple[int, str]]:
    """Line and content of every statement that does something."""
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt) and not hasattr(node, "body")]
    does = [node for node in found if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    return [(node.lineno, ast.dump(node)) for node in does]


def test_what_is_left_out_does_not_run_and_every_statement_stays_on_its_line() -> None:
    for path in Path(edgeopt_runner.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert statements(bundle.bare(text)) == statements(text), path


def test_a_comment_changes_the_file_of_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_source_folder", lambda: tmp_path)
    (tmp_path / "__init__.py").write_text('"""One."""\nx = "# kept"  # said\n')
    first = bundle.build_bundle(tmp_path / "a.pyz")
    (tmp_path / "__init__.py").write_text('"""Two."""\nx = "# kept"\n')
    assert bundle.build_bundle(tmp_path / "a.pyz").code_digest == first.code_digest
    (tmp_path / "__init__.py").write_text('"""Two."""\nx = "# other"\n')
    assert bundle.build_bundle(tmp_path / "a.pyz").code_digest != first.code_digest


def test_the_bundle_goes_over_a_slow_link_in_no_time(tmp_path: Path) -> None:
    sent = loader.packed(bundle.build_bundle(tmp_path / "a.pyz"))
    assert len(sent["lzma"]) <= 150 << 10
    assert len(sent["zlib"]) <= 1.4 * len(sent["lzma"])


def test_building_does_not_import_the_runner(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeopt.remote.bundle import build_bundle;"
        "build_bundle(Path(sys.argv[1])); print([name for name in sys.modules if name.startswith('edgeopt_runner')])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.pyz")], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
