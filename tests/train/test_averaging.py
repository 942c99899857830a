"""Averages of weights: their values, their coming and going without a trace, and resuming with them."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from whispertune.model.load import ModelFolder
from whispertune.model.loss import SummedLoss
from whispertune.train.across.ranks import open_ranks
from whispertune.train.keeping.saving import Saver
from whispertune.train.learning.averaging import KeptAverage, MovingAverage, make_average, swapped
from whispertune.train.run import Run
from whispertune.train.state import TrainingState


def _small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    module[1].bias.requires_grad_(False)
    return module


def _set(module: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.fill_(value)


def _wander(module: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def _values(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_nothing_is_averaged_unless_asked(tmp_path: Path) -> None:
    assert make_average("none", _small(), tmp_path, of=3, decay=0.9) is None


def test_a_moving_average_follows_the_weights() -> None:
    module = _small()
    _set(module, 0.0)
    average = MovingAverage(module, decay=0.5)
    assert not average.due(last=True)
    expected = 0.0
    for number in range(20):
        _set(module, float(number))
        average.update(module)
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * number
    assert average.due(last=False)
    assert set(average.shadow) == {"0.weight", "0.bias", "1.weight"}  # what is not trained is not there
    for value in average.shadow.values():
        assert value.dtype == torch.float32
        assert value.flatten()[0].item() == pytest.approx(expected, rel=1e-5)


def test_where_it_started_from_is_soon_forgotten() -> None:
    module = _small()
    _set(module, 1000.0)
    average = MovingAverage(module, decay=0.999)
    _set(module, 1.0)
    for _ in range(10):
        average.update(module)
    assert average.shadow["0.bias"][0].item() == pytest.approx(1.0, abs=0.05)


@given(st.integers(0, 10_000), st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
def test_averaged_weights_come_and_go_without_a_trace(seed: int, kind: torch.dtype) -> None:
    module = _small(seed).to(kind)
    average = MovingAverage(module, decay=0.9)
    for step in range(3):
        _wander(module, step)
        average.update(module)
    live = _values(module)
    shadow = {name: value.clone() for name, value in average.shadow.items()}
    for _ in range(2):
        with average.applied(module):
            for name, value in shadow.items():
                assert torch.equal(module.get_parameter(name), value.to(kind))
            assert torch.equal(module[1].bias, live["1.bias"])
        assert _same(_values(module), live)
        assert _same(average.shadow, shadow)


def test_an_error_within_brings_the_live_weights_back() -> None:
    module = _small()
    average = MovingAverage(module, decay=0.9)
    _wander(module, 1)
    live = _values(module)
    with pytest.raises(RuntimeError, match="stopped"), average.applied(module):
        raise RuntimeError("stopped")
    assert _same(_values(module), live)


def test_optimizers_and_ties_do_not_notice(tiny: ModelFolder) -> None:
    model = tiny.load()
    module = SummedLoss(model)
    before = {name: value.data_ptr() for name, value in module.named_parameters()}
    average = MovingAverage(module, decay=0.9)
    _wander(module, 1)
    with average.applied(module):
        assert model.proj_out.weight is model.model.decoder.embed_tokens.weight
    assert before == {name: value.data_ptr() for name, value in module.named_parameters()}


def test_a_resumed_moving_average_goes_on_to_the_bit(tmp_path: Path) -> None:
    module = _small()
    whole = MovingAverage(module, decay=0.9)
    for step in range(3):
        _wander(module, step)
        whole.update(module)
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    resumed = MovingAverage(module, decay=0.9)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), step=3)
    for step in range(3, 6):
        _wander(module, step)
        whole.update(module)
        resumed.update(module)
    assert resumed.updates == 6
    assert _same(whole.state_dict(), resumed.state_dict())


def test_a_run_that_had_no_average_begins_one() -> None:
    module = _small()
    average = MovingAverage(module, decay=0.9)
    average.load_state_dict({}, step=50)
    assert not average.due(last=False)
    average.update(module)
    assert average.due(last=False)


def _evaluated(average: KeptAverage, values: list[float], first: int = 1, by: str = "wer full") -> None:
    """Weights after step n are all n."""
    module = _small()
    for step, value in enumerate(values, start=first):
        _set(module, float(step))
        average.evaluated(step, value, by, module)


def test_the_last_are_averaged(tmp_path: Path) -> None:
    average = KeptAverage(tmp_path / "averages", 3, best=False)
    assert not average.due(last=True)
    _evaluated(average, [50, 40, 60, 45, 70])
    assert average.members == (3, 4, 5)
    assert {value.flatten()[0].item() for value in average.average().values()} == {4.0}
    assert average.due(last=True)
    assert not average.due(last=False)


def test_the_best_are_averaged(tmp_path: Path) -> None:
    average = KeptAverage(tmp_path / "averages", 3, best=True)
    _evaluated(average, [50, 40, 60, 45, 70])
    assert average.members == (1, 2, 4)
    mean = average.average()
    assert mean.keys() == {"0.weight", "0.bias", "1.weight"}
    assert mean["0.weight"].flatten().tolist() == pytest.approx([7 / 3] * 12)
    module = _small(1)
    live = _values(module)
    with average.applied(module):
        assert torch.equal(module[0].weight, mean["0.weight"])
        assert torch.equal(module[1].bias, live["1.bias"])
    assert _same(_values(module), live)


@pytest.mark.parametrize(("best", "members"), [(True, (3, 4)), (False, (2, 3, 4))])
def test_the_best_are_of_values_that_can_be_compared(best: bool, members: tuple[int, ...], tmp_path: Path) -> None:
    """Cut clips gave low values until they were given up; which are the last depends on no value."""
    average = KeptAverage(tmp_path / "averages", 3, best=best)
    _evaluated(average, [10, 11], by="wer fit")
    _evaluated(average, [50, 60], first=3, by="wer full")
    assert average.members == members
    assert len(list(average.folder.iterdir())) == len(members)


def test_never_more_files_than_are_averaged(tmp_path: Path) -> None:
    average = KeptAverage(tmp_path / "averages", 2, best=True)
    for step, value in enumerate([5.0, 4.0, 3.0, 9.0, 1.0], start=1):
        average.evaluated(step, value, "wer", _small())
        assert len(list((tmp_path / "averages").iterdir())) <= 2
    assert average.members == (3, 5)


@settings(max_examples=40)
@given(
    values=st.lists(st.integers(0, 5), min_size=1, max_size=9),
    of=st.integers(1, 4),
    best=st.booleans(),
    data=st.data(),
)
def test_a_killed_run_averages_what_it_would_have(
    values: list[int], of: int, best: bool, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Killed after any evaluation, resumed from any earlier checkpoint, evaluated again with the same figures."""
    folder = tmp_path_factory.mktemp("averages")
    whole, killed = KeptAverage(folder / "whole", of, best=best), KeptAverage(folder / "killed", of, best=best)
    _evaluated(whole, [float(value) for value in values])
    died = data.draw(st.integers(0, len(values)))
    checkpoint = data.draw(st.integers(0, died))
    _evaluated(killed, [float(value) for value in values[:died]])
    resumed = KeptAverage(folder / "killed", of, best=best)
    resumed.load_state_dict({}, step=checkpoint)
    _evaluated(resumed, [float(value) for value in values[checkpoint:]], first=checkpoint + 1)
    assert resumed.members == whole.members


