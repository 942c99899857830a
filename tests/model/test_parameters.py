"""What is trained: freezing by pattern, adapters, few bits, and the ordinary weights they come to."""

from __future__ import annotations

import math
import sys
from copy import deepcopy
from typing import Literal

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration

from whispertune.errors import ModelError, RecipeError
from whispertune.model.adapters import AdapterSettings
from whispertune.model.formats.transformers import Shape, config_for
from whispertune.model.load import ModelFolder
from whispertune.model.loss import SummedLoss
from whispertune.model.parameters import Choice, load_trained, merged_state, prepare, trained_state
from whispertune.windows.batches import Batch

MEL = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randint(0, 50_000, (1, 9), generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def narrow(base: ModelFolder) -> WhisperForConditionalGeneration:
    """A random Whisper whose matrices have whole blocks of 64 numbers, as all real ones do."""
    torch.manual_seed(0)
    config = config_for(Shape(base.shape.vocabulary, 80, 64, 1, 1, 2, 2, 128, 128), base.vocabulary)
    return WhisperForConditionalGeneration(config).eval()


def trained_names(folder: ModelFolder, choice: Choice) -> list[str]:
    model = folder.load()
    prepare(model, choice)
    return [name.removeprefix("model.") for name, value in model.named_parameters() if value.requires_grad]


def learn(module: SummedLoss, steps: int = 3, rate: float = 0.01) -> None:
    optimizer = torch.optim.Adam([each for each in module.parameters() if each.requires_grad], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        module.train()(Batch(MEL, TOKENS, TOKENS)).backward()
        optimizer.step()
    module.eval()


def test_freezing_by_pattern(tiny: ModelFolder) -> None:
    everything = trained_names(tiny, Choice())
    assert "encoder.embed_positions.weight" not in everything  # Whisper's own choice
    for freeze, gone in (
        (("encoder",), ("encoder.",)),
        (("decoder",), ("decoder.",)),
        (("embeddings",), ("decoder.embed_",)),
        (("encoder.layers.0-1",), ("encoder.layers.", "encoder.conv")),  # what comes before them too
        (("encoder.layers.1", "encoder.layers.0.*.k_proj"), ("encoder.layers.1.", "encoder.layers.0.self_attn.k_proj")),
        (("decoder.layers.1",), ("decoder.layers.1.",)),
        (("*.fc1", "encoder.conv?"), ("fc1", "conv")),
    ):
        expected = [name for name in everything if not any(part in name for part in gone)]
        assert trained_names(tiny, Choice(freeze=freeze)) == expected, freeze


@pytest.mark.parametrize(
    ("freeze", "told"),
    [
        (("encodr",), "did you mean encoder"),
        (("encoder.layers.0-5",), "there is no encoder.layers.2"),
        (("encoder.layers.1-0",), "matches nothing"),
        (("decoder.layer.0",), "decoder.layers.0"),
        (("encoder", "decoder"), "everything is frozen"),
    ],
)
def test_patterns_that_cannot_be(tiny: ModelFolder, freeze: tuple[str, ...], told: str) -> None:
    with pytest.raises(RecipeError, match=r"train\.freeze") as raised:
        prepare(tiny.load(), Choice(freeze=freeze))
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("freeze", "prefix"),
    [((), 0), (("encoder",), 3), (("encoder.layers.0-1",), 2), (("encoder.conv*", "encoder.layers.0"), 1)],
)
def test_the_frozen_beginning_learns_nothing(tiny: ModelFolder, freeze: tuple[str, ...], prefix: int) -> None:
    model = tiny.load()
    parameters = prepare(model, Choice(freeze=freeze))
    assert parameters.frozen_prefix == model.model.encoder.frozen_layers == prefix
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    learn(SummedLoss(model))
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name, value in model.named_parameters() if value.requires_grad}
    assert parameters.trained == sum(value.numel() for name, value in before.items() if name in changed)
    assert parameters.total == sum(value.numel() for value in before.values())


