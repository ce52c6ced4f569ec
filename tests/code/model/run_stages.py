"""Run in the model environment: all stages in each folder named on the command line."""

import os
import sys

sys.path.insert(0, os.getcwd())  # noqa: PTH109 (as `python -m` does)

from model import evaluate, fetch, params, process, save, train

for folder in sys.argv[1:]:
    os.chdir(folder)
    for stage in (fetch, process, train, save, evaluate):
        stage.main(params.load())
