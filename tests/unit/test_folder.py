"""A worker's folder: removed by itself, or by a later worker when it was killed, and never while it lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from evalx.agents.folder import MIN_AGE_S, WorkerFolder, remove_left_folders


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def make_old(folder: Path) -> None:
    before = folder.stat().st_mtime - 2 * MIN_AGE_S
    os.utime(folder, (before, before))


def test_a_folder_of_a_living_owner_is_left_alone():
    folder = WorkerFolder()
    make_old(folder.path)
    assert remove_left_folders() == []
    assert folder.path.is_dir()
    folder.remove()
    folder.remove()
    assert not folder.path.exists()


def test_a_folder_of_a_killed_owner_is_removed(temp: Path):
    program = "from evalx.agents.folder import WorkerFolder; f = WorkerFolder(); print(f.path, flush=True); input()"
    environment = {**os.environ, "TMPDIR": str(temp)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        (folder / "file").write_text("x")
        make_old(folder)
        assert remove_left_folders() == []
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert remove_left_folders() == [folder]
    assert list(temp.iterdir()) == []


def test_a_young_folder_and_other_things_are_left_alone(temp: Path):
    young, other, link = temp / "evalx-faust-young", temp / "other", temp / "evalx-faust-link"
    young.mkdir()
    other.mkdir()
    make_old(other)
    link.symlink_to(other)
    assert remove_left_folders() == []
    assert young.is_dir()
    assert other.is_dir()
