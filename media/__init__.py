"""The media plane: RTP packets in, key presses and masked audio out, all legs of a worker at once."""

import os

# Threads inside BLAS made a tick ten times slower. The library reads this once, when numpy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
