# For dist_*.sh: torchrun SCRIPT's processes, on a port that is free.
# launch PROCESSES SCRIPT [arguments]; NNODES, NODE_RANK, MASTER_ADDR, PORT.
launch() {
    local processes=$1 port=${PORT:-29500} where
    shift
    if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
        where=(--standalone)
    else
        if [ "${NODE_RANK:-0}" = 0 ] &&
            (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "error: port $port is in use, by another training perhaps:" \
                "choose another one with PORT=..., the same on all machines" >&2
            exit 1
        fi
        where=(--nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}"
            --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="$port")
    fi
    exec "${PYTHON:-python3}" -m torch.distributed.run "${where[@]}" \
        --nproc-per-node="$processes" "$@"
}
