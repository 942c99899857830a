"""The recipe: all choices of one fine-tuning, in one TOML file. Every default lives here.

    recipe = load_recipe(Path("my-run/recipe.toml"), ["train.epochs=3"])
    recipe.train.epochs            # 3.0
    save_recipe(recipe, run / "resolved.toml")

Unknown keys are errors that name the nearest right one and the line. Data paths are relative to the recipe;
those given as overrides are relative to the current folder.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from whispertune.errors import RecipeError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

KINDS = ("hub", "dataset", "commonvoice", "kaldi", "lhotse", "ljspeech", "labelstudio", "manifest", "captions")
REMOTE = ("hub",)  # kinds of sources whose location is no path
WITH_SPLITS = ("commonvoice", "dataset")  # kinds whose path may be followed by :split
COLUMNS = ("id", "audio", "text", "language", "speaker", "task", "start", "end", "duration")


class Table(BaseModel):
    """A table of the recipe: frozen, and without room for unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourceTable(Table):
    """One source of segments."""

    source: str = Field(description="a path, or kind:location such as hub:google/fleurs:sv_se:train; docs/sources.md")
    language: str | None = Field(None, description="for rows that name none; else the recipe's language")
    task: Literal["transcribe", "translate"] | None = Field(None, description="for rows that name none")
    target_language: str | None = Field(None, description="of the texts where speech is translated; unset: English")
    columns: dict[str, str] = Field({}, description='where names differ: { text = "sentence", audio = "clip" }')
    limit_rows: Count | None = Field(None, description="use only the first rows")
    limit_hours: Positive | None = Field(None, description="use only the first hours of speech")
    weight: Positive = Field(1.0, description="how often it is drawn, times what its size gives (train)")
    streaming: bool = Field(False, description="read it as it comes instead of fetching it first (train)")
    count: bool = Field(False, description="read a stream of unknown length through once before, to count its rows")
    outside: bool = Field(False, description="whether paths written in it may leave its folder")

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        for name in columns:
            if name not in COLUMNS:
                near = get_close_matches(name, COLUMNS, n=1)
                raise ValueError(f"no field {name!r}: {f'did you mean {near[0]!r}' if near else ', '.join(COLUMNS)}")
        return columns


class Data(Table):
    """What is trained on (train), what selects the best checkpoint (dev), what reports (test)."""

    train: tuple[SourceTable, ...] = ()
    dev: tuple[SourceTable, ...] = ()
    test: tuple[SourceTable, ...] = ()
    max_bad_share: Share = Field(0.05, description="the run ends where more of the rows cannot be used")
    temperature: float = Field(
        1.0, ge=1, allow_inf_nan=True, description="1: sources by their size; higher: small ones more; inf: evenly"
    )


class Clean(Table):
    """What is dropped, each row with a reason, and how texts are written."""

    min_s: float = Field(0.2, ge=0, description="shorter rows are dropped")
    audio: Literal["auto", "all", "never"] = Field("auto", description="listen to all rows first; auto: up to 20 h")
    min_level_db: float = Field(-60.0, le=0, description="rows whose loudest 0.1 s is below it hold no speech (dBFS)")
    max_clipped_share: Share = Field(0.05, description="rows with more of their samples clipped are dropped")
    max_rate_factor: float = Field(5.0, gt=1, description="characters a second, times or below the set's median")
    script: bool = Field(True, description="drop rows not in a script of their language")
    markup: Literal["keep", "strip", "drop"] = Field("keep", description="tags, and noises in brackets: [laughs]")
    case: Literal["keep", "lower"] = "keep"
    punctuation: Literal["keep", "strip"] = "keep"
    replace: dict[str, str] = Field({}, description='in texts, the longest first: { "&" = "and" }')
    duplicates: bool = Field(True, description="keep one row of several with the same audio and text")
    max_same_text: Count | None = Field(None, description="keep so many rows of one text")
    leakage: Literal["error", "drop", "allow"] = Field("error", description="audio or text of dev or test in train")


class Windows(Table):
    """How segments become 30 s windows."""

    timestamps_share: Share = Field(0.5, description="of the windows are trained with timestamps")
    prompt_share: Share = Field(0.2, description="of the windows carry the text before them, where there is any")
    max_tokens: int = Field(220, ge=8, le=220, description="after the prefix; decoders stop near 220")
    max_gap_s: float = Field(5.0, ge=0, description="a longer pause between cues ends a stretch")
    max_lead_s: float = Field(1.0, ge=0, le=1, description="a window starts at most so long before its first cue")


