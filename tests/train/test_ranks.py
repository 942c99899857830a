"""Two processes train as one does: the same losses and weights, every segment once, and errors that all of them see."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.rank_worker import Trained, keep, open_runs
from whispertune.data.audio import AudioReader
from whispertune.errors import InputError, RecipeError
from whispertune.model.load import ModelFolder
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter
from whispertune.train.across.ranks import Sharding, open_ranks
from whispertune.train.keeping.checkpoint import Progress, newest_checkpoint
from whispertune.train.keeping.saving import Saver
from whispertune.train.run import Run
from whispertune.train.setup import open_model, plan_run, read_data
from whispertune.train.state import TrainingState

HERE = Path(__file__).parent
NEAR = 1e-4
EMBEDDINGS = "model.model.decoder.embed_tokens.weight"


def spec_of(tiny: ModelFolder, data: Path) -> dict[str, Any]:
    return {
        "recipe": {
            "model": str(tiny.path),
            "language": "sv",
            "data": {"train": [{"source": str(data / "train")}], "dev": [{"source": str(data / "dev")}]},
            "train": {"epochs": 3, "step_segments": 5},
            "windows": {"fit_share": 0.5},
        }
    }


def torchrun(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
    variables |= {"PYTHONFAULTHANDLER": "1"} | environment  # a crash in native code says where
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=600, check=False, env=variables
    )


@pytest.fixture(scope="module")
def told(tiny: ModelFolder, noises: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes saw, by rank, beside what one process does in their place."""
    folder = tmp_path_factory.mktemp("ranks")
    spec = spec_of(tiny, noises)
    (folder / "spec.json").write_text(json.dumps(spec))
    found: dict[str, Any] = {"folder": folder}
    with open_ranks("float32") as alone, open_runs(spec, 0, 1) as runs:

        def told_of(name: str, result: Trained) -> None:
            found[name] = keep(result, folder / f"{name}.pt")

        told_of("one", runs.train(alone, range(2)))
        done = torchrun(str(HERE / "rank_worker.py"), str(folder / "spec.json"), str(folder))
        assert done.returncode == 0, done.stderr
        told_of("whole", runs.train(alone, range(4)))
        told_of("lora", runs.train(alone, range(2), lora=True))
        told_of("muon", runs.train(alone, range(2), optimizer="muon"))
        for kind in ("ddp", "fsdp"):
            told_of(f"one after {kind}", runs.train(alone, range(2, 4), folder / f"{kind}.pt"))
    for rank in range(2):
        found[f"rank {rank}"] = json.loads((folder / f"rank-{rank}.json").read_text())
    return found


def close(told: dict[str, Any], name: str, other: str) -> None:
    """Weights and the state of the optimizer are the same."""
    ours, theirs = (torch.load(told["folder"] / f"{each}.pt", weights_only=True) for each in (name, other))
    assert ours["weights"].keys() == theirs["weights"].keys()
    for key, value in ours["weights"].items():
        torch.testing.assert_close(value, theirs["weights"][key], rtol=0, atol=NEAR, msg=key)
    close_states(told, name, other)


def close_states(told: dict[str, Any], name: str, other: str) -> None:
    """The moments of the optimizer are the same."""
    ours, theirs = (torch.load(told["folder"] / f"{each}.pt", weights_only=True) for each in (name, other))
    states, others = (each["state"]["optimizer"]["state"] for each in (ours, theirs))
    assert states.keys() == others.keys()
    for number, values in states.items():
        for key, value in values.items():
            torch.testing.assert_close(value, others[number][key], rtol=0, atol=NEAR, msg=f"{number} {key}")


