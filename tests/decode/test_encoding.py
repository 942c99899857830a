"""The encoder that decoding on CPUs uses: the states of the others, and its own copy of the weights."""

from __future__ import annotations

import pytest
import torch

from tests.required import lacking
from whispertune.decode.encoding import CpuEncoder, runs_here
from whispertune.decode.engines import CTranslate2Engine, LiveModel, live_engine, load_live
from whispertune.model.adapters import AdapterSettings, add_adapters
from whispertune.model.load import ModelFolder

ROUNDING = 5e-5  # of the norm: four layers in float32, in other orders of adding


@pytest.fixture(scope="module", autouse=True)
def _onednn() -> None:
    if not runs_here():
        lacking("torch has no oneDNN here")


@pytest.fixture(scope="module")
def live(tiny_en: ModelFolder) -> LiveModel:
    return load_live(tiny_en)


@pytest.fixture(scope="module")
def encoder(live: LiveModel) -> CpuEncoder:
    return CpuEncoder(live.model, live.shape.encoder_heads)


def mels(rows: int, frames: int) -> torch.Tensor:
    return torch.randn(rows, 80, frames, generator=torch.Generator().manual_seed(frames)) * 0.4


@pytest.mark.parametrize(("rows", "frames"), [(2, 3000), (3, 300), (1, 100)])
def test_states_are_those_of_ctranslate2(live: LiveModel, rows: int, frames: int) -> None:
    mel = mels(rows, frames)
    engine = live_engine("ctranslate2", live)
    assert isinstance(engine, CTranslate2Engine)
    ours = engine.encode(mel)
    engine.encoder = None
    theirs = engine.encode(mel)
    assert ours is not None
    assert theirs is not None
    assert ours.shape == theirs.shape == (rows, frames // 2, live.shape.width)
    assert float((ours - theirs).norm() / theirs.norm()) < ROUNDING


def test_states_are_those_of_transformers(live: LiveModel, encoder: CpuEncoder) -> None:
    mel = mels(1, 3000)
    ours = encoder(mel)
    with torch.no_grad():
        theirs = live.model.model.encoder(mel).last_hidden_state
    assert float((ours - theirs).norm() / theirs.norm()) < ROUNDING


def test_adapters_are_in_it_and_what_is_trained_later_is_not(tiny: ModelFolder) -> None:
    live = load_live(tiny)
    mel, heads = mels(1, 400), live.shape.encoder_heads
    plain = CpuEncoder(live.model, heads)(mel)
    add_adapters(live.model, ["model.encoder.layers.0.fc1"], AdapterSettings(rank=2), None, "cpu")
    layer = live.model.get_submodule("model.encoder.layers.0.fc1")
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()  # type: ignore[index, union-attr]
    encoder = CpuEncoder(live.model, heads)
    before = encoder(mel)
    assert not torch.allclose(before, plain, atol=1e-3)
    with torch.no_grad():
        layer.lora_B["default"].weight.zero_()  # type: ignore[index, union-attr]
    assert torch.equal(encoder(mel), before)


def test_of_several_rows_each_is_what_it_is_alone(encoder: CpuEncoder) -> None:
    mel = mels(7, 500)  # six of them at once, and the last
    together = encoder(mel)
    alone = torch.cat([encoder(mel[row : row + 1]) for row in range(7)])
    assert torch.allclose(together, alone, atol=1e-4)
