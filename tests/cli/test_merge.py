"""`whispertune merge`: a mean of models, weighted or not, and models and shares that do not fit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whispertune.cli import main
from whispertune.cli.merge import spread
from whispertune.decode.context import MARK, Mark
from whispertune.errors import InputError
from whispertune.model.adapters import AdapterSettings
from whispertune.model.formats.adapter import keep_adapter, write_adapter
from whispertune.model.formats.transformers import write_folder
from whispertune.model.generation import Generation
from whispertune.model.load import ModelFolder, find_model
from whispertune.model.merge import common_generation, interpolated, summed
from whispertune.model.parameters import Choice, merged_state, prepare
from whispertune.service.merge import default_folder, merge


def other(tiny: ModelFolder, folder: Path, seed: int, contexts: tuple[str, ...] = ("full",), **settings: Any) -> Path:
    """A model of the same shape with other weights."""
    random = np.random.default_rng(seed)
    state = {
        name: array + random.normal(0, 0.1, array.shape).astype(np.float32)
        for name, array in merged_state(tiny.load()).items()
    }
    write_folder(folder, state, tiny.shape, tiny.tokenizer_json, replace(tiny.generation, **settings))
    Mark(contexts).write(folder)
    return folder


def state_of(folder: Path) -> dict[str, np.ndarray]:
    return merged_state(find_model(str(folder)).load())


def test_as_the_command_line_writes_it(tiny: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = other(tiny, tmp_path / "one", 1, ("full", "fit"), language="sv", suppress=(1, 2, 3))
    two = other(tiny, tmp_path / "two", 2, suppress=(3, 2, 5))
    out = tmp_path / "out"
    assert main(["merge", str(one), str(two), "--weights", "0.7", "0.3", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["weights"], found["contexts"], found["folder"]) == ([0.7, 0.3], ["full"], str(out))
    assert found["size_bytes"] == sum(path.stat().st_size for path in out.iterdir())
    expected = interpolated(state_of(one), state_of(two), 0.3)
    state = state_of(out)
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(state[name], array, atol=1e-7)
    generation = find_model(str(out)).generation
    assert (generation.suppress, generation.language) == ((2, 3), "sv")
    assert Mark.read(out) == Mark(("full",), "merged")
    assert json.loads((out / MARK).read_text())["origin"] == {"models": ["one", "two"], "weights": [0.7, 0.3]}
    assert not list(tmp_path.glob(".*"))


def test_equal_shares_of_three(tiny: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [other(tiny, tmp_path / name, seed, ("full", "fit")) for seed, name in enumerate("abc")]
    out = tmp_path / "mean"
    assert main(["merge", *map(str, models), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "0.333 x" in printed
    assert f"whispertune evaluate {out}" in printed
    mean, states = state_of(out), [state_of(each) for each in models]
    for name, array in mean.items():
        np.testing.assert_allclose(array, np.mean([state[name] for state in states], axis=0), atol=1e-6)
    assert Mark.read(out).contexts == ("full", "fit")


def test_where_a_mixture_goes(
    tiny: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = other(tiny, tmp_path / "one", 1), other(tiny, tmp_path / "two", 2)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["merge", str(one), f"{two}/", "--weights", "0.7", "0.3"]) == 0
    assert "one-two-merged: 0.7 x" in capsys.readouterr().out
    assert Mark.read(tmp_path / "here" / "one-two-merged").weights == "merged"
    assert default_folder(["openai/whisper-small", "bundled:whisper-base"]) == Path("whisper-small-whisper-base-merged")


def test_the_whole_share_is_the_model_itself(tiny: ModelFolder, tmp_path: Path) -> None:
    one, two = other(tiny, tmp_path / "one", 1), other(tiny, tmp_path / "two", 2)
    out = tmp_path / "out"
    merge([str(one), str(two)], out, weights=[0, 1])
    expected = state_of(two)
    assert all(np.array_equal(array, expected[name]) for name, array in state_of(out).items())


def test_adapters_are_merged_into_their_base_first(tiny: ModelFolder, tmp_path: Path) -> None:
    model = tiny.load()
    prepare(model, Choice("lora", adapters=AdapterSettings(rank=2, alpha=4)))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(generator=torch.Generator().manual_seed(0))
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(tiny.path, base)
    adapter.mkdir()
    keep_adapter(model, tmp_path, str(base))
    write_adapter(tmp_path, adapter, "float32")
    out = tmp_path / "out"
    found = merge([str(adapter), str(base)], out, weights=[0.25, 0.75])
    assert found.models == (str(adapter), str(base))
    expected, tuned = state_of(base), merged_state(model)
    for name, array in state_of(out).items():
        np.testing.assert_allclose(array, 0.75 * expected[name] + 0.25 * tuned[name], atol=1e-6, err_msg=name)
    assert "lora" not in (out / "config.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "0.7", "0.2"], "0.7 0.2 are 0.9 together, not 1"),
        (["--weights", "0.5", "0.3", "0.2"], "3 shares (0.5 0.3 0.2) for 2 models"),
        (["--weights", "1.5", "-0.5"], "1.5 is not between 0 and 1"),
        (["--weights", "nan", "1"], "nan is not between 0 and 1"),
    ],
)
def test_shares_that_do_not_fit(
    arguments: list[str], message: str, tiny: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["merge", str(tiny.path), str(tiny.path), *arguments, "--out", str(tmp_path / "out")]
    assert main(command) == InputError("").exit_code
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_models_that_do_not_fit(
    tiny: ModelFolder, tiny_en: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["merge", str(tiny.path), "bundled:whisper-tiny.en", "--out", out]) == 2
    assert "shapes differ" in capsys.readouterr().err
    assert main(["merge", str(tiny.path), "--out", out]) == 2
    told = capsys.readouterr().err
    assert "nothing to merge with" in told
    assert "give two models or more" in told
    (tmp_path / "file").touch()
    assert main(["merge", str(tiny.path), str(tiny.path), "--out", str(tmp_path / "file")]) == 2
    assert f"{tmp_path / 'file'}: this is a file" in capsys.readouterr().err
    (tmp_path / "file").unlink()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    assert main(["merge", str(tiny.path), str(tiny.path), "--out", out]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "precious"]


def test_an_adapter_alone_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    assert main(["merge", str(tmp_path / "adapter")]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"an adapter is merged into its base by: whispertune export {tmp_path}/adapter --to transformers" in told
    assert "two models" not in told
    assert main(["merge", "me/lora"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "two models or more; if it is an adapter" in told
    assert "whispertune export me/lora --to transformers" in told


def test_numbers_go_to_the_shares_and_nowhere_else() -> None:
    assert spread(["a", "--weights", "0.7", ".3", "b"]) == ["a", "--weights", "0.7", "--weights", ".3", "b"]
    assert spread(["--weights", "0.7", "--weights", "0.3"]) == ["--weights", "0.7", "--weights", "0.3"]
    assert spread(["--weights", "--out", "1"]) == ["--weights", "--out", "1"]
    assert spread(["--weights=0.7", "a"]) == ["--weights=0.7", "a"]


def test_what_mixtures_suppress_all_of_their_models_do() -> None:
    one = Generation((5, 1, 2), (220, 7), ((0, 1),), "sv", "transcribe")
    two = Generation((2, 5), (220,), (), None, "translate")
    assert common_generation([one, two]) == Generation((5, 2), (220,), ((0, 1),), "sv", None)


def test_what_is_not_finite_and_has_no_share_does_no_harm() -> None:
    broken, good = ({"a": np.full(2, value, np.float16)} for value in (np.inf, 2))
    assert summed([broken, good], [0, 1])["a"].tolist() == [2, 2]