def test_adapters_go_where_they_are_asked_for(tiny: ModelFolder) -> None:
    attention = trained_names(tiny, Choice(method="lora"))
    assert len(attention) == 2 * 4 * (2 + 2 * 2)  # A and B of q, k, v, out in 2 encoder and 2 x 2 decoder attentions
    assert all("lora_" in name for name in attention)
    decoder = trained_names(tiny, Choice(method="lora", freeze=("encoder",)))
    assert decoder == [name for name in attention if name.startswith("decoder.")]
    chosen = trained_names(tiny, Choice(method="lora", targets=("feed_forward", "decoder.layers.1.*.q_proj")))
    assert {name.split(".lora")[0] for name in chosen} == {
        *(f"{part}.layers.{n}.fc{m}" for part in ("encoder", "decoder") for n in (0, 1) for m in (1, 2)),
        "decoder.layers.1.self_attn.q_proj",
        "decoder.layers.1.encoder_attn.q_proj",
    }
    with pytest.raises(RecipeError, match=r"train.lora.targets.*matches nothing"):
        prepare(tiny.load(), Choice(method="lora", targets=("q_porj",)))
    with pytest.raises(RecipeError, match="frozen"):
        prepare(tiny.load(), Choice(method="lora", targets=("encoder.*.fc1",), freeze=("encoder",)))


def test_what_is_trained_is_told(tiny: ModelFolder) -> None:
    settings = AdapterSettings(rank=4, dora=True)
    model = tiny.load()
    parameters = prepare(model, Choice(method="lora", adapters=settings, freeze=("encoder.layers.0",)))
    assert parameters.adapters
    assert parameters.frozen_prefix == 1
    assert parameters.told == (
        f"{parameters.trained:,} of {parameters.total / 1e6:.1f} M parameters are trained: DoRA adapters of rank 4 on "
        "attention; frozen: encoder.layers.0; no gradient goes through the encoder's first 1 of 2 layers"
    )


def test_what_is_frozen_besides_is_told(tiny: ModelFolder) -> None:
    frozen = prepare(tiny.load(), Choice(freeze=("encoder.layers.0",)))
    assert "; frozen: encoder.layers.0 (so the convolutions too); no gradient goes through" in frozen.told
    assert "convolutions" not in prepare(tiny.load(), Choice(freeze=("encoder.conv*", "encoder.layers.0"))).told


DORA = AdapterSettings(8, dora=True)
WAYS = {
    "full": Choice(),
    "lora": Choice(method="lora"),
    "rslora": Choice(method="lora", targets=("feed_forward",), adapters=AdapterSettings(8, rslora=True)),
    "dora": Choice(method="lora", targets=("attention", "feed_forward"), adapters=DORA),
    "8 bits": Choice(method="lora", base_bits=8),
    "4 bits": Choice(method="lora", base_bits=4),
    "dora on 8 bits": Choice(method="lora", base_bits=8, adapters=DORA),
    "dora on 4 bits": Choice(method="lora", base_bits=4, adapters=DORA),
}


def logits(model: WhisperForConditionalGeneration) -> torch.Tensor:
    with torch.no_grad():
        return model(MEL, decoder_input_ids=TOKENS).logits


@pytest.mark.parametrize("way", ["full", "lora", "rslora", "dora", "4 bits", "dora on 4 bits"])
def test_merged_weights_are_those_of_an_ordinary_whisper(narrow: WhisperForConditionalGeneration, way: str) -> None:
    model, ordinary = deepcopy(narrow), deepcopy(narrow)
    prepare(model, WAYS[way])
    learn(SummedLoss(model))
    live = logits(model)
    state = merged_state(model)
    assert set(state) == set(narrow.state_dict())
    assert all(array.dtype == np.float32 for array in state.values())
    assert torch.equal(logits(model), live)  # merging left it as it was
    ordinary.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    assert (logits(ordinary) - live).abs().max() < 1e-4
    assert (logits(narrow) - live).abs().max() > 0.01  # it has learned something
    for array in state.values():
        array.fill(1)  # they are copies
    assert torch.equal(logits(model), live)


def test_real_weights_with_adapters_are_merged(tiny_en: ModelFolder) -> None:
    model, ordinary = tiny_en.load(), tiny_en.load()
    untouched = logits(ordinary)
    prepare(model, Choice(method="lora", freeze=("encoder",)))
    learn(SummedLoss(model), steps=1)
    live = logits(model)
    ordinary.load_state_dict({name: torch.from_numpy(array) for name, array in merged_state(model).items()})
    assert (logits(ordinary) - live).abs().max() < 1e-4
    assert (untouched - live).abs().max() > 0.01


