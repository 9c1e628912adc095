#!/bin/sh
# Full-parameter ES on SmolLM2-135M, one-digit sums asked in chat, its control with permuted rewards, and GRPO.
# usage: make.sh FOLDER [RUN ...]    runs that are there go on; a run takes half an hour of one free core
set -eu
folder=$1
shift
mkdir -p "$folder"
estheory models get smollm2-135m

es() { # NAME SEED [OPTION ...]
    name=$1 seed=$2
    shift 2
    set -- --model smollm2-135m --task sums --evaluate addition --steps 24 --population 16 --prompts 32 \
        --sigma 2e-3 --alpha 1e-3 --seed "$seed" --checkpoint-every 6 "$@"
    if test -f "$folder/$name/config.toml"; then
        estheory run es --resume "$folder/$name" --quiet
    else
        estheory run es "$@" --dry-run --json --output "$folder/$name.predicted.json"
        estheory run es "$@" --out "$folder/$name" --quiet
    fi
}

grpo() { # NAME SEED
    if test -f "$folder/$1/config.toml"; then
        estheory run grpo --resume "$folder/$1" --quiet
    else
        set -- "$1" --model smollm2-135m --task sums --evaluate addition --steps 24 --prompts 16 --samples 8 --lr 1e-5 \
            --seed "$2" --checkpoint-every 6
        name=$1
        shift
        estheory run grpo "$@" --dry-run --json --output "$folder/$name.predicted.json"
        estheory run grpo "$@" --out "$folder/$name" --quiet
    fi
}

for run in "${@:-all}"; do
    case $run in
    sums-es-0 | all) es sums-es-0 0 ;;
    esac
    case $run in
    sums-permuted-0 | all) es sums-permuted-0 0 --permute-rewards ;;
    esac
    case $run in
    sums-mirrored-0 | all) es sums-mirrored-0 0 --antithetic --mirror-every 1 --forecast-every 6 --matmul bfloat16 ;;
    esac
    case $run in
    sums-grpo-0 | all) grpo sums-grpo-0 0 ;;
    esac
    case $run in
    sums-es-1 | all) es sums-es-1 1 ;;
    esac
    case $run in
    sums-es-2 | all) es sums-es-2 2 ;;
    esac
done