class Train(Table):
    """The loop."""

    epochs: Positive = Field(3.0, description="passes over the training data")
    steps: Count | None = Field(None, description="stop after so many steps instead of epochs")
    hours: Positive | None = Field(None, description="stop after so many hours of speech instead of epochs")
    step_segments: Count | None = Field(None, description="a step draws so many segments, then packs them (16)")
    step_windows: Count | None = Field(None, description="or: a step is so many packed windows")
    micro_windows: Count = Field(4, description="windows in one forward pass; the step's loss does not depend on it")
    learning_rate: Positive | None = Field(None, description="by model size where it is not given")
    schedule: Literal["linear", "constant"] = Field("linear", description="after the warm-up")
    warmup_share: Share = Field(0.1, description="of the steps, linear from 0")
    weight_decay: float = Field(0.01, ge=0, description="on matrices; biases, norms and positions have none")
    max_grad_norm: Positive = 1.0
    dropout: float = Field(0.0, ge=0, lt=1)
    language_loss: bool = Field(True, description="train the language token, so that detection finds the language")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="bfloat16 where there is hardware")

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if self.steps is not None and self.hours is not None:
            raise ValueError("give steps or hours, not both")
        return self

    @model_validator(mode="after")
    def _one_kind_of_step(self) -> Train:
        if self.step_segments is not None and self.step_windows is not None:
            raise ValueError("give step_segments or step_windows, not both")
        return self

    @property
    def segments_a_step(self) -> int | None:
        """16 segments where neither kind of step is given."""
        return self.step_segments or (None if self.step_windows else 16)


class Evaluation(Table):
    """Decoding of dev (and test) while training and at the end."""

    engine: Literal["ctranslate2", "transformers"] = "ctranslate2"
    beams: Count = 1
    batch: Count = Field(8, description="windows decoded at once")
    times: int = Field(4, ge=0, description="evaluations on the dev subset, the last one after the last step")
    subset: Count = Field(50, description="rows of dev that are decoded while training, always the same")
    verify_clips: int = Field(20, ge=0, description="decoded by transformers too at the start, to check the engine")


class Checkpoints(Table):
    """What is kept on disk."""

    best: Literal["auto", "wer", "cer", "wer_normalized", "cer_normalized"] = Field(
        "auto", description="the lower, the better; auto: wer, or cer for languages written without spaces"
    )
    every_steps: Count = Field(50, description="a checkpoint to resume from; the newest two are kept")


class Recipe(Table):
    """One fine-tuning."""

    name: str = Field("run", description="of the run")
    model: str = Field(description="hub name, folder, run, or bundled:whisper-base")
    language: str | None = Field(None, description="Whisper's code of what is spoken, for rows that name none")
    task: Literal["transcribe", "translate"] = "transcribe"
    seed: int = Field(0, ge=0)
    data: Data
    clean: Clean = Clean()
    windows: Windows = Windows()
    train: Train = Train()
    evaluation: Evaluation = Evaluation()
    checkpoints: Checkpoints = Checkpoints()


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply `key.sub=value` overrides, check it, and make its data paths absolute.

    Raises:
        RecipeError: what is wrong, in which line or override, and what would be right.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        tree = tomllib.loads(text)
    except OSError as error:
        raise RecipeError(
            f"no readable recipe ({error.strerror})", where=str(path), fix="whispertune init makes one"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"not valid TOML: {error}", where=str(path)) from error
    _absolute(tree, path.parent)
    for override in overrides:
        _override(tree, override)
    return parse_recipe(tree, text, path)


