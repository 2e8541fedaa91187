"""One thread each: the tensors of tests are too small for more."""

import os

os.environ['OMP_NUM_THREADS'] = '1'  # read when torch is first imported
