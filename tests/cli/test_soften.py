"""`whispertune soften`: mixtures of a run's base and tuned model, and what is written of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import pytest

from whispertune.cli import main
from whispertune.decode.context import MARK, Mark
from whispertune.errors import InputError
from whispertune.model.formats.transformers import write_folder
from whispertune.model.load import ModelFolder, find_model
from whispertune.model.merge import interpolated
from whispertune.model.parameters import merged_state
from whispertune.recipe import Clean, Data, Evaluation, Recipe, RetentionTable, SourceTable
from whispertune.recipe_file import save_recipe
from whispertune.service.soften import parse_retention

SHARES = [0.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def worse(tiny_en: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """whisper-tiny.en with disturbed weights: it makes more errors."""
    import torch

    model = tiny_en.load()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.startswith("model.decoder.layers") and value.ndim == 2:
                value.add_(torch.randn(value.shape, generator=random) * value.std() * 0.4)
    folder = tmp_path_factory.mktemp("worse")
    write_folder(folder, merged_state(model), tiny_en.shape, tiny_en.tokenizer_json, tiny_en.generation)
    return folder


@pytest.fixture(scope="module")
def brief(tiny: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random model, but that it ends after one token: it makes fewer errors, since nothing runs on."""
    import torch

    model = tiny.load()
    end = tiny.vocabulary.end
    with torch.no_grad():
        embeddings, norm = model.model.decoder.embed_tokens.weight, model.model.decoder.layer_norm
        embeddings[end] *= 100
        norm.weight.zero_()
        norm.bias.copy_(embeddings[end])
    folder = tmp_path_factory.mktemp("brief")
    write_folder(folder, merged_state(model), tiny.shape, tiny.tokenizer_json, tiny.generation)
    return folder


def run_of(
    folder: Path,
    base: Path,
    tuned: Path,
    dev: Path,
    retention: tuple[RetentionTable, ...] = (),
    *,
    train: Path | None = None,
    leakage: Literal["error", "drop", "allow"] = "allow",
    normalizer: str | None = None,
) -> Path:
    """A run as training leaves it, as far as softening looks at it; it trains on dev, unless `train` is given."""
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    rows = (SourceTable(source=str(dev)),)
    data = Data(train=(SourceTable(source=str(train)),) if train else rows, dev=rows)
    recipe = Recipe(
        model=str(base),
        language="en",
        data=data,
        retention=retention,
        evaluation=Evaluation(batch=3, normalizer=normalizer),
        clean=Clean(leakage=leakage),
    )
    save_recipe(recipe, folder / "resolved.toml")
    found = find_model(str(tuned))
    write_folder(folder / "model", merged_state(found.load()), found.shape, found.tokenizer_json, found.generation)
    return folder