def parse_recipe(tree: dict[str, Any], text: str = "", path: Path | None = None) -> Recipe:
    """Check a tree against the recipe's tables; `text` and `path` say where an error stands."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        keys = [str(part) for part in first["loc"]]
        line = _line(text, keys)
        where = ".".join(keys) if path is None or line is None else f"{path}:{line}"
        raise RecipeError(*_explain(first["type"], keys, first["msg"]), where=where, fix=_fix(keys)) from error


def _explain(kind: str, keys: Sequence[str], message: str) -> tuple[str]:
    name = ".".join(keys)
    if kind == "extra_forbidden":
        return (f"unknown key {name!r}",)
    if kind == "missing":
        return (f"the recipe needs {name!r}",)
    return (f"{name}: {message.removeprefix('Value error, ')}",)


def _fix(keys: Sequence[str]) -> str | None:
    """The nearest right name for the last key, looked up in the table it stands in."""
    table = _table(keys[:-1])
    if table is None or not keys or keys[-1] in table.model_fields:
        return table.model_fields[keys[-1]].description if table and keys else None
    everywhere = dict(_all_keys(Recipe))
    if keys[-1] in everywhere:  # the right name in the wrong table
        return f"did you mean {everywhere[keys[-1]]!r}?"
    near = get_close_matches(keys[-1], table.model_fields, n=1, cutoff=0.5)
    if near:
        return f"did you mean {'.'.join([*keys[:-1], near[0]])!r}?"
    return f"it takes {', '.join(table.model_fields)}"


def _all_keys(table: type[BaseModel], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, field in table.model_fields.items():
        inner = _inner(field.annotation)
        yield (name, prefix + name)
        if inner is not None:
            yield from _all_keys(inner, f"{prefix}{name}.")


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The table behind a field: the field itself, or the rows of a list."""
    candidates = [annotation, *get_args(annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _table(keys: Sequence[str]) -> type[BaseModel] | None:
    table: type[BaseModel] | None = Recipe
    for key in keys:
        if key.isdigit() or table is None:
            continue
        table = _inner(table.model_fields[key].annotation) if key in table.model_fields else None
    return table


def _line(text: str, keys: Sequence[str]) -> int | None:
    """The line of a key, by walking the table headers above it; None where it stands in no line."""
    names = [key for key in keys if not key.isdigit()]
    index = next((int(key) for key in keys if key.isdigit()), 0)
    seen: dict[str, int] = {}
    header: str = ""
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.split("#")[0].strip()
        if bare.startswith("["):
            header = bare.strip("[] ")
            seen[header] = seen.get(header, -1) + 1
            inner = header.split(".")
            if inner == names or (inner == names[: len(inner)] and len(inner) == len(names) and bare[1] != "["):
                return number
            continue
        key = bare.split("=")[0].strip()
        full = [part for part in [*header.split("."), *key.split(".")] if part]
        if "=" in bare and full == names and (len(keys) == len(names) or seen.get(header, 0) == index):
            return number
    return None


def _override(tree: dict[str, Any], override: str) -> None:
    dotted, separator, raw = override.partition("=")
    keys = dotted.strip().split(".")
    if not separator or not all(keys):
        raise RecipeError(f"not an override: {override!r}", fix="write key.sub=value, for example train.epochs=3")
    node: Any = tree
    try:
        for depth, key in enumerate(keys[:-1]):
            empty: Any = [{}] if keys[0] == "data" and depth == 1 else {}
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, empty)
        value = _value(raw)
        if keys[0] == "data" and keys[-1] == "source":
            value = located(str(value), lambda path: (Path.cwd() / path).resolve())
        node[int(keys[-1]) if isinstance(node, list) else keys[-1]] = value
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise RecipeError(f"the recipe has nothing at {dotted!r}", where=override) from error


def _value(raw: str) -> Any:
    """A TOML value; what is none is text, so that quotes are not needed on the command line."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw


def _absolute(tree: dict[str, Any], folder: Path) -> None:
    """Make paths absolute that are relative to the recipe: those of data, and the model's where it is a folder."""
    model = tree.get("model")
    if isinstance(model, str) and (folder / model).is_dir():
        tree["model"] = str((folder / model).resolve())
    data = tree.get("data")
    for rows in data.values() if isinstance(data, dict) else ():
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and isinstance(row.get("source"), str):
                row["source"] = located(row["source"], lambda path: (folder / path).resolve())


def kind_and_location(source: str) -> tuple[str, str]:
    """`kaldi:data/train` -> ("kaldi", "data/train"); a plain path has the kind ""."""
    kind, separator, location = source.partition(":")
    return (kind, location) if separator and kind in KINDS else ("", source)


def located(source: str, move: Callable[[Path], Path | str]) -> str:
    """A source with its path moved; what stands behind `hub:` is no path and stays."""
    kind, location = kind_and_location(source)
    if kind in REMOTE:
        return source
    moved = move(Path(location).expanduser())
    return f"{kind}:{moved}" if kind else str(moved)


def place_of(source: str) -> Path | None:
    """Where a source lies on this machine: its path without the split of a release; None for the hub."""
    kind, location = kind_and_location(source)
    if kind in REMOTE:
        return None
    return Path(location.partition(":")[0] if kind in WITH_SPLITS else location).expanduser()


def recipe_tree(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain tables, every default spelled out; what is unset is left out."""
    return recipe.model_dump(mode="json", exclude_none=True)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe, which gives the same run again."""
    path.write_text(tomli_w.dumps(recipe_tree(recipe)), encoding="utf-8")
