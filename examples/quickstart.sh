#!/usr/bin/env bash
# The whole job on the example data: prepare, train, predict, evaluate, inspect the guide. A few minutes on two cores.
#
# Usage: examples/quickstart.sh [OUT] [settings for train, such as --set train.epochs=2]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-out/quickstart}
shift || true

guidino prepare examples/data -o "$out/data" --classes background,nucleus --overwrite
guidino train --preset demo --data "$out/data" -o "$out/demo" --overwrite "$@"
guidino predict "$out/demo" "$out/data" -o "$out/masks" --overlay --save-guide --overwrite
guidino evaluate "$out/masks" "$out/data" -o "$out/report" --overwrite
guidino visualize-guide examples/data/images/top_right_slice_33.png --run "$out/demo" \
    --truth examples/data/masks -o "$out/guides" --overwrite

echo
echo "Look at $out/data/contact_sheet.png, $out/demo/curve.png, $out/demo/validation.png and $out/guides/"
