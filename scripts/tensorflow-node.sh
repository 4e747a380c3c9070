#!/usr/bin/env bash
# Installs @tensorflow/tfjs-node for `runtime: tensorflow` on Linux x86-64 from package registries alone.
#
#   bash scripts/tensorflow-node.sh [FOLDER]
#
# FOLDER is the folder whose node_modules gets the package (default: this checkout). The package's own install step downloads
# libtensorflow from Google's storage. This script takes the library and the headers of its C API from the `tensorflow-cpu`
# wheel instead (Apache-2.0) and builds the addon from the sources in the npm package. It needs npm, python3 with pip, unzip
# and g++; about 1.1 GB of disk; no Python package is installed. TENSORFLOW_VERSION chooses another version of TensorFlow.
set -euo pipefail
tfjs=4.22.0
tensorflow=${TENSORFLOW_VERSION:-2.21.0}
folder=$(cd "${1:-$(dirname "$0")/..}" && pwd)
package=$folder/node_modules/@tensorflow/tfjs-node
addon=$package/lib/napi-v8

[[ $(uname -sm) == 'Linux x86_64' ]] || { echo 'tensorflow-node: made for Linux on x86-64 only' >&2; exit 2; }
for tool in npm python3 unzip g++; do
  command -v "$tool" >/dev/null || { echo "tensorflow-node: $tool is missing" >&2; exit 2; }
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo "tensorflow-node: npm package @tensorflow/tfjs-node $tfjs"
# An optional peer is not installed by `npm install --no-save`. It is therefore installed elsewhere, with its dependencies
# below it, and moved here; without its copies of tfjs-core, since kernels register with the one that rxray loads.
npm --prefix "$scratch" install --install-strategy=nested --ignore-scripts --no-audit --no-fund --loglevel=error \
  "@tensorflow/tfjs-node@$tfjs" node-api-headers@1
find "$scratch/node_modules" -type d -path '*/@tensorflow/tfjs-core' -prune -exec rm -rf {} +
rm -rf "$package"
mkdir -p "$(dirname "$package")"
mv "$scratch/node_modules/@tensorflow/tfjs-node" "$package"

echo "tensorflow-node: library and headers of TensorFlow $tensorflow"
# The wheel's Python version does not matter: only the C library is taken from it.
python3 -m pip download --quiet --no-deps --dest "$scratch" --only-binary=:all: --implementation cp --python-version 3.11 \
  --abi cp311 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
  "tensorflow-cpu==$tensorflow"
mkdir -p "$package/deps/lib" "$addon"
unzip -q "$scratch"/*.whl 'tensorflow/libtensorflow_*.so.2' 'tensorflow/include/tensorflow/c/*' \
  'tensorflow/include/tensorflow/core/platform/*' 'tensorflow/include/xla/tsl/c/*' 'tensorflow/include/tsl/platform/*' \
  -d "$scratch" || [[ $? == 11 ]] # 11: one of the folders is not in this version
mv "$scratch/tensorflow/include" "$package/deps/include"
mv "$scratch"/tensorflow/libtensorflow_*.so.2 "$package/deps/lib/"

echo 'tensorflow-node: addon'
g++ -std=c++17 -O2 -fPIC -shared -DNAPI_VERSION=8 -o "$addon/tfjs_binding.node" \
  -I "$scratch/node_modules/node-api-headers/include" -I "$package/deps/include" \
  "$package/binding/tfjs_backend.cc" "$package/binding/tfjs_binding.cc" \
  -L "$package/deps/lib" -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2 -Wl,-rpath,'$ORIGIN/../../deps/lib'

cd "$folder"
TF_CPP_MIN_LOG_LEVEL=2 node -e '
const util = require("node:util");
util.isNullOrUndefined ??= (value) => value === null || value === undefined;
const tf = require("@tensorflow/tfjs-node");
const sum = tf.add([1, 2], [3, 4]).dataSync().join();
if (tf.getBackend() !== "tensorflow" || sum !== "4,6") throw new Error(`backend ${tf.getBackend()} answers ${sum}`);
console.log(`tensorflow-node: ready, TensorFlow ${tf.version_core ? tf.backend().binding.TF_Version ?? "" : ""} with Node ${process.version}`);
'
