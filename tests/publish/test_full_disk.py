"""Full disks and places that cannot be written end with a message, and leave nothing half."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from whispertune.cli import main
from whispertune.errors import InputError
from whispertune.files import writing
from whispertune.model.load import ModelFolder
from whispertune.service.export import export_model


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB: less than the weights of any model here."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("to", ["transformers", "ct2"])
def test_an_export(to: str, tiny: ModelFolder, small_disk: Path) -> None:
    with pytest.raises(InputError, match=r"out: cannot be written \(the disk is full\)\n  → make room"):
        export_model(str(tiny.path), to, small_disk / "out", verify=False)
    assert not list(small_disk.iterdir())


def test_a_disk_itself_is_refused_before_the_work(
    tiny: ModelFolder, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `docker -v` mounts it: what was written beside it cannot take its name."""
    assert main(["export", "no/such-model", "--to", "ct2", "--out", str(small_disk)]) == 2
    assert f"a disk is mounted there\n  → give a folder in it: --out {small_disk / 'model'}" in capsys.readouterr().err
    assert main(["merge", str(tiny.path), "no/such-model", "--out", str(small_disk)]) == 2
    assert "a disk is mounted there" in capsys.readouterr().err


def test_merged_weights(tiny: ModelFolder, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", str(tiny.path), str(tiny.path), "--out", str(small_disk / "out")]) == 2
    assert "cannot be written (the disk is full)" in capsys.readouterr().err
    assert not list(small_disk.iterdir())


def test_what_torch_says_of_a_full_disk_is_understood(small_disk: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"), writing(small_disk):
        torch.save(torch.ones(1_000_000), small_disk / "model.pt")


def test_a_place_that_cannot_be_written(tiny: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is below a file, whoever one is."""
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert main(["export", str(tiny.path), "--to", "ct2", "--out", str(out), "--no-verify"]) == 2
    assert f"{out}: cannot be written (" in capsys.readouterr().err
    assert main(["merge", str(tiny.path), str(tiny.path), "--out", str(out)]) == 2
    assert f"{out}: cannot be written (" in capsys.readouterr().err


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), writing(tmp_path):
        raise RuntimeError("shapes differ")
