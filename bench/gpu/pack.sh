#!/usr/bin/env bash
# Packs `npm run check:gpu` for a machine that has a GPU and its driver, but neither Node.js nor a registry.
#   bash bench/gpu/pack.sh [folder, .gpu by default]      with CUDA=1 also the CUDA provider, 190 MB; needs: npm, xz, strip, apt-get (for the loaders of Vulkan and OpenGL, without which NVIDIA's driver finds no adapter)
# There, in the checkout: bash .gpu/run.sh --device webgpu        Without a GPU: bash .gpu/run.sh --device cpu --quick
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mkdir -p "${1:-.gpu}" && cd "${1:-.gpu}" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

npm run --silent build
[[ -f $out/node.xz ]] || { strip -o "$scratch/node" "$(command -v node)"; xz -9e -T0 -c "$scratch/node" >"$out/node.xz"; }

# The production dependencies, without what only developers, browsers and other platforms want.
mkdir "$scratch/app"
cp package.json package-lock.json "$scratch/app"
(cd "$scratch/app" && npm ci --omit=dev --ignore-scripts --silent)
cp -r dist "$scratch/app/dist"
ort=node_modules/onnxruntime-node/bin/napi-v6
tar -C "$scratch/app" --create \
  --exclude='*.map' --exclude='*.d.ts' --exclude='*.d.cts' --exclude='*.d.mts' --exclude='*.md' --exclude='*.min.js' \
  --exclude='*/core-js-pure/*' --exclude='*musl*' --exclude="$ort/win32" --exclude="$ort/darwin" --exclude="$ort/linux/arm64" \
  --exclude='tfjs-layers' --exclude='tfjs-core/src' --exclude='tf-core.js' --exclude='tf-core.f*' --exclude='tf-core.es*' \
  --exclude='rxjs/src' --exclude='zod/src' --exclude='vega*/build/*' \
  package.json dist node_modules | xz -9 -T0 >"$out/app.tar.xz"

if [[ ${CUDA:-} == 1 ]]; then
  bash scripts/cuda-provider.sh "$scratch/app"
  tar -C "$scratch/app" --create "$ort"/linux/x64/libonnxruntime_providers_* | xz -9 -T0 >"$out/cuda.tar.xz"
fi

# The check and the engine's thread, each one file: with what only developers have, without the production dependencies.
mapfile -t external < <(node -p 'Object.keys(require("./package.json").dependencies).map((name) => `--external:${name}`).join("\n")')
bundle() {
  npx esbuild "$1" --bundle --platform=node --format=esm "${external[@]}" --log-level=warning --outfile="$2" \
    --banner:js='import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);'
}
bundle bench/gpu.ts "$out/check/gpu.js"
bundle src/engine/worker.ts "$out/check/worker.js"
mkdir -p "$out/check/peers"
cp bench/engine/peers/*.py "$out/check/peers"

(cd "$out" && rm -f ./*.deb && apt-get download libvulkan1 libglvnd0 libegl1 libgl1 libglx0 libopengl0 libgles2)
cp bench/gpu/run.sh "$out/run.sh"
du -ch "$out"/* | tail -20
