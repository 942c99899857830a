"""`whispertune init`: a commented recipe that works as it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

TEMPLATE = """\
# One fine-tuning of Whisper. Run it:  whispertune train {recipe}
# Any key can be overridden:           whispertune train {recipe} train.epochs=5
# Paths are relative to this file. Keys that are commented out show their defaults.

name = {name}
model = {model}  # hub name, folder, run, bundled:whisper-base
language = {language}  # Whisper's code; for a language it does not know, that of a related one
# task = "transcribe"  # or "translate"
# seed = 0

# What is trained on: recordings beside captions, a manifest, hub:google/fleurs:sv_se, commonvoice:FOLDER:train ...
# More than one [[data.train]] may stand here, each with its own language, task and weight: see docs/sources.md.
{train}
# What selects the best checkpoint. Never the recordings that are trained on.
{dev}
{test}
[clean]
# markup = "keep"  # tags and noises in brackets: keep, strip, or drop the row
# leakage = "error"  # audio or text of dev in train: error, drop (from train), allow

[windows]
# timestamps_share = 0.5  # of the windows are trained with timestamps
# prompt_share = 0.2  # of the windows carry the text before them

[train]
epochs = 3
# step_segments = 16  # a step draws so many segments and packs them into 30 s windows
# learning_rate = 1.25e-5  # unset: by size (base 2.5e-5, small 1.25e-5, large 5e-6); a new language takes 4 times it
# dropout = 0.0

[evaluation]
# times = 4  # evaluations on part of dev while training
# share = 0.15  # of the time from first to last step, for them at most: as many rows of dev are decoded

[checkpoints]
# best = "auto"  # what selects: wer, cer, wer_normalized, cer_normalized; auto: wer, or cer without spaces
"""

SOURCE = """\
[[data.{split}]]
source = {source}
"""

NO_TEST = """\
# What reports. Without it the final figures are of dev, and flatter, because dev chose the checkpoint.
# [[data.test]]
# source = "recordings-test/"
"""


def init(
    run: Annotated[Path, typer.Argument(help="The folder of the run; it is made.")],
    data: Annotated[list[str], typer.Option(help="What to train on, a path or kind:location; may be given again.")],
    dev: Annotated[list[str], typer.Option(help="What selects the best checkpoint.")],
    model: Annotated[str, typer.Option(help="The model to start from.")] = "openai/whisper-small",
    language: Annotated[str | None, typer.Option(help="What is spoken, as Whisper's code: sv, de, yo.")] = None,
    test: Annotated[list[str] | None, typer.Option(help="What reports, apart from dev.")] = None,
) -> None:
    """Write RUN/recipe.toml, commented and ready to train.

    [bold]whispertune init my-run --data recordings/ --dev recordings-dev/ --language sv[/bold]
    """
    from whispertune.errors import InputError
    from whispertune.files import writing
    from whispertune.model.load import RUN_MARK
    from whispertune.recipe import located, place_of
    from whispertune.recipe_file import load_recipe
    from whispertune.train.run import write_json

    recipe = run / "recipe.toml"
    if recipe.exists():
        raise InputError("there is a recipe already", where=str(recipe), fix="edit it, or choose another folder")
    for source in [*data, *dev, *(test or [])]:
        path = place_of(source)
        if path is not None and not path.exists():
            fix = "give a folder of recordings, a manifest, or a source such as hub:google/fleurs:sv_se"
            raise InputError("nothing is there", where=source, fix=fix)
    sources = {"train": data, "dev": dev, "test": test or []}
    tables = {
        split: "\n".join(
            SOURCE.format(split=split, source=_text(located(each, lambda p: _relative(p, run)))) for each in of
        )
        for split, of in sources.items()
    }
    text = TEMPLATE.format(
        recipe=recipe,
        name=_text(run.resolve().name),
        model=_text(_relative(Path(model), run) if Path(model).exists() else model),
        language=_text(language or "en"),
        train=tables["train"],
        dev=tables["dev"],
        test=tables["test"] or NO_TEST,
    )
    if language is None:
        text = text.replace("\nlanguage = ", "\n# language = ")
    with writing(run):
        run.mkdir(parents=True, exist_ok=True)
        recipe.write_text(text, encoding="utf-8")
        load_recipe(recipe)
        write_json(run / RUN_MARK, {})
    typer.echo(f"{recipe}\nnext:  whispertune train {recipe}")


def _relative(path: Path, run: Path) -> str:
    """The path as seen from the recipe."""
    return Path(os.path.relpath(path, run)).as_posix()


def _text(value: str) -> str:
    """A TOML string."""
    import json

    return json.dumps(value, ensure_ascii=False)
