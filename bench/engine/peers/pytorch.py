"""PyTorch as a peer of `npm run bench:engine`: one process a work, JSON lines on standard input and output.

First line in:   {"work": name, "device": "cpu", "threads": 2, "options": {...}}
First line out:  {"mode": the fastest, "modes": {name: ms}, "failed": {name: why}, "parameters": n, "versions": {...}}
Then:            {"run": times} -> {"ms": [...]}      {"export": path} -> {}
An error is answered by {"error": message}. End of input ends the process.
"""

import ctypes
import gc
import json
import os
import re
import statistics
import sys
import time

# Whatever a library prints must not get between the lines of the protocol.
replies = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

# Left alone, OpenBLAS takes the kernels of this very CPU; a core type that an image pins may halve its speed.
os.environ.pop("OPENBLAS_CORETYPE", None)
# PyTorch 1.13 has AVX-512 kernels, but takes them only when it is told to.
with open("/proc/cpuinfo") as cpuinfo:
    flags = cpuinfo.read().split()
    if all(flag in flags for flag in ("avx512f", "avx512bw", "avx512dq", "avx512vl")):
        os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx512")

import torch
import torchvision
from works import WORKS

WARM_UPS = 2
TRIALS = 3


def loaded(*names):
    """Paths of the libraries of these names that this process has really loaded."""
    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if ".so" in line}
    return sorted(path for path in paths if any(name in os.path.basename(path) for name in names))


def openblas():
    """OpenBLAS, to be asked and told its number of threads; None where another BLAS is loaded."""
    for path in loaded("openblas"):
        library = ctypes.CDLL(path)
        if hasattr(library, "openblas_set_num_threads"):
            library.openblas_get_config.restype = ctypes.c_char_p
            return library
    return None


def libraries():
    blas = openblas()
    description = f"{blas.openblas_get_config().decode()}; " if blas else "NOT OpenBLAS, no fair peer: "
    return {
        "BLAS": description + ", ".join(loaded("blas", "mkl_rt", "blis")),
        "oneDNN": ", ".join(loaded("dnnl", "mkldnn")) or "built in",
    }


def versions(device):
    described = {
        "PyTorch": torch.__version__,
        "torchvision": torchvision.__version__,
        "threads": torch.get_num_threads(),
        "CPU capability": re.search(r"CPU capability usage: (\S+)", torch.__config__.show())[1],
        **libraries(),
    }
    if device == "cuda":
        described["GPU"] = torch.cuda.get_device_name()
    return described


def timed(step, times, device):
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append((time.perf_counter() - start) * 1000)
    return taken


def fastest(modes, device, threads):
    """Every mode, with OpenBLAS on all threads and on one: its threads and PyTorch's may get in each other's way."""
    medians, failed, best = {}, {}, None
    blas = openblas()
    for name, prepare in modes.items():
        try:
            step = prepare()
            for blas_threads in sorted({1, threads}) if blas else [0]:
                if blas:
                    blas.openblas_set_num_threads(blas_threads)
                timed(step, WARM_UPS, device)
                mode = f"{name}, BLAS threads {blas_threads}" if blas else name
                medians[mode] = statistics.median(timed(step, TRIALS, device))
                if best is None or medians[mode] < medians[best[0]]:
                    best = (mode, step, blas_threads)
        except Exception as error:
            failed[name] = str(error).strip().split("\n")[-1]
        gc.collect()
    if best is None:
        raise RuntimeError(f"no mode runs: {failed}")
    if blas:
        blas.openblas_set_num_threads(best[2])
    return best[:2], medians, failed


def main():
    order = json.loads(sys.stdin.readline())
    device = order["device"]
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("this PyTorch has no CUDA device")
    torch.set_num_threads(order["threads"])
    # On a GPU, float32 like ours: TF32 has ten bits of mantissa.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(1)
    work = WORKS[order["work"]](**order["options"], device=device)
    (mode, step), medians, failed = fastest(work.modes, device, order["threads"])
    reply(
        {
            "mode": mode,
            "modes": medians,
            "failed": failed,
            "parameters": work.parameters,
            "versions": versions(device),
        }
    )
    for line in sys.stdin:
        request = json.loads(line)
        if "export" in request:
            work.export(request["export"])
            reply({})
        else:
            reply({"ms": timed(step, request["run"], device)})


def reply(message):
    replies.write(json.dumps(message) + "\n")


# PyTorch's own code looks for a module of this file's name, and would run the work a second time.
if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        reply({"error": f"{type(error).__name__}: {error}"})
