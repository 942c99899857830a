"""`python -m whispertune` is the same as `whispertune`."""

from whispertune.cli import run

if __name__ == "__main__":
    run()
