#!/usr/bin/env bash
# Installs ONNX Runtime's CUDA provider for `device: cuda` on Linux x86-64 from the Python registry.
#
#   bash scripts/cuda-provider.sh [FOLDER]
#
# FOLDER is the folder whose node_modules has onnxruntime-node (default: this checkout). The npm package's own install step takes
# the provider from NuGet, for CUDA 12. This script takes the one for CUDA 13 from the `onnxruntime-gpu` wheel of the same version
# (MIT). It needs python3 with pip, and unzip; about 300 MB of disk. CUDA 13, cuDNN 9 and NVIDIA's driver must be there:
# on a machine with PyTorch they are, in its `nvidia` packages. `npm ci` removes the provider again.
set -euo pipefail
folder=$(cd "${1:-$(dirname "$0")/..}" && pwd)
package=$folder/node_modules/onnxruntime-node
libraries=$(echo "$package"/bin/napi-v*/linux/x64)

[[ $(uname -sm) == 'Linux x86_64' ]] || { echo 'cuda-provider: made for Linux on x86-64 only' >&2; exit 2; }
[[ -d $libraries ]] || { echo "cuda-provider: $package is missing: npm ci" >&2; exit 2; }
for tool in python3 unzip; do
  command -v "$tool" >/dev/null || { echo "cuda-provider: $tool is missing" >&2; exit 2; }
done

version=$(node -p 'require(process.argv[1]).version' "$package/package.json")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo "cuda-provider: onnxruntime-gpu $version"
# The wheel's Python version does not matter: only the provider is taken from it.
python3 -m pip download --quiet --no-deps --dest "$scratch" --only-binary=:all: --implementation cp --python-version 3.12 \
  --abi cp312 --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 "onnxruntime-gpu==$version"
unzip -q -j -o "$scratch"/*.whl 'onnxruntime/capi/libonnxruntime_providers_cuda.so' \
  'onnxruntime/capi/libonnxruntime_providers_shared.so' -d "$libraries"

missing=$(ldd "$libraries/libonnxruntime_providers_cuda.so" | awk '/not found/ { print $1 }' | paste -sd' ')
if [[ -n $missing ]]; then
  echo "cuda-provider: installed, but these libraries are not found: $missing"
  echo 'cuda-provider: install CUDA 13 and cuDNN 9, or name their folders in LD_LIBRARY_PATH'
else
  echo 'cuda-provider: ready; see `rxray doctor`'
fi
