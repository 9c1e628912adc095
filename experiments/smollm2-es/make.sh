#!/bin/sh
# Full-parameter ES on SmolLM2-135M, few-shot addition. usage: make.sh RUN_DIRECTORY
set -eu
estheory models get smollm2-135m
estheory run es --model smollm2-135m --task addition --steps 12 --population 16 --prompts 16 --sigma 1e-3 \
    --reward logprob --evaluation-prompts 32 --evaluate reversal --workers 2 --out "$1"
estheory validate "$1" --json --output "$(dirname "$0")/record.json" || test $? -eq 3 -o $? -eq 4
