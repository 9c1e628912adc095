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

grpo() { # NAME TASK SEED EVALUATED [OPTION ...]
    name=$1 task=$2 seed=$3 evaluated=$4
    shift 4
    set -- --model smollm2-135m --task "$task" --evaluate "$evaluated" --steps 24 --prompts 16 --samples 8 --lr 1e-5 \
        --seed "$seed" --checkpoint-every 6 "$@"
    if test -f "$folder/$name/config.toml"; then
        estheory run grpo --resume "$folder/$name" --quiet
    else
        estheory run grpo "$@" --dry-run --json --output "$folder/$name.predicted.json"
        estheory run grpo "$@" --out "$folder/$name" --quiet
    fi
}

probe() { # NAME: of the run that comes after it; members of other noise tell its gradient and KL along it
    name=$1
    set -- --sigma 2e-3
    test -f "$folder/$name.probed.json" || estheory probe smollm2-135m --tasks sums --mirrored --members 128 --prompts 32 "$@" \
        --directions 4 --seed 7 --keep "$folder/$name.probed.jsonl" --json --output "$folder/$name.probed.json" --quiet
    test -f "$folder/$name.foretold.json" || estheory predict --dim 134515008 --probes "$folder/$name.probed.json" "$@" \
        --alpha 1e-3 --population 16 --steps 24 --json --output "$folder/$name.foretold.json" --quiet
}

short="--steps 12 --prompts 8 --evaluation-prompts 100"

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
    sums-grpo-0 | all) grpo sums-grpo-0 sums 0 addition ;;
    esac
    case $run in
    sums-es-1 | all)
        probe sums-es-1
        es sums-es-1 sums 1 products,larger $faster
        ;;
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
    case $run in
    products-permuted-0 | all) es products-permuted-0 products 0 sums,larger $faster --steps 6 --permute-rewards ;;
    esac
    case $run in
    sums-grpo-1 | all) grpo sums-grpo-1 sums 1 products,larger $short --gradient-probe 4 ;;
    esac
    case $run in
    products-grpo-0 | all) grpo products-grpo-0 products 0 sums,larger $short --gradient-probe 4 ;;
    esac
    case $run in
    larger-grpo-0 | all) grpo larger-grpo-0 larger 0 sums,products $short ;;
    esac
done