def weights(told: dict[str, Any], name: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(told["folder"] / f"{name}.pt", weights_only=True)["weights"]
    return found


def test_ranks_tell_each_other(told: dict[str, Any]) -> None:
    for rank in range(2):
        assert told[f"rank {rank}"]["words"] == {
            "sum": [4.0, 20.0],
            "any": [True, False],
            "most": 3,
            "gather": ["rank 0", "rank 1"],
            "broadcast": {"of": 0},
            "on_main": "decided by 0",
        }


def test_an_error_on_one_rank_is_raised_by_all(told: dict[str, Any]) -> None:
    """Ours as it is; of others the name; and all are in step again afterwards."""
    first, second = (told[f"rank {rank}"]["errors"] for rank in range(2))
    ours = [["DataError", "no audio", "row 7", "look at it", 2], ["Interrupted", "stopped", None, "--resume", 3]]
    assert first[:2] == second[:2] == ours
    assert first[2][:2] == ["TrainingError", "rank 1 failed: ZeroDivisionError: a fault"]
    assert second[2] == ["ZeroDivisionError", "a fault"]
    assert first[3][:3] == ["HeldError", "held", "a row"]
    assert second[3][:3] == ["TrainingError", "rank 0: held", "a row"]
    assert first[4] == second[4] == ["in step", 0, 1]


@pytest.mark.parametrize("name", ["ddp", "ddp resumed", "fsdp", "fsdp resumed", "one after ddp", "one after fsdp"])
def test_any_number_of_ranks_goes_the_same_way(told: dict[str, Any], name: str) -> None:
    """Also from what another number of them saved; in these steps a rank has nothing, or fewer parts than the other."""
    found = told["rank 0"].get(name) or told[name]
    part = slice(0, 2) if name in ("ddp", "fsdp") else slice(2, 4)
    assert found["losses"] == pytest.approx(told["whole"]["losses"][part], abs=NEAR)
    assert found["norms"] == pytest.approx(told["whole"]["norms"][part], rel=NEAR)
    assert found["seen"] == told["whole"]["seen"][part]
    if not name.startswith("one"):
        assert all(first > second for first, second in found["parts"])
    if part.stop == 4:
        close(told, name, "whole")


def test_the_steps_differ_as_they_are_to(told: dict[str, Any]) -> None:
    """Else the test above would be of less: a rank without anything, and two with unlike numbers of parts."""
    assert told["rank 0"]["ddp"]["parts"] == [[1, 0], [2, 1]]
    assert [sorted(set(step)) for step in told["whole"]["seen"]] == told["whole"]["seen"]


def test_sharded_ranks_train_adapters(told: dict[str, Any]) -> None:
    assert told["rank 0"]["fsdp lora"]["losses"] == pytest.approx(told["lora"]["losses"], abs=NEAR)
    close(told, "fsdp lora", "lora")


def test_sharded_ranks_train_with_muon(told: dict[str, Any]) -> None:
    """Its updates blow up what is rounded in directions without a gradient, so the weights are less near."""
    assert told["rank 0"]["fsdp muon"]["losses"] == pytest.approx(told["muon"]["losses"], abs=NEAR)
    assert told["muon"]["losses"] != pytest.approx(told["one"]["losses"], abs=NEAR)
    close_states(told, "fsdp muon", "muon")


def test_sharded_ranks_fetch_weights_in_bfloat16(told: dict[str, Any]) -> None:
    losses = told["rank 0"]["fsdp bfloat16"]["losses"]
    assert losses == pytest.approx(told["whole"]["losses"][:2], abs=2e-3)
    assert losses != pytest.approx(told["whole"]["losses"][:2], abs=1e-6)


def test_tied_embeddings_stay_tied(told: dict[str, Any]) -> None:
    whole = weights(told, "fsdp resumed")
    assert not [name for name in whole if "proj_out" in name]
    assert not torch.equal(whole[EMBEDDINGS], weights(told, "one")[EMBEDDINGS])


def test_what_a_shard_cannot_be_made_of_is_refused(tiny: ModelFolder, noises: Path) -> None:
    train = parse_recipe(spec_of(tiny, noises)["recipe"]).train
    with open_ranks() as ranks:
        ranks.check(train.model_copy(update={"optimizer": "adamw8bit"}))
        sharing = replace(ranks, sharded=Sharding(reshard_after_forward=True, offload=None))
        sharing.check(train)
        for more in ({"optimizer": "adamw8bit"}, {"method": "lora", "base_bits": 4}):
            with pytest.raises(RecipeError, match="FSDP cannot shard"):
                sharing.check(train.model_copy(update=more))


def test_shards_see_the_windows_that_whole_models_see(tiny: ModelFolder, noises: Path, reader: AudioReader) -> None:
    """Of a frozen encoder's states none are kept then; a run may go on with more or fewer ranks all the same."""
    content = spec_of(tiny, noises)["recipe"]
    changes = {"train": {"freeze": ["encoder"], "epochs": 2, "step_segments": 4}, "windows": {"fit_share": 0.0}}
    recipe = parse_recipe(content | changes)
    with open_ranks("float32") as ranks:
        data = read_data(recipe, reader, ranks, Reporter())
        sharing = replace(ranks, sharded=Sharding(reshard_after_forward=True, offload=None))
        models = [open_model(recipe, data, each) for each in (ranks, sharing)]
        plans = [plan_run(recipe, data, model, ranks, Reporter()) for model in models]
    assert [model.keeps_states for model in models] == [True, False]
    assert plans[0].step(1) == plans[1].step(1)
    assert plans[0].settings.fixed


def test_one_process_is_a_rank_too() -> None:
    with open_ranks("float32") as ranks:
        assert (ranks.rank, ranks.count, ranks.main, ranks.precision) == (0, 1, True, "float32")
        assert ranks.sum(1, 2.5) == (1, 2.5)
        assert ranks.rounds([[1], [2]]) == [([1], False), ([2], True)]
        assert ranks.rounds([]) == [((), True)]
        with pytest.raises(InputError, match="as it is"):
            ranks.on_main(fails)


def test_the_main_rank_alone_copies_the_weights_to_be_saved(tiny: ModelFolder, tmp_path: Path) -> None:
    model = tiny.load()
    with open_ranks() as ranks:
        for rank in range(2):
            run = Run(tmp_path / str(rank))
            wrapped, optimizer = replace(ranks, rank=rank).wrap(model), torch.optim.SGD(model.parameters(), lr=1.0)
            assert TrainingState(wrapped, optimizer, None, Saver(run, 1, "stop", print)).save(Progress(step=1))
            found = newest_checkpoint(run.checkpoints)
            assert found is not None
            assert bool(found.weights()) == (rank == 0)


def test_float16_losses_are_scaled_and_less_so_after_an_overflow() -> None:
    module, values = torch.nn.Linear(2, 1, bias=False), torch.tensor([[3.0, 4.0]])
    before = module.weight.detach().clone()
    with open_ranks() as ranks:
        wrapped = replace(ranks, precision="float16").wrap(module)
        optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
        scale = wrapped.scaler.get_scale()
        wrapped.backward(wrapped(values).sum() * torch.inf)
        assert not math.isfinite(wrapped.clip(optimizer, 1.0))
        wrapped.skip()
        optimizer.zero_grad()
        assert wrapped.scaler.get_scale() == scale / 2
        assert torch.equal(module.weight, before)
        wrapped.backward(wrapped(values).sum() * False)  # no row of it could be read
        assert wrapped.clip(optimizer, 1.0) == 0
        wrapped.skip()
        optimizer.zero_grad()
        assert wrapped.scaler.get_scale() == scale / 2
        wrapped.backward(wrapped(values).sum())
        assert wrapped.clip(optimizer, 1.0) == pytest.approx(5.0)
        wrapped.update(optimizer)
    torch.testing.assert_close(before - module.weight.detach(), torch.tensor([[0.6, 0.8]]))


def fails() -> None:
    raise InputError("as it is")