def test_what_was_left_half_written_is_cleared_away_and_damaged_weights_are_no_members(tmp_path: Path) -> None:
    average = KeptAverage(tmp_path, 3, best=False)
    _evaluated(average, [1.0, 2.0])
    (tmp_path / ".step-0000003.safetensors.partial").write_bytes(b"half")
    (tmp_path / "step-0000001.safetensors").write_bytes(b"damaged")
    average.load_state_dict({}, step=2)
    assert not list(tmp_path.glob(".*"))
    assert average.members == (2,)
    assert not average.due(last=True)


def test_a_full_disk_is_an_oserror_and_leaves_nothing_half(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    average = KeptAverage(tmp_path, 3, best=False)
    _evaluated(average, [1.0])
    large = nn.Linear(512, 512)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="step-0000002"):
            average.evaluated(2, 1.0, "wer", large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001.safetensors"]


def test_on_a_full_disk_a_run_that_is_to_goes_on(tmp_path: Path) -> None:
    """It is known as full, whoever says so."""
    disk, said = tmp_path / "disk", list[str]()
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        average = KeptAverage(disk / "averages", 3, best=False)
        with Saver(Run(disk), 2, "continue", said.append).room("weights to average"):
            average.evaluated(2, 1.0, "wer", nn.Linear(512, 512))
        (disk / "rest").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize))
        with Saver(Run(disk), 2, "continue", said.append).room("weights to average"):
            average.evaluated(3, 1.0, "wer", _small())
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    assert len(said) == 2
    assert all(line.startswith("the disk is full: weights to average could not be written") for line in said)


def test_ranks_clear_up_after_each_other(tmp_path: Path) -> None:
    """All of them see the same folder when a run is resumed, and each may find what another takes away."""
    for attempt in range(5):
        average = KeptAverage(tmp_path / str(attempt), 30, best=False)
        _evaluated(average, [1.0] * 30)
        for step in range(30):
            (average.folder / f".step-{step:07d}.safetensors.partial").touch()
        others = [KeptAverage(average.folder, 30, best=False) for _ in range(8)]
        with ThreadPoolExecutor(8) as ranks:
            list(ranks.map(lambda rank: rank.load_state_dict({}, step=4), others))
        assert average.members == (1, 2, 3, 4)
        assert not list(average.folder.glob(".*"))


def test_weights_to_average_are_part_of_what_needs_room(tiny: ModelFolder, tmp_path: Path) -> None:
    module, said = SummedLoss(tiny.load()), list[str]()
    saver = Saver(Run(tmp_path), 2, "stop", said.append)
    trained, free = sum(4 * value.numel() for value in module.parameters()), shutil.disk_usage(tmp_path).free
    many = free // trained + 1  # fill the disk by themselves
    with open_ranks("float32") as ranks:
        wrapped = ranks.wrap(module)
        optimizer = torch.optim.AdamW(module.parameters())
        for of in (1, many):
            TrainingState(wrapped, optimizer, KeptAverage(tmp_path / "averages", of, best=True), saver).preflight()
    (line,) = said
    assert f"3 checkpoints, {many + 1} weights to average and the best weights need up to" in line


def test_swapping_only_what_is_there() -> None:
    module = _small()
    live = _values(module)
    with swapped(module, {"0.bias": torch.full((3,), 7.0)}):
        assert module[0].bias.tolist() == [7.0] * 3
        assert torch.equal(module[0].weight, live["0.weight"])
    assert _same(_values(module), live)
