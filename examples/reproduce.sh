#!/usr/bin/env bash
# The rows of the GuiDINO paper's Table 2: four presets, three seeds, one data set. For a machine with a GPU.
#
# Usage: examples/reproduce.sh kvasir|isic2017|tn3k DATA OUT
# DATA is a folder made by `guidino prepare`. Finished runs are not trained again; interrupted runs are resumed.
set -euo pipefail
dataset=$1 data=$2 out=$3

for preset in plain-unet unet plain-nnwnet nnwnet; do
    for seed in 0 1 2; do
        run="$out/$dataset-$preset-$seed"
        if [[ -f "$run/last/state.pt" ]]; then
            guidino train --resume -o "$run"
        else
            guidino train --preset "$dataset-$preset" --data "$data" --seed "$seed" -o "$run" --overwrite
        fi
        guidino predict "$run" "$data" -o "$run/masks" --overwrite
        guidino evaluate "$run/masks" "$data" -o "$run/report" --overwrite
    done
done
