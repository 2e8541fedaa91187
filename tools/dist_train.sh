#!/usr/bin/env bash
# Train with several processes: dist_train.sh CONFIG PROCESSES [options].
# On several machines set NNODES, NODE_RANK, MASTER_ADDR and PORT.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG PROCESSES [options of train.py]" >&2
    exit 2
fi
config=$1
processes=$2
shift 2
tools=$(dirname "$0")
source "$tools/torchrun.sh"
launch "$processes" "$tools/train.py" "$config" --launcher pytorch "$@"