@pytest.mark.parametrize("way", [way for way in WAYS if "bits" in way])
def test_merged_weights_of_few_bits_are_what_the_layers_multiply_by(
    narrow: WhisperForConditionalGeneration, way: str
) -> None:
    """Each row of the unit matrix reads a column off, exactly even where inputs are rounded to 8 bits."""
    model = deepcopy(narrow)
    before = merged_state(model)
    parameters = prepare(model, WAYS[way])
    assert parameters.total == sum(each.numel() for each in narrow.parameters()) + parameters.trained
    assert f"all layers of the base in {WAYS[way].base_bits} bits" in parameters.told
    learn(SummedLoss(model, "bfloat16"))
    state = merged_state(model)
    for name, array in state.items():
        layer = ".layers." in name and "norm" not in name
        if not layer or name.endswith("bias"):
            assert np.array_equal(array, before[name]), name  # all that is not in few bits, biases too
            continue
        linear = model.get_submodule(name.removesuffix(".weight"))
        with torch.no_grad():
            read = (linear(torch.eye(array.shape[1])) - linear(torch.zeros(1, array.shape[1]))).T.numpy()
        assert np.abs(read - array).max() < 0.01 * np.abs(array).max(), name
        assert not np.array_equal(array, before[name])


@pytest.mark.parametrize(("bits", "bytes_"), [(8, 1), (4, 0.5)])
def test_all_that_is_linear_in_the_layers_is_kept_in_few_bits(
    narrow: WhisperForConditionalGeneration, bits: Literal[4, 8], bytes_: float
) -> None:
    model = deepcopy(narrow)
    prepare(model, Choice(method="lora", freeze=("encoder",), base_bits=bits))
    kept = [value for value in model.parameters() if value.dtype in (torch.int8, torch.uint8)]
    shapes = [each.weight.shape for each in narrow.model.modules() if isinstance(each, torch.nn.Linear)]
    assert sum(value.nbytes for value in kept) == bytes_ * sum(map(math.prod, shapes))


def test_bitsandbytes_is_asked_for_by_name(tiny: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match="whispertune\\[bits\\]"):
        prepare(tiny.load(), Choice(method="lora", base_bits=8))


@pytest.mark.parametrize(
    "choice",
    [
        Choice(),
        Choice(freeze=("encoder",)),
        Choice(method="lora", adapters=AdapterSettings(4, dora=True)),
        Choice(method="lora", base_bits=8),
    ],
)
def test_a_checkpoint_keeps_what_is_trained_and_no_more(tiny: ModelFolder, choice: Choice) -> None:
    first, second = tiny.load(), tiny.load()
    torch.manual_seed(0)
    parameters = prepare(first, choice)
    torch.manual_seed(1)
    prepare(second, choice)
    module = SummedLoss(first)
    learn(module)
    state = trained_state(module)
    assert state.keys() == trained_state(first).keys()
    assert "proj_out.weight" not in state
    assert sum(value.numel() for value in state.values()) == parameters.trained
    load_trained(SummedLoss(second), state)
    mine, again = merged_state(first), merged_state(second)
    assert all(np.array_equal(mine[name], again[name]) for name in mine)
    kept = {name: value.clone() for name, value in state.items()}
    learn(module)
    assert all(torch.equal(value, kept[name]) for name, value in state.items())  # copies


def test_weights_of_another_choice_are_refused(tiny: ModelFolder) -> None:
    state = trained_state(tiny.load())
    model = tiny.load()
    prepare(model, Choice(freeze=("encoder.layers.1.fc2",)))
    with pytest.raises(ModelError, match=r"2 differ, model.encoder.layers.1.fc2.bias first"):
        load_trained(model, {name: value for name, value in state.items() if "positions" not in name or "dec" in name})
    short = {name: value[:1] for name, value in trained_state(model).items()}
    with pytest.raises(ModelError, match="not those that are trained here"):
        load_trained(model, short)
