#!/bin/sh
# Full-parameter ES on SmolLM2-135M, questions asked in chat, a control with permuted rewards, and GRPO.
# usage: make.sh FOLDER [RUN ...]
# runs that are there go on; a run takes half an hour of one free core
set -eu
folder=$1
shift
faster="--matmul bfloat16 --evaluation-prompts 100"
mkdir -p "$folder"
estheory models get smollm2-135m

es() { # NAME TASK SEED EVALUATED [OPTION ...]
    name=$1 task=$2 seed=$3 evaluated=$4
    shift 4
    set -- --model smollm2-135m --task "$task" --evaluate "$evaluated" --steps 24 --population 16 --prompts 32 \
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
    sums-es-0 | all) es sums-es-0 sums 0 addition ;;
    esac
    case $run in
    sums-permuted-0 | all) es sums-permuted-0 sums 0 addition --permute-rewards ;;
    esac
    case $run in
    sums-mirrored-0 | all) es sums-mirrored-0 sums 0 addition --antithetic --mirror-every 1 --forecast-every 6 --matmul bfloat16 ;;
    esac
    case $run in
    sums-grpo-0 | all) grpo sums-grpo-0 0 ;;
    esac
    case $run in
    sums-es-1 | all) es sums-es-1 sums 1 products,larger $faster ;;
    esac
    case $run in
    sums-es-2 | all) es sums-es-2 sums 2 products,larger $faster ;;
    esac
    case $run in
    sums-n48-0 | all) es sums-n48-0 sums 3 addition $faster --population 48 --steps 8 --checkpoint-every 2 ;;
    esac
    case $run in
    products-es-0 | all) es products-es-0 products 0 sums,larger $faster ;;
    esac
    case $run in
    larger-es-0 | all) es larger-es-0 larger 0 sums,products $faster ;;
    esac
done
