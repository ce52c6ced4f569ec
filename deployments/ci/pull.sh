#!/bin/sh
# Pull data and models from the bucket into the checkout of a merge or pull request, as far as there
# are credentials to read it. Code of the base branch alone may run while they are in the environment:
# this script, DVC from the base's lock, the base's configuration of DVC. What the request decides is
# which objects are read.
#
#   sh BASE/deployments/ci/pull.sh BASE [STAGE ...]
#
# BASE is a checkout of the base branch outside of the request's. With stages, their outputs are
# pulled, and those of the base into the same cache; the rest only if a stage up to the last one has
# changed.
set -eu
base=$1
shift
if [ -z "$AWS_ACCESS_KEY_ID" ]; then
  echo "no read-only credentials here: everything is made again"
  exit
fi
[ -n "$AWS_ENDPOINT_URL" ] || unset AWS_ENDPOINT_URL
env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY \
  uv sync --quiet --frozen --no-default-groups --directory "$base"
own=$(mktemp -d)
cp .dvc/config* "$own"
trap 'rm -f .dvc/config .dvc/config.local; cp "$own"/config* .dvc' EXIT
# It may name a program that hands out credentials: another's is never read with keys at hand.
rm -f .dvc/config .dvc/config.local
cp "$base/.dvc/config" .dvc/config
pull() {
  "$base/.venv/bin/dvc" pull --remote read --allow-missing "$@" ||
    echo "${GITHUB_ACTIONS:+::warning::}dvc pull failed: what is missing is made again"
}
if [ $# -gt 0 ]; then
  pull "$@"
  (cd "$base" && pull "$@")
  if [ -d "$base/.dvc/cache" ]; then
    mkdir -p .dvc/cache
    cp -R "$base/.dvc/cache/." .dvc/cache
  fi
  for stage; do :; done
  stages=$("$base/.venv/bin/dvc" repro --dry --allow-missing "$stage") || stages="Running stage"
  case $stages in
    *"Running stage"*) ;;
    *) exit ;;
  esac
fi
pull
