"""Which commit a checkout is at, and None wherever that cannot be told."""

import os
import shutil
import subprocess
import sys

import pytest

import lorascope
from lorascope.records import provenance
from lorascope.records.provenance import commit_of

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit of one file, its hash beside it."""

    def git(*arguments):
        settings = ("-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false", "-c", "core.hooksPath=")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", *settings, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=True).stdout

    file = tmp_path / "file.py"
    file.write_text("1\n")
    git("init", "-q")
    git("add", "file.py")
    git("commit", "-q", "-m", "m")
    git("tag", "v1")
    return file, git("rev-parse", "HEAD").strip()


def test_version_and_device():
    found = provenance("NVIDIA H100")
    assert (found.version, found.device) == (lorascope.__version__, "NVIDIA H100")
    assert found.commit is None or len(found.commit.removesuffix("-dirty")) == 40


@needs_git
def test_a_checkout_has_its_commit(checkout):
    file, commit = checkout
    assert commit_of(file) == commit


@needs_git
def test_changed_files_are_said(checkout):
    file, commit = checkout
    file.write_text("2\n")
    assert commit_of(file) == f"{commit}-dirty"


@needs_git
def test_git_variables_of_another_checkout_do_not_matter(checkout, monkeypatch):
    file, commit = checkout
    monkeypatch.setenv("GIT_DIR", str(file.parent / "elsewhere"))
    assert commit_of(file) == commit


@needs_git
def test_installed_inside_somebody_elses_checkout_is_no_commit(checkout):
    file, _ = checkout
    installed = file.parent / "site-packages" / "module.py"
    installed.parent.mkdir()
    installed.touch()
    assert commit_of(installed) is None


def test_no_checkout_no_folder_no_commit(tmp_path):
    (tmp_path / "file.py").touch()
    assert commit_of(tmp_path / "file.py") is None
    assert commit_of(tmp_path / "missing" / "file.py") is None


def test_no_git_no_commit(tmp_path):
    code = "from lorascope.records import provenance; print(provenance('cpu').commit)"
    environment = os.environ | {"PATH": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == "None\n"
