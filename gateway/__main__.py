"""`python -m gateway` is the command `qwen3-asr`."""

from gateway.cli import main

main()
