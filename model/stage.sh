#!/bin/sh
# Run a stage in the model environment: sh model/stage.sh model.train
#
# The environment is model/.venv, unless UV_PROJECT_ENVIRONMENT names another one: uv makes it where
# it is not there, and keeps it as locked. `dvc exp run --temp` and `--queue` work in copies of the
# repository, below .dvc/tmp/exps. A copy uses the environment of the repository that it was made
# from, unless it locks other packages: then uv makes one in the copy.
set -eu

repository=${PWD%%/.dvc/tmp/exps/*}
if [ -z "${UV_PROJECT_ENVIRONMENT:-}" ] && cmp -s model/uv.lock "$repository/model/uv.lock"; then
  export UV_PROJECT_ENVIRONMENT="$repository/model/.venv"
fi
PATH=$PATH:$repository/.venv/bin:$repository/.slipway/uv/bin  # where `make setup` puts uv
exec uv run --quiet --project model --frozen python -P -S model/stage_server.py "$1"
