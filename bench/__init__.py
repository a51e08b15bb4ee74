"""Scripts that measure. Each says what it prints and how it is run."""

import os

# As the engines do before torch is imported: idle threads that spin starve working ones.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
