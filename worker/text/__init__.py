"""What becomes of the model's raw output. Pure text: no torch, no numpy, nothing else of ours."""
