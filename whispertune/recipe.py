"""The recipe: all choices of one fine-tuning. Every default lives here; `recipe_file.py` reads and writes them.

recipe.train.epochs            # 3.0
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from whispertune.errors import InputError
from whispertune.score.normalize import Normalizer, normalizer_named

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


def _known_columns(columns: dict[str, str]) -> dict[str, str]:
    for name in columns:
        if name not in COLUMNS:
            near = get_close_matches(name, COLUMNS, n=1)
            raise ValueError(f"no field {name!r}: {f'did you mean {near[0]!r}' if near else ', '.join(COLUMNS)}")
    return columns


Columns = Annotated[dict[str, str], AfterValidator(_known_columns)]


class SourceTable(Table):
    """One source of segments."""

    source: str = Field(description="a path, or kind:location such as hub:google/fleurs:sv_se:train; docs/sources.md")
    language: str | None = Field(None, description="for rows that name none; else the recipe's language")
    task: Literal["transcribe", "translate"] | None = Field(None, description="for rows that name none")
    target_language: str | None = Field(None, description="of the texts where speech is translated; unset: English")
    columns: Columns = Field({}, description='where names differ: { text = "sentence", audio = "clip" }')
    limit_rows: Count | None = Field(None, description="use only the first rows")
    limit_hours: Positive | None = Field(None, description="use only the first hours of speech")
    weight: Positive = Field(1.0, description="how often it is drawn, times what its size gives (train)")
    streaming: bool = Field(False, description="read it as it comes instead of fetching it first (train)")
    count: bool = Field(False, description="read a stream of unknown length through once before, to count its rows")
    outside: bool = Field(False, description="whether paths written in it may leave its folder")
    licence: str | None = Field(None, description="of the data, which a published model's card names: cc-by-4.0")


class Data(Table):
    """What is trained on (train), what selects the best checkpoint (dev), what reports (test)."""

    train: tuple[SourceTable, ...] = ()
    dev: tuple[SourceTable, ...] = ()
    test: tuple[SourceTable, ...] = ()
    max_bad_share: Share = Field(0.05, description="the run ends where more of the rows cannot be used")
    temperature: float = Field(
        1.0, ge=1, allow_inf_nan=True, description="1: sources by their size; higher: small ones more; inf: evenly"
    )


class RetentionTable(Table):
    """What the base model can do and the tuned one is to keep: another language, another domain, or silence."""

    name: str = Field(pattern=r"^\w[\w .-]*$", description="what figures and files call it")
    source: str | None = Field(None, description="as in data.train")
    silence: bool = Field(False, description="instead of a source: clips of silence, hiss and hum, which are made")
    recordings: bool = Field(False, description="transcribe whole recordings, instead of row by row")
    language: str | None = Field(None, description="for rows that name none; else the recipe's language")
    task: Literal["transcribe", "translate"] | None = Field(None, description="for rows that name none")
    columns: Columns = Field({}, description='where names differ: { text = "sentence", audio = "clip" }')
    limit_rows: Count | None = Field(None, description="use only the first rows")
    limit_hours: Positive | None = Field(None, description="use only the first hours of speech")
    outside: bool = Field(False, description="whether paths written in it may leave its folder")

    @model_validator(mode="after")
    def _one_thing(self) -> RetentionTable:
        if (self.source is None) != self.silence:
            raise ValueError("give a source, or silence = true")
        if self.silence and self.recordings:
            raise ValueError("silence is no recordings")
        return self

    @property
    def rows(self) -> SourceTable:
        """Where its rows come from; not of silence."""
        return SourceTable.model_validate(self.model_dump(exclude={"name", "silence", "recordings"}))


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
    fit_share: Share = Field(0.5, description="of the steps show single utterances on a mel cut to what is spoken")


class Augment(Table):
    """What is done to the audio of training, never to dev or test.

    Where nothing else is said, shares are of the stretches: single rows, or cues that follow each other.
    """

    time_masks: int = Field(0, ge=0, description="SpecAugment: stretches of time that are blanked in each segment")
    time_mask_share: Share = Field(0.1, description="of a segment's frames that one of them blanks at most")
    frequency_masks: int = Field(0, ge=0, description="SpecAugment: bands that are blanked in each segment")
    frequency_mask_share: Share = Field(0.2, description="of the mel bins that one of them blanks at most")
    speed: tuple[Positive, ...] = Field((), description="factors of tempo, drawn evenly: [0.9, 1.0, 1.1]")
    pitch_semitones: float = Field(0.0, ge=0, description="pitch is moved by up to so much, up or down")
    pitch_share: Share = 0.3
    gain_db: float = Field(0.0, ge=0, description="level is moved by up to so much, up or down")
    noise: str | None = Field(None, description="a folder of recordings of noise that is laid under speech")
    noise_snr_db: tuple[float, float] = Field((5.0, 30.0), description="speech over noise, drawn evenly")
    noise_share: Share = 0.3
    room_share: Share = Field(0.0, description="of the stretches heard as in a simulated room")
    telephone_share: Share = Field(0.0, description="of the stretches cut to the telephone band, 300 to 3,400 Hz")
    codec_share: Share = Field(0.0, description="of the stretches coded as low-rate MP3 and decoded again")


class Lora(Table):
    """Low-rank adapters (Hu et al., 2021)."""

    rank: Count = 32
    alpha: Positive = 64.0
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = Field(
        ("attention",), min_length=1, description='"attention", "feed_forward", or patterns: "decoder.layers.*.fc1"'
    )
    rslora: bool = Field(False, description="scale by alpha / sqrt(rank) instead of alpha / rank")
    dora: bool = Field(False, description="train directions and magnitudes apart")


class Train(Table):
    """The loop, and what it trains."""

    method: Literal["full", "lora"] = "full"
    freeze: tuple[str, ...] = Field((), description='"encoder", "encoder.layers.0-5", "embeddings": kept as they are')
    lora: Lora = Lora()
    base_bits: Literal[4, 8] | None = Field(None, description="under LoRA, keep the base's layers in so many bits")
    cache_gb: float = Field(20.0, ge=0, description="at most, of what a frozen encoder gives, on disk; 0: nothing")

    epochs: Positive = Field(3.0, description="passes over the training data")
    steps: Count | None = Field(None, description="stop after so many steps instead of epochs")
    hours: Positive | None = Field(None, description="stop after so many hours of speech instead of epochs")
    step_segments: Count | None = Field(None, description="a step draws so many segments, then packs them (16)")
    step_windows: Count | None = Field(None, description="or: a step is so many packed windows")
    micro_windows: Count | None = Field(
        None, description="30 s windows in one forward pass; the loss does not depend on it; unset: as memory allows"
    )
    optimizer: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    learning_rate: Positive | None = Field(None, description="by model size where it is not given")
    schedule: Literal["linear", "cosine", "constant", "wsd"] = Field(
        "linear", description="after the warm-up; wsd: stable, then down to 0 at the end"
    )
    warmup_share: Share = Field(0.1, description="of the steps, linear from 0")
    decay_share: Share = Field(0.2, description="of the steps, at the end, with wsd")
    weight_decay: float = Field(0.01, ge=0, description="on matrices; biases, norms and positions have none")
    max_grad_norm: Positive = 1.0
    dropout: float = Field(0.0, ge=0, lt=1, description="Whisper was trained without: 0.05 doubles its loss at first")
    stochastic_depth: float = Field(0.0, ge=0, lt=1, description="chance that the last layer is skipped, by row")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    language_loss: bool = Field(True, description="train the language token, so that detection finds the language")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="bfloat16 where there is hardware"
    )
    activation_checkpointing: bool = Field(False, description="compute activations twice instead of keeping them")
    compile: bool = Field(False, description="torch.compile; pays in long runs on a GPU")
    average: Literal["none", "ema", "last", "best"] = Field(
        "none", description="of weights: a moving one, or of the last or best evaluated; kept where it is better"
    )
    average_of: Count = Field(3, description="evaluated weights that last and best average")
    ema_decay: float = Field(0.99, gt=0, lt=1, description="of the moving average, a step")
    max_skipped_steps: Count = Field(5, description="steps in a row without a finite loss; then the run stops")

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

    @model_validator(mode="after")
    def _bits_are_for_lora(self) -> Train:
        if self.base_bits is not None and self.method != "lora":
            raise ValueError('base_bits is for method = "lora": whole weights are not trained in few bits')
        return self

    @model_validator(mode="after")
    def _adapters_are_for_lora(self) -> Train:
        if self.lora != Lora() and self.method != "lora":
            raise ValueError('[train.lora] is for method = "lora": without it, whole weights are trained')
        return self

    @property
    def segments_a_step(self) -> int | None:
        """16 segments where neither kind of step is given."""
        return self.step_segments or (None if self.step_windows else 16)


def _known_normalizer(name: str) -> str:
    try:
        normalizer_named(name)
    except InputError as error:
        raise ValueError(str(error)) from error
    return name


class Evaluation(Table):
    """Decoding of dev (and test) while training and at the end."""

    engine: Literal["ctranslate2", "transformers"] = "ctranslate2"
    beams: Count = 1
    batch: Count = Field(8, description="windows decoded at once")
    context: Literal["auto", "full", "fit"] = Field(
        "auto", description="clips on 30 s, or cut to what is spoken; auto: fit while training, where it is trained"
    )
    times: int = Field(4, ge=0, description="evaluations on the dev subset, the last one after the last step")
    subset: Count | None = Field(
        None, description="rows of dev that are decoded while training, always the same; unset: as share allows"
    )
    share: float = Field(
        0.15, gt=0, lt=1, description="of the time from the first step to the last, for evaluations on the way, at most"
    )
    verify_clips: int = Field(20, ge=0, description="decoded by transformers too at the start, to check the engine")
    retention_subset: Count = Field(30, description="rows of each retention set that are decoded while training")
    normalizer: Annotated[str, AfterValidator(_known_normalizer)] | None = Field(
        None, description="of dev and test, such as arabic+alef; unset: that of the language of each row"
    )

    @property
    def named_normalizer(self) -> Normalizer | None:
        """Of all rows of dev and test, whatever their language; None where each has that of its own."""
        return normalizer_named(self.normalizer) if self.normalizer is not None else None


class Soften(Table):
    """What `whispertune soften` tries between the base and the tuned model, and which of it is kept.

    The rule: of those that are better on dev than the base and forget no more than this, the best on dev.
    """

    lambdas: tuple[Share, ...] = Field(
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), min_length=1, description="shares of the way from base to tuned weights"
    )
    max_retention_loss: float = Field(
        0.05, ge=0, description="errors that a retention set may have more than with the base, relative"
    )


class Checkpoints(Table):
    """What is kept on disk."""

    best: Literal["auto", "wer", "cer", "wer_normalized", "cer_normalized"] = Field(
        "auto", description="the lower, the better; auto: wer, or cer where most rows are written without spaces"
    )
    every_steps: Count = Field(50, description="a checkpoint to resume from")
    keep: Count = Field(2, description="checkpoints on disk, the newest; the best weights are kept besides")
    full_disk: Literal["stop", "continue"] = Field("stop", description="what a run does that cannot save itself")


class Tracking(Table):
    """Who else is told of a run, and what it used up. metrics.jsonl is always written."""

    to: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    project: str = Field("whispertune", description="the project's name there")
    emissions: bool = Field(False, description="measure energy and estimate CO2 (codecarbon, offline)")
    country: str | None = Field(None, pattern="^[A-Z]{3}$", description="whose power mix, by ISO code: SWE")
    price_per_hour: float | None = Field(None, ge=0, description="of the machine; the cost is told")
    currency: str = "EUR"


class Recipe(Table):
    """One fine-tuning."""

    name: str = Field("run", description="of the run")
    model: str = Field(description="hub name, folder, run, or bundled:whisper-base")
    language: str | None = Field(None, description="Whisper's code of what is spoken, for rows that name none")
    task: Literal["transcribe", "translate"] = "transcribe"
    seed: int = Field(0, ge=0)
    licence: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9.+-]*$", description="of the tuned model, as the hub writes it: apache-2.0"
    )
    data: Data
    retention: tuple[RetentionTable, ...] = ()
    clean: Clean = Clean()
    windows: Windows = Windows()
    augment: Augment = Augment()
    train: Train = Train()
    evaluation: Evaluation = Evaluation()
    soften: Soften = Soften()
    checkpoints: Checkpoints = Checkpoints()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _averages_are_evaluated(self) -> Recipe:
        asked = f'train.average = "{self.train.average}"'
        least = {"none": 0, "ema": 1, "last": 2, "best": 2}[self.train.average]
        if self.evaluation.times < least:
            raise ValueError(f"{asked} needs evaluation.times = {least} or more: only what is evaluated is kept")
        if least == 2 and self.train.average_of < 2:
            raise ValueError(f"{asked} needs train.average_of = 2 or more")
        return self

    @model_validator(mode="after")
    def _retention_sets_differ_by_name(self) -> Recipe:
        names = [table.name for table in self.retention]
        if len(set(names)) < len(names):
            raise ValueError(f"two retention sets have the same name: {', '.join(names)}")
        return self


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
