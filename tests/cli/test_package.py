"""The installed program has what it needs with it."""

import subprocess
import sys
import zipfile

import pytest
from hatchling.build import build_wheel

from crm_api import migrate
from tests.support.command import ROOT


@pytest.mark.broad  # it takes five seconds
def test_an_installed_program_migrates_anywhere(tmp_path, monkeypatch, database):
    monkeypatch.chdir(ROOT)
    wheel = build_wheel(str(tmp_path))
    site = tmp_path / "site"
    with zipfile.ZipFile(tmp_path / wheel) as archive:
        archive.extractall(site)
    code = (
        "import crm_api.migrate as m, sys; assert m.__file__.startswith(sys.argv[2]), m.__file__; "
        "m.upgrade(sys.argv[1]); print(*m.revisions())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, database["migrate"], str(site)],
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-len(migrate.revisions()) :] == migrate.revisions()
