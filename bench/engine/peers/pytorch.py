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

# OpenBLAS 0.3.21 and PyTorch 1.13 take AVX2 kernels on CPUs newer than they are: half the speed of the AVX-512 ones.
with open("/proc/cpuinfo") as cpuinfo:
    flags = cpuinfo.read().split()
    if all(flag in flags for flag in ("avx512f", "avx512bw", "avx512dq", "avx512vl")):
        os.environ.setdefault("OPENBLAS_CORETYPE", "SKYLAKEX")
        os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx512")

import torch
import torchvision
from works import WORKS

WARM_UPS = 2
TRIALS = 3


def libraries():
    """The BLAS and oneDNN that this process has really loaded, by path and version."""
    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if ".so" in line}
    found = {"oneDNN": [path for path in paths if "dnnl" in path or "mkldnn" in path]}
    blas = [path for path in paths if any(name in os.path.basename(path) for name in ("openblas", "mkl_rt", "blis"))]
    reference = [path for path in paths if os.path.basename(path).startswith("libblas")]
    description = ", ".join(sorted(blas)) or f"REFERENCE BLAS: not a fair peer ({', '.join(reference)})"
    for path in blas:
        library = ctypes.CDLL(path)
        if hasattr(library, "openblas_get_config"):
            library.openblas_get_config.restype = ctypes.c_char_p
            config = library.openblas_get_config().decode()
            description = f"{config}; {library.openblas_get_num_threads()} threads; {path}"
    return {"BLAS": description, "oneDNN": ", ".join(sorted(found["oneDNN"])) or "built in"}


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


def fastest(modes, device):
    medians, failed, best = {}, {}, None
    for name, prepare in modes.items():
        try:
            step = prepare()
            timed(step, WARM_UPS, device)
            medians[name] = statistics.median(timed(step, TRIALS, device))
        except Exception as error:
            failed[name] = str(error).strip().split("\n")[-1]
            continue
        if best is None or medians[name] < medians[best[0]]:
            best = (name, step)
        gc.collect()
    if best is None:
        raise RuntimeError(f"no mode runs: {failed}")
    return best, medians, failed


def main():
    order = json.loads(sys.stdin.readline())
    device = order["device"]
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("this PyTorch has no CUDA device")
    torch.set_num_threads(order["threads"])
    torch.manual_seed(1)
    work = WORKS[order["work"]](**order["options"], device=device)
    (mode, step), medians, failed = fastest(work.modes, device)
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


try:
    main()
except Exception as error:
    reply({"error": f"{type(error).__name__}: {error}"})
