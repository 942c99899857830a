"""Mixtures of two models: the ends, what lies between them, adapters, and models that cannot be mixed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whispertune.errors import ModelError
from whispertune.model.adapters import AdapterSettings
from whispertune.model.load import ModelFolder
from whispertune.model.merge import check_mixable, interpolated, put
from whispertune.model.parameters import Choice, merged_state, prepare

shares = st.floats(0, 1, width=32)


def disturbed(folder: ModelFolder, seed: int = 0) -> Any:
    """The model with other weights."""
    model = folder.load()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn(value.shape, generator=random) * 0.1)
    return model


@given(share=shares, seed=st.integers(0, 100))
def test_a_mixture_lies_between_its_ends(share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    base, tuned = ({"w": random.normal(size=(3, 4)).astype(np.float32)} for _ in range(2))
    mixed = interpolated(base, tuned, share)["w"]
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, base["w"] + share * (tuned["w"] - base["w"]), atol=1e-6)
    np.testing.assert_allclose(mixed, interpolated(tuned, base, 1 - share)["w"], atol=1e-6)


def test_the_ends_are_themselves_to_the_bit(tiny: ModelFolder) -> None:
    base, tuned = merged_state(tiny.load()), merged_state(disturbed(tiny))
    for share, end in ((0.0, base), (1.0, tuned)):
        mixed = interpolated(base, tuned, share)
        assert mixed.keys() == end.keys()
        assert all(np.array_equal(mixed[name], end[name]) for name in end)


@pytest.mark.parametrize("rslora", [False, True])
def test_mixing_merged_weights_is_scaling_the_adapter(rslora: bool, tiny: ModelFolder) -> None:
    base = merged_state(tiny.load())
    model = tiny.load()
    prepare(
        model,
        Choice(method="lora", targets=("attention", "feed_forward"), adapters=AdapterSettings(4, 8.0, rslora=rslora)),
    )
    random = torch.Generator().manual_seed(1)
    adapters = [module for module in model.modules() if hasattr(module, "lora_A")]
    with torch.no_grad():
        for adapter in adapters:
            weight = adapter.lora_B["default"].weight
            weight.copy_(torch.randn(weight.shape, generator=random))
    tuned = merged_state(model)
    assert any(not np.allclose(base[name], tuned[name]) for name in base)
    for share in (0.25, 0.7):
        trained = {adapter: adapter.scaling["default"] for adapter in adapters}
        for adapter in adapters:
            adapter.scaling["default"] = share * trained[adapter]
        scaled, mixed = merged_state(model), interpolated(base, tuned, share)
        assert scaled.keys() == mixed.keys()
        for name in mixed:
            np.testing.assert_allclose(mixed[name], scaled[name], atol=2e-6, err_msg=name)
        for adapter, before in trained.items():
            adapter.scaling["default"] = before


def test_a_model_takes_all_weights_of_a_mixture(tiny: ModelFolder) -> None:
    model, other = tiny.load(), disturbed(tiny)
    put(model, merged_state(other))
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert model.proj_out.weight is model.model.decoder.embed_tokens.weight  # tied as before


def test_weights_that_are_not_the_same_are_refused() -> None:
    one = {"a": np.zeros(2, dtype=np.float32), "b": np.zeros(3, dtype=np.float32)}
    with pytest.raises(ModelError, match="1 differ, b first"):
        interpolated(one, {"a": one["a"]}, 0.5)
    with pytest.raises(ModelError, match="1 differ, a first"):
        interpolated(one, one | {"a": np.zeros(4, dtype=np.float32)}, 0.5)


def test_models_that_cannot_be_mixed(
    tiny: ModelFolder, base: ModelFolder, tiny_en: ModelFolder, tmp_path: Path
) -> None:
    check_mixable(tiny, tiny)
    with pytest.raises(ModelError, match="shapes differ"):
        check_mixable(base, tiny)
    folder = tmp_path / "other"
    shutil.copytree(tiny.path, folder)
    other = ModelFolder("other", folder)
    (folder / "tokenizer.json").write_bytes(tiny_en.tokenizer_json)
    with pytest.raises(ModelError, match="tokenizers differ"):
        check_mixable(tiny, other)


def test_tokenizers_may_lack_timestamps(tiny: ModelFolder, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(tiny.path, folder)
    content = json.loads(tiny.tokenizer_json)
    kept = [each for each in content["added_tokens"] if each["content"][2:3] not in "0123456789"]
    assert len(kept) < len(content["added_tokens"])
    (folder / "tokenizer.json").write_text(json.dumps(content | {"added_tokens": kept}))
    check_mixable(tiny, ModelFolder("other", folder))
