"""A card tells what its run wrote down, in the forms that people and the hub read, and nothing of who made it."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import eval_results_to_model_index

from tests.finished_run import finished_run, of_texts
from tests.hub_server import Hub
from whispertune.data.segments import Segment
from whispertune.errors import InputError
from whispertune.evaluation.evaluate import Hypothesis, evaluation_of
from whispertune.model.generation import write_generation
from whispertune.model.load import ModelFolder
from whispertune.publish.card import card
from whispertune.publish.card_results import results
from whispertune.publish.exported import Exported, Verified, parse_formats
from whispertune.publish.facts import read_facts
from whispertune.publish.failures import known_failures
from whispertune.publish.hub import check_card
from whispertune.publish.metadata import metadata
from whispertune.recipe_file import load_recipe, save_recipe
from whispertune.train.run import Run

REPOSITORY = "me/whisper-noise"
VERIFIED = Verified(
    "0.10 WER from the source (9.10 there, 9.20 here, at most 0.5 allowed) on 60 clips", 60, 58, 120.0, 30.0
)
EXPORTS = (
    Exported("transformers", "float32", "", 290_000_000, "transformers 5.23.0", VERIFIED),
    Exported("ct2", "int8_float16", "ct2", 77_000_000, "faster-whisper 1.2.1", None),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: ModelFolder, noises: Path) -> Run:
    return finished_run(
        tmp_path_factory.mktemp("card") / "my-run", tiny.path, noises, licence="apache-2.0", counted=True
    )


def card_of(run: Run, licence: str | None = None) -> str:
    return card(read_facts(run), EXPORTS, REPOSITORY, licence=licence, multilingual=True)


@pytest.fixture(scope="module")
def text(run: Run) -> str:
    return card_of(run, "apache-2.0")


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def test_figures_are_those_of_the_run(text: str, run: Run) -> None:
    scores = read_facts(run).tuned.scores
    low, high = scores.wer_normalized_interval
    results = section(text, "Results")
    assert "| | base | tuned |" in results
    assert f"| {scores.wer_normalized:.1f} ({low:.1f} to {high:.1f}) |" in results
    assert f"Normalised: by `{scores.normalizer}`" in results
    assert scores.normalizer == "whispertune-basic 1"
    assert "These rows also chose the checkpoint" in results
    assert "3 rows, 0.1 minutes, of the dev set" in results


def test_a_test_set_is_not_said_to_have_chosen(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    written = card_of(finished_run(tmp_path / "run", tiny.path, noises, test=True))
    assert "chose the checkpoint" not in written
    assert ModelCard(written).data.eval_results[0].dataset_split == "test"
    assert "- This model: not stated" in section(written, "Licence and origin")
    assert "license" not in ModelCard(written).data.to_dict()


def test_how_it_was_made(text: str) -> None:
    made = section(text, "How it was made")
    assert "LoRA of rank 8 on attention, merged (0.6 M of 72.6 M parameters)" in made
    assert "the average of several weights, after step 30" in made
    assert "Hardware: 8 cores, 31 GB; NVIDIA L4" in made
    assert "1.5 h in all, 1.0 h of it training" in made
    assert "0.0421 kWh (CPU measured); CO2: 0.0013 kg" in made
    assert "torch 2.13.0" in made
    recipe = tomllib.loads(made.split("```toml\n")[1].split("```")[0])
    assert recipe["data"]["train"][0]["source"] == "train"
    assert recipe["train"] == {"method": "lora", "lora": {"rank": 8}}


def test_data_with_hours_and_licences(text: str) -> None:
    data = section(text, "Data")
    assert "| train | train | sv | 1,200 | 1.32 | cc-by-4.0 |" in data
    assert "| dev | dev | sv |  |  | not stated |" in data
    assert "3.96 h of speech: 3 passes over about 1.32 h" in data
    assert "3 too short" in data
    assert "- Data, train: cc-by-4.0" in section(text, "Licence and origin")


def test_what_was_forgotten(text: str) -> None:
    assert "| english | 3 | WER |" in section(text, "What the base model could do")


def test_a_run_that_wrote_down_less_says_so(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", tiny.path, noises)
    result = json.loads(run.result.read_text())
    run.result.write_text(json.dumps(result | {"energy_kwh": None, "co2_kg": None}))
    (run.folder / "evaluations" / "retention.json").unlink()
    written = card_of(run)
    assert "Hardware: not written down by this run" in written
    assert "Energy and CO2: not measured" in written
    assert "Nothing was measured of what the base model could do" in written
    assert "co2_eq_emissions" not in ModelCard(written).data.to_dict()


def test_what_is_not_verified_is_said(text: str) -> None:
    formats = section(text, "Formats")
    assert "| ct2 | int8_float16 | `ct2/` | 77 MB | **not verified** |" in formats
    assert "transformers 5.23.0: 0.10 WER from the source" in formats
    assert "tokens equal on 58 of 60 clips, 4.0 times as fast as speech" in formats
    use = section(text, "Use")
    assert "With the arguments of the verification; `pip install transformers" in use
    assert "**Not verified**: nobody ran it yet; `pip install faster-whisper`" in use
    for program in use.split("```python\n")[1:]:
        compile(program.split("```")[0], "card", "exec")


@pytest.mark.parametrize(
    ("right", "wrong", "what"),
    [
        ("license: apache-2.0", "license: cc-by4", r'"license" must be one of \[apache-2.0, mit'),
        ("- sv", "- Swedish", '"language" is not valid'),
    ],
)
def test_a_card_that_the_hub_rejects(right: str, wrong: str, what: str, text: str, hub: Hub) -> None:
    check_card(text, where="README.md")
    with pytest.raises(InputError, match=rf"README.md: the hub rejects this card: .*{what}") as raised:
        check_card(text.replace(right, wrong, 1), where="README.md")
    assert "--licence" in str(raised.value.fix)


def test_a_language_that_stands_in_the_rows_alone(tiny: ModelFolder, noises: Path, tmp_path: Path, hub: Hub) -> None:
    """A recipe of `init` names none; the model was told what all rows of train have."""
    run = finished_run(tmp_path / "run", tiny.path, noises, language="zh")
    save_recipe(load_recipe(run.resolved_recipe).model_copy(update={"language": None}), run.resolved_recipe)
    write_generation(run.model, tiny.generation.speaking(None, "transcribe"), tiny.vocabulary)
    assert read_facts(run).languages == ()
    write_generation(run.model, tiny.generation.speaking("zh", "transcribe"), tiny.vocabulary)
    written = card_of(run)
    check_card(written, where="README.md")
    assert ModelCard(written).data.language == ["zh"]
    assert "fine-tuned for Chinese (`zh`): raw CER" in written
    assert "CER is the figure to read" in section(written, "Results")
    assert "| train | train | zh |" in section(written, "Data")
    assert section(written, "Use").count('language="zh"') == len(EXPORTS)


def test_the_hub_reads_it(text: str, tmp_path: Path, hub: Hub) -> None:
    check_card(text, where="README.md")
    found = ModelCard(text)
    found.save(tmp_path / "README.md")
    head = metadata_load(tmp_path / "README.md")
    assert head is not None
    data = found.data
    assert head["model-index"] == eval_results_to_model_index("whisper-noise", data.eval_results)
    assert (head["license"], head["language"], head["base_model"]) == ("apache-2.0", ["sv"], "openai/whisper-base")
    assert (head["base_model_relation"], head["library_name"]) == ("finetune", "transformers")
    assert head["co2_eq_emissions"]["emissions"] == 1.26
    assert [each.metric_type for each in data.eval_results] == ["wer", "wer", "cer", "cer"]
    assert data.eval_results[0].dataset_split == "validation"
    assert "on rows that chose the checkpoint" in data.eval_results[0].metric_name
    assert data.eval_results[1].metric_args["normalizer"] == "whispertune-basic 1"


def test_nothing_of_this_machine(text: str, noises: Path, run: Run) -> None:
    for told in (text, read_facts(run).recipe_toml):
        assert str(noises) not in told
        assert str(run.folder) not in told
    assert tomllib.loads(read_facts(run).recipe_toml)["model"] == "bundled:whisper-base"


def test_only_finished_runs_have_a_card(run: Run, tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run: a card tells"):
        read_facts(Run(tiny.path))
    unfinished = finished_run(tmp_path / "run", tiny.path, noises)
    unfinished.result.unlink()
    with pytest.raises(InputError, match=r"not finished[\s\S]*--resume"):
        read_facts(unfinished)


def rows(count: int) -> list[Segment]:
    """Half of a fast speaker with long rows, half of a slow one."""
    return [
        Segment(
            f"{n}", Path("talk.wav"), 0.0, 1.0 if n % 2 else 25.0, "one two three four", "sv", speaker=f"Person {n % 2}"
        )
        for n in range(count)
    ]


def test_the_worst_groups_are_told_without_names_or_texts() -> None:
    segments = rows(80)
    spoilt = {each.id for each in segments if each.duration_s > 20}
    found = of_texts(segments, lambda text: text, "test").utterances
    worse = of_texts(segments, lambda text: "one six five four", "test").utterances
    mixed = [bad if bad.id in spoilt else good for good, bad in zip(found, worse, strict=True)]
    told = "\n".join(known_failures(mixed, segments))
    assert "| duration: 20 to 30 s | 40 | 50.0 |" in told
    assert "| one of 2 speakers | 40 | 50.0 |" in told
    assert "with more errors than the rest" in told
    assert "Person" not in told
    assert "three" not in told


def test_of_few_rows_or_unknown_ones_no_group_is_claimed() -> None:
    segments = rows(10)
    found = of_texts(
        segments, lambda text: text + " and on and on and on and on and on and on and on", "test"
    ).utterances
    told = known_failures(found, segments)
    assert told[0].startswith("There are too few rows to tell groups apart")
    assert "signs of being made up" in told[-1]
    assert known_failures(found, ())[0].startswith("Lengths and speakers of these rows were not at hand")


def test_formats_by_name_and_quantization() -> None:
    wanted = parse_formats("transformers, ct2:int8,ct2")
    assert [(each.format, each.quantization, each.folder) for each in wanted] == [
        ("transformers", "float32", ""),
        ("ct2", "int8", "ct2-int8"),
        ("ct2", "float16", "ct2-float16"),
    ]
    for written, what in (("mp3", "unknown format"), ("ct2:int3", "not written in 'int3'"), ("ct2,ct2", "twice")):
        with pytest.raises(InputError, match=what):
            parse_formats(written)


def test_a_task_that_a_source_names(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    """The recipe leaves it open; the model was told what all rows of train have."""
    run = finished_run(tmp_path / "run", tiny.path, noises)
    write_generation(run.model, tiny.generation.speaking("sv", "translate"), tiny.vocabulary)
    written = card_of(run)
    assert "to translate it" in written
    assert section(written, "Use").count('task="translate"') == len(EXPORTS)


def test_the_rows_that_report_say_which_rate_leads(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    """Whatever the first language of train is."""
    for train, dev, rate in (("ja", "sv", "WER"), ("sv", "ja", "CER")):
        run = finished_run(tmp_path / dev, tiny.path, noises, language=dev)
        recipe = load_recipe(run.resolved_recipe)
        spoken = (recipe.data.train[0].model_copy(update={"language": train}),)
        data = recipe.data.model_copy(update={"train": spoken})
        save_recipe(recipe.model_copy(update={"data": data}), run.resolved_recipe)
        written = card_of(run)
        assert f"raw {rate} " in written
        assert ("CER is the figure to read" in written) is (rate == "CER")


def test_who_speaks_counts_for_the_verdict(run: Run) -> None:
    """What changed with one of twelve speakers is no better system."""
    rows = [
        Segment(f"{n}", Path(f"{n}.wav"), 0.0, 2.0, "one two three four five six", "en", speaker=f"s{n % 12}")
        for n in range(240)
    ]
    right = [Hypothesis(each, each.text) for each in rows]
    wrong = [Hypothesis(each, "no" if each.speaker == "s0" else each.text) for each in rows]
    base, tuned = (evaluation_of(each, [], 1.0, "ctranslate2", "full") for each in (wrong, right))
    facts = replace(read_facts(run), base=base, tuned=tuned)
    assert "shows the tuned model to be better" in " ".join(results(facts, (), None))
    assert "shows no difference" in " ".join(results(facts, rows, None))


def test_an_adapter_belongs_to_the_model_that_the_recipe_names(tiny: ModelFolder, noises: Path, tmp_path: Path) -> None:
    """Which is no model of the hub, although that one began with one."""
    first = finished_run(tmp_path / "first", tiny.path, noises)
    facts = read_facts(finished_run(tmp_path / "run", tiny.path, noises, base=str(first.folder)))
    heads = [
        ModelCard(metadata(facts, [each], REPOSITORY, None, None)).data.to_dict()
        for each in ("adapter", "transformers")
    ]
    assert [(each.get("base_model"), each.get("base_model_relation")) for each in heads] == [
        (None, None),
        ("openai/whisper-base", "finetune"),
    ]
