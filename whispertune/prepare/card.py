"""The dataset card: what the hub reads (YAML) and what people read. Nothing in it that is not known.

text = card("my-dataset", splits, records)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from whispertune.prepare.prepared import SplitCount
from whispertune.prepare.shards import ShardRecord

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
HUB_LANGUAGES = {"jw": "jv"}  # where Whisper's code is not the standard's

_COLUMNS = """\
| column | |
| --- | --- |
| `audio` | FLAC, 16 kHz, mono, 16 bit: exactly this row |
| `text`, `language`, `task`, `speaker` | what is said (`transcribe`) or its translation (`translate`), by whom |
| `id`, `source`, `recording` | where it comes from |
| `start_s`, `end_s` | where in the recording; `duration_s` is the length of `audio` |
| `continues` | the row before this one is what was said before it in the same recording |
| `before`, `before_s` | FLAC of what is heard between that row and this one, or of up to 1 s of quiet in front |
| `lead_s` | seconds in front that are free of other speech |
"""


def card(name: str, splits: Sequence[SplitCount], records: Sequence[ShardRecord]) -> str:
    """README.md of a dataset."""
    languages = sorted({HUB_LANGUAGES.get(each, each) for record in records for each in record.languages})
    rows = sum(each.rows for each in splits)
    lines = ["---", "language:", *(f'- "{each}"' for each in languages)]
    lines += ["task_categories:", "- automatic-speech-recognition"]
    lines += ["size_categories:", f"- {next((told for limit, told in SIZES if rows < limit), 'n>1M')}"]
    lines += ["configs:", "- config_name: default", "  data_files:"]
    for each in splits:
        lines += [f"  - split: {each.split}", f"    path: data/{each.split}-*"]
    lines += ["---", "", f"# {name}", "", *_splits(splits), "", *_sources(records), "", _COLUMNS]
    lines += [
        "```python",
        "from datasets import load_dataset",
        'dataset = load_dataset("FOLDER_OR_REPOSITORY")',
        "```",
        "",
        "Made by `whispertune prepare`. Rows that were left out, with their reasons: dropped.jsonl. "
        "How it was made, and the hash of each shard: prepare.json.",
        "",
    ]
    return "\n".join(lines)


def _splits(splits: Sequence[SplitCount]) -> list[str]:
    lines = ["| split | rows | hours | left out |", "| --- | ---: | ---: | --- |"]
    for each in splits:
        dropped = ", ".join(f"{count:,} {kind}" for kind, count in each.dropped.items()) or "none"
        lines.append(f"| {each.split} | {each.rows:,} | {each.hours:.2f} | {dropped} |")
    return lines


def _sources(records: Sequence[ShardRecord]) -> list[str]:
    rows: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for record in records:
        for each in record.sources:
            rows[each.source] += each.rows
            seconds[each.source] += each.seconds  # type: ignore[assignment]
    lines = ["| source | rows | hours |", "| --- | ---: | ---: |"]
    return lines + [f"| {source} | {count:,} | {seconds[source] / 3600:.2f} |" for source, count in rows.items()]
