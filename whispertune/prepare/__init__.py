"""One portable dataset of all the sources of a recipe: Parquet shards with FLAC inside.

plan -> shards (a job each, by local processes or Ray) -> finish: what is in two shards, card, hashes -> push.
"""