def softened(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["soften", *arguments, "--lambdas", "0.5", "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_best_that_keeps_enough_is_written(
    worse: Path, tiny_en: ModelFolder, english_read: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    english = RetentionTable(name="read", source=str(english_read), language="en")
    whole = RetentionTable(name="whole", source=str(english_read), language="en", recordings=True, limit_rows=1)
    run = run_of(tmp_path / "run", worse, tiny_en.path, english_read, (english, whole))
    found = softened(capsys, str(run))
    assert found["lambdas"] == SHARES
    on_dev = [each["wer"] for each in found["target"]]
    assert on_dev[2] < on_dev[0]  # the base is the disturbed one
    assert [each["wer"] for each in found["retention"]["read"]] == on_dev  # the same rows
    kept = [each["wer"] for each in found["retention"]["whole"]]
    fit = [place for place in (1, 2) if kept[place] <= 1.05 * max(0.5, kept[0]) and on_dev[place] < on_dev[0]]
    best = min(fit, key=on_dev.__getitem__)
    assert found["chosen"] == SHARES[best]
    assert json.loads((run / "soften.json").read_text()) == found
    assert "Chosen" in (run / "soften.html").read_text()

    model = find_model(str(run / "softened"))  # a model like any other, by name
    ends = [merged_state(find_model(str(each)).load()) for each in (worse, tiny_en.path)]
    expected = interpolated(*ends, SHARES[best])
    state = merged_state(model.load())
    assert all((state[name] == expected[name]).all() for name in expected)
    assert Mark.read(model.path) == Mark(("full",), "softened")
    origin = json.loads((model.path / MARK).read_text())["origin"]
    assert (origin["lambda"], origin["tuned"], origin["base"]) == (SHARES[best], "run", worse.name)
    assert str(tmp_path) not in (model.path / MARK).read_text()


def test_none_is_chosen_and_that_is_said(
    tiny: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that changed nothing."""
    run = run_of(tmp_path / "run", tiny.path, tiny.path, noises / "dev")
    sets = ["--retention", f"noise={noises / 'train'}:en", "--retention", "quiet=silence"]
    found = softened(capsys, str(run), *sets, "--limit", "2")
    assert (found["chosen"], found["model"]) == (None, None)
    assert {name: [each["rows"] for each in found["retention"][name]] for name in ("noise", "quiet")} == {
        "noise": [2, 2, 2],
        "quiet": [2, 2, 2],
    }
    assert found["retention"]["quiet"][0]["metric"] == "clips_with_text"
    assert not (run / "softened").exists()
    assert "None chosen" in (run / "soften.html").read_text()


def test_dev_is_normalised_as_the_recipe_says_and_what_is_kept_by_its_language(
    tiny: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text is one word by English, 21, and two by any other; the model writes more than two."""
    dev = shutil.copytree(noises / "dev", tmp_path / "dev")
    (dev / "metadata.jsonl").write_text('{"file_name": "0.wav", "text": "twenty-one"}\n')
    found = {}
    for normalizer in (None, "basic"):
        run = run_of(tmp_path / f"by {normalizer}", tiny.path, tiny.path, dev, normalizer=normalizer)
        found[normalizer] = softened(capsys, str(run), "--retention", f"same={dev}:en")
    (own, named) = ((each["target"][0], each["retention"]["same"][0]) for each in found.values())
    assert own[0]["wer_normalized"] == own[1]["wer_normalized"] == named[1]["wer_normalized"] > 200
    assert named[0]["wer_normalized"] == own[0]["wer_normalized"] / 2


def test_it_may_go_elsewhere_but_replaces_nothing_else(
    brief: Path, tiny: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "run", tiny.path, brief, noises / "dev")
    out = tmp_path / "out"
    (out / "softened").mkdir(parents=True)
    (out / "softened" / "mine.txt").write_text("mine")
    before = sorted(run.iterdir())
    arguments = ["soften", str(run), "--retention", f"noise={noises / 'dev'}", "--out", str(out), "--lambdas", "1"]
    assert main(arguments) == 2
    assert "no softened model" in capsys.readouterr().err
    (out / "softened").rename(out / "mine")
    for _ in range(2):  # the second time in the place of the first
        assert main(arguments) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "lambda" in printed
        assert "+0.0 %" in printed
        assert "chosen: lambda 1" in printed
    assert json.loads((out / "soften.json").read_text())["model"] == str(out / "softened")
    assert Mark.read(out / "softened").weights == "softened"
    assert sorted(run.iterdir()) == before


def test_where_nothing_can_be_written_nothing_is_decoded(
    tiny: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path / "run", tiny.path, tiny.path, noises / "dev")

    def touch(self: Path, *given: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "touch", touch)
    monkeypatch.delattr("whispertune.service.soften.Mixtures")
    assert main(["soften", str(run), "--retention", "a=silence"]) == 2
    told = capsys.readouterr().err
    assert "cannot be written (Read-only file system)" in told
    assert "--out" in told


def test_figures_are_written_before_the_page(
    tiny: ModelFolder, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwritten(path: Path, page: str) -> None:
        raise InputError("cannot be written (No space left on device)", where=str(path))

    monkeypatch.setattr("whispertune.service.soften.write_page", unwritten)
    run = run_of(tmp_path / "run", tiny.path, tiny.path, noises / "dev")
    assert main(["soften", str(run), "--retention", f"noise={noises / 'dev'}", "--lambdas", "1"]) == 2
    assert json.loads((run / "soften.json").read_text())["lambdas"] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "no retention set"),
        (["--retention", "read"], "not a retention set"),
        (["--retention", "a/b=c"], "letters, digits"),
        (["--retention", "a=silence", "--lambdas", "0.5,2"], "not between base"),
        (["--retention", "a=silence", "--lambdas", "half"], "not a list of numbers"),
    ],
)
def test_what_cannot_be_ends_with_2(
    options: list[str],
    says: str,
    tiny: ModelFolder,
    noises: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = run_of(tmp_path / "run", tiny.path, tiny.path, noises / "dev")
    assert main(["soften", str(run), *options]) == 2
    assert says in capsys.readouterr().err


def test_only_runs_can_be_softened(
    tiny: ModelFolder, base: ModelFolder, noises: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["soften", str(tiny.path), "--retention", "a=silence"]) == 2
    assert "no run that was trained" in capsys.readouterr().err
    run = run_of(tmp_path / "run", base.path, tiny.path, noises / "dev")
    assert main(["soften", str(run), "--retention", "a=silence"]) == 2
    assert "shapes differ" in capsys.readouterr().err


def test_sets_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("prompts", "kaldi", "cv"):
        (tmp_path / folder).mkdir()
    found = parse_retention("english=prompts:en")
    assert (found.name, found.source, found.language) == ("english", "prompts", "en")
    assert parse_retention(" a b = prompts ").name == "a b"
    for source in ("prompts", "gone:en", "hub:google/fleurs:en", "commonvoice:cv:test"):
        assert (parse_retention(f"a={source}").source, parse_retention(f"a={source}").language) == (source, None)
    split = parse_retention("a=commonvoice:cv:test:sv")
    assert (split.source, split.language) == ("commonvoice:cv:test", "sv")
    assert parse_retention("quiet=silence").silence
    (tmp_path / "silence").mkdir()
    assert parse_retention("quiet=silence").source == "silence"
    with pytest.raises(InputError):
        parse_retention("=prompts")
