#!/usr/bin/env bash
# The whole job on volumes: prepare, train on patches and on slices, predict, evaluate, inspect the guide. About two minutes
# on two cores. The volumes are stacked from the tiles of examples/data; three of them cannot show how well a method works.
#
# Usage: examples/volume.sh [OUT] [settings for train, such as --set train.steps=5]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-out/volume}
shift || true

python examples/make_volumes.py "$out/raw"
# Voxels of 2 mm along z for all: those of validation and test are.
guidino prepare "$out/raw" -o "$out/data" --spacing 2,1,1 --overwrite
guidino train --preset examples/volume-3d.yaml --data "$out/data" -o "$out/patches" --overwrite "$@"
guidino train --preset demo --set data.dims=2 --set train.epochs=3 --set train.steps=10 --data "$out/data" -o "$out/slices" \
    --overwrite "$@"
for run in patches slices; do
    guidino predict "$out/$run" "$out/data" -o "$out/masks-$run" --save-guide --overwrite
    guidino evaluate "$out/masks-$run" "$out/data" -o "$out/report-$run" --overwrite
done
guidino visualize-guide "$out/data" --run "$out/patches" -o "$out/guides" --overwrite

echo
echo "Look at $out/data/contact_sheet.png, $out/patches/validation.png and $out/guides/"
