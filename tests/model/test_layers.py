"""Layers and attention: transformers' numbers in every precision, rows that skip, and what is computed twice."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from whispertune.model import attention
from whispertune.model.layers import flat, layers_of, rectangles, set_stochastic_depth
from whispertune.model.load import ModelFolder
from whispertune.model.loss import SummedLoss
from whispertune.model.parameters import Choice, prepare
from whispertune.windows.batches import Batch
from whispertune.windows.labels import IGNORE

MEL = torch.randn(2, 80, 400, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randint(0, 50_000, (2, 9), generator=torch.Generator().manual_seed(2))

BATCH = Batch(MEL, TOKENS, TOKENS)


def batch_of(rows: int, frames: int, tokens: int) -> Batch:
    """Others at random, the last target of each row without a loss."""
    random = torch.Generator().manual_seed(frames)
    inputs = torch.randint(0, 50_000, (rows, tokens), generator=random)
    targets = inputs.clone()
    targets[:, -1] = IGNORE
    return Batch(torch.randn(rows, 80, frames, generator=random), inputs, targets)


def gradients(module: nn.Module, *batches: Batch, seed: int = 0) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one backward pass."""
    module.zero_grad()
    torch.manual_seed(seed)
    loss = module.train()(*(batches or [BATCH]))
    loss.backward()
    found = {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}
    return loss.item(), found


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], share: float = 1e-5) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert (value - other[name]).norm() <= share * max(1.0, float(value.norm())), name


@pytest.mark.parametrize(
    ("length", "source", "causal"), [(30, 30, False), (5, 40, False), (40, 5, False), (1, 1, False), (30, 30, True)]
)
def test_attention_in_blocks_is_attention(
    length: int, source: int, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "BLOCK_SCORES", 1000)  # several blocks, the last one smaller
    torch.manual_seed(0)
    exact = [torch.randn(3, 4, size, 8, dtype=torch.double) for size in (length, source, source)]
    exact = [tensor.bfloat16().double().requires_grad_() for tensor in exact]
    ours = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
    gradient = torch.randn(3, 4, length, 8).bfloat16()
    expected = F.scaled_dot_product_attention(*exact, scale=0.5, is_causal=causal)
    expected.backward(gradient.double())
    mixed = attention._Blocked.apply(*ours, 0.5, causal)
    mixed.backward(gradient)
    assert (mixed - expected).norm() < 0.01 * expected.norm()
    for tensor, reference in zip(ours, exact, strict=True):
        size = max(1.0, float(reference.grad.norm()))  # of one key alone the scores learn nothing
        assert (tensor.grad - reference.grad).norm() < 0.01 * size


def test_the_chance_to_be_skipped_grows_with_depth(tiny: ModelFolder) -> None:
    module = SummedLoss(tiny.load(), stochastic_depth=0.5)
    assert [layer.skip_chance for layer in layers_of(module.model)] == [0.25, 0.5, 0.25, 0.5]
    assert gradients(module, seed=1)[0] == gradients(module, seed=1)[0]
    assert gradients(module, seed=1)[0] != gradients(module, seed=2)[0]
    module.eval()
    assert module(BATCH).item() == SummedLoss(tiny.load()).eval()(BATCH).item()


def test_rows_skip_a_layer_one_by_one(tiny: ModelFolder) -> None:
    module = SummedLoss(tiny.load(), stochastic_depth=0.5)
    layer = module.model.model.encoder.layers[1].train()
    hidden = torch.randn(1, 6, 16).expand(400, 6, 16)
    torch.manual_seed(0)
    skipped = (layer(hidden) == hidden).all(dim=2).all(dim=1)
    assert 150 < int(skipped.sum()) < 250
    kept = layer.kept(hidden, None)
    assert kept.shape == (400, 1, 1)
    assert torch.equal(kept.unique(), torch.tensor([0.0, 2.0]))  # as much in the mean as without


def test_rows_of_several_lengths_skip_one_by_one_too(tiny: ModelFolder) -> None:
    layer = SummedLoss(tiny.load(), stochastic_depth=0.5).model.model.encoder.layers[1].train()
    hidden, spans = flat([torch.randn(100, 6, 16), torch.randn(200, 3, 16)])
    assert hidden.shape == (1, 1200, 16)
    torch.manual_seed(0)
    through = rectangles(layer(hidden, spans=spans), spans)
    for before, after in zip(rectangles(hidden, spans), through, strict=True):
        same = (before == after).all(dim=2)
        assert torch.equal(same.any(dim=1), same.all(dim=1))  # a row skips it whole or not at all
        assert 0.35 < float(same[:, 0].float().mean()) < 0.65


