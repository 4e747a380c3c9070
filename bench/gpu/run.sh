#!/usr/bin/env bash
# Unpacks what `pack.sh` packed, and runs the check. Started in the checkout; models/ is read from there.
#   bash .gpu/run.sh [options of check:gpu]     SECONDS_AT_MOST=500 OUT=folder for gpu.json
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
at=/tmp/rxray-check
if [[ ! -e $at/ready ]]; then
  mkdir -p "$at/bench/check" "$at/vulkan"
  xz -dc "$here/node.xz" >"$at/node" && chmod +x "$at/node"
  for part in "$here"/*.tar.xz; do tar -C "$at" -xJf "$part"; done
  cp -r "$here/check/." "$at/bench/check"
  for package in "$here"/*.deb; do dpkg -x "$package" "$at/vulkan"; done
  touch "$at/ready"
fi
ln -sfn "$PWD/models" "$at/models"
export LD_LIBRARY_PATH=$at/vulkan/usr/lib/x86_64-linux-gnu:${LD_LIBRARY_PATH:-}
# For `--device cuda`: CUDA and cuDNN of PyTorch's packages; float32 instead of TF32, as on PyTorch's side.
LD_LIBRARY_PATH+=:$(python3 -c "import glob, os, site
print(':'.join(sorted({os.path.dirname(file) for folder in site.getsitepackages() for file in glob.glob(folder + '/nvidia/**/*.so*', recursive=True)})))")
export NVIDIA_TF32_OVERRIDE=${NVIDIA_TF32_OVERRIDE:-0}
driver=/usr/local/nvidia/share
[[ ! -d $driver ]] || export VK_DRIVER_FILES=$driver/vulkan/icd.d/nvidia_icd.json \
  __EGL_VENDOR_LIBRARY_FILENAMES=$driver/glvnd/egl_vendor.d/10_nvidia.json
nvidia-smi -L || echo 'no NVIDIA GPU'
timeout "${SECONDS_AT_MOST:-500}" "$at/node" "$at/bench/check/gpu.js" \
  --json "${OUT:-$at}/gpu.json" --python "$(command -v python3)" "$@"
