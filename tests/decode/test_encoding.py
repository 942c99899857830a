"""The encoder that decoding on CPUs uses: the states of the others, and its own copy of the weights."""

from __future__ import annotations

import pytest
import torch

from whispertune.decode.encoding import CpuEncoder, runs_here
from whispertune.decode.engines import CTranslate2Engine, LiveModel, live_engine, load_live
from whispertune.model.adapters import AdapterSettings, add_adapters
from whispertune.model.load import ModelFolder

ROUNDING = 5e-5  # of the norm: six layers in float32, in other orders of adding


@pytest.fixture(scope="module")
def live(base: ModelFolder) -> LiveModel:
    return load_live(base)


@pytest.mark.skipif(not runs_here(), reason="torch has no oneDNN here")
@pytest.mark.parametrize(("rows", "frames"), [(2, 3000), (3, 300), (1, 100)])
def test_states_are_those_of_ctranslate2(live: LiveModel, rows: int, frames: int) -> None:
    mel = torch.randn(rows, 80, frames, generator=torch.Generator().manual_seed(frames)) * 0.4
    engine = live_engine("ctranslate2", live)
    assert isinstance(engine, CTranslate2Engine)
    ours = engine.encode(mel)
    engine.encoder = None
    theirs = engine.encode(mel)
    assert ours is not None
    assert theirs is not None
    assert ours.shape == theirs.shape == (rows, frames // 2, 512)
    assert float((ours - theirs).norm() / theirs.norm()) < ROUNDING


@pytest.mark.skipif(not runs_here(), reason="torch has no oneDNN here")
def test_states_are_those_of_transformers(live: LiveModel) -> None:
    mel = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(1)) * 0.4
    ours = CpuEncoder(live.model, 8)(mel)
    with torch.no_grad():
        theirs = live.model.model.encoder(mel).last_hidden_state
    assert float((ours - theirs).norm() / theirs.norm()) < ROUNDING


@pytest.mark.skipif(not runs_here(), reason="torch has no oneDNN here")
def test_adapters_are_in_it_and_what_is_trained_later_is_not(tiny: ModelFolder) -> None:
    live = load_live(tiny)
    mel = torch.randn(1, live.shape.n_mels, 400, generator=torch.Generator().manual_seed(2))
    heads = live.shape.encoder_heads
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


@pytest.mark.skipif(not runs_here(), reason="torch has no oneDNN here")
def test_of_several_rows_each_is_what_it_is_alone(live: LiveModel) -> None:
    mel = torch.randn(7, 80, 500, generator=torch.Generator().manual_seed(3)) * 0.4
    encoder = CpuEncoder(live.model, 8)
    together = encoder(mel)
    alone = torch.cat([encoder(mel[row : row + 1]) for row in range(7)])
    assert torch.allclose(together, alone, atol=1e-4)