@pytest.mark.parametrize("method", ["full", "lora", "frozen", "part"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_several_lengths_at_once_are_each_by_itself(tiny: ModelFolder, method: str, precision: str) -> None:
    """The loss and the gradients are the sums of those of the batches alone."""
    freeze = {"frozen": ("encoder",), "part": ("encoder.conv*", "encoder.layers.0")}.get(method, ())
    model = tiny.load()
    prepare(model, Choice(method="lora" if method == "lora" else "full", freeze=freeze))
    module = SummedLoss(model, precision)
    batches = [BATCH, batch_of(3, 100, 4), batch_of(1, 600, 40)]
    together, found = gradients(module, *batches)
    alone = [gradients(module, batch) for batch in batches]
    assert together == pytest.approx(sum(loss for loss, _ in alone), rel=1e-5 if precision == "float32" else 1e-3)
    summed = {name: sum((each[name] for _, each in alone), torch.zeros(1)) for name in found}
    assert_close(found, summed, 1e-4 if precision == "float32" else 0.03)


def test_several_lengths_of_kept_states(tiny: ModelFolder) -> None:
    model = tiny.load()
    prepare(model, Choice(freeze=("encoder.conv*", "encoder.layers.0")))
    module = SummedLoss(model)
    heard = [BATCH, batch_of(3, 100, 4)]
    kept = [Batch(None, each.inputs, each.targets, module.prefix(each.mel)) for each in heard if each.mel is not None]
    expected, theirs = gradients(module, *heard)
    loss, found = gradients(module, *kept)
    assert loss == pytest.approx(expected, rel=1e-3)  # states are kept in bfloat16
    assert_close(found, theirs, 0.02)


def test_what_every_row_skips_has_a_gradient_all_the_same(tiny: ModelFolder) -> None:
    """Of zeros: data parallel training waits for the gradient of each parameter."""
    module = SummedLoss(tiny.load())
    set_stochastic_depth(module.model, 0.999999)
    _, found = gradients(module)
    assert found.keys() == {name for name, value in module.named_parameters() if value.requires_grad}
    assert not found["model.model.encoder.layers.1.fc1.weight"].any()
    assert found["model.model.encoder.conv1.weight"].any()


@pytest.mark.parametrize("method", ["full", "lora", "frozen"])
def test_activations_computed_twice_give_the_same_gradients(tiny: ModelFolder, method: str) -> None:
    freeze = ("encoder.conv*", "encoder.layers.0") if method == "frozen" else ()
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(3)
        model = tiny.load(dropout=0.2)
        prepare(model, Choice(method="lora" if method == "lora" else "full", freeze=freeze))
        for name, value in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(value)
        module = SummedLoss(model, stochastic_depth=0.3, checkpointing=checkpointing)
        found.append(gradients(module, BATCH, batch_of(3, 100, 4)))
    assert found[0][0] == found[1][0]
    assert_close(found[0][1], found[1][1])


def test_layers_that_learn_keep_their_inputs_alone(tiny: ModelFolder) -> None:
    """What is kept for the backward pass shrinks."""
    kept = []
    for checkpointing in (False, True):
        module = SummedLoss(tiny.load(), checkpointing=checkpointing).train()
        sizes: list[int] = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            module.model.model.encoder(MEL)
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.filterwarnings("ignore")  # torch warns of what its own compiler does
def test_compiled_layers_give_the_same(tiny: ModelFolder) -> None:
    models = [tiny.load(), tiny.load()]
    for part in (part for model in models for part in (model.model.encoder, model.model.decoder)):
        part.layers = part.layers[:1]  # each is compiled by itself
    compiled, plain = SummedLoss(models[0], compiled=True), SummedLoss(models[1])
    for frames in (200, 400, 320):  # after the second length, lengths are no longer compiled in
        batch = Batch(MEL[:, :, :frames], TOKENS, TOKENS)
        loss, found = gradients(compiled, batch)
        expected, theirs = gradients(plain, batch)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert_close(found, theirs, 1e-3)
