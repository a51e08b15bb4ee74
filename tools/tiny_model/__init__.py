"""Training of the embedded model: a small Qwen3-ASR checkpoint that hears spoken English digits."""
