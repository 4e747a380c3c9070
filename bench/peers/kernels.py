"""OpenCV's side of bench/kernels.ts, one thread. Reads one request (JSON) a line from standard input and answers with one line:
  {"file": F, "kernel": "decode" | "clahe" | "area", "times": N} -> milliseconds of CPU a call
The first line it prints is the version."""
import json
import sys
import time

import cv2

cv2.setNumThreads(1)
READ = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
KERNELS = {
    "decode": lambda image, path: cv2.imread(path, READ),
    "clahe": lambda image, path: cv2.createCLAHE(2, (8, 8)).apply(image),
    "area": lambda image, path: cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA),
}

print(json.dumps(cv2.__version__), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    path, kernel = request["file"], KERNELS[request["kernel"]]
    image = cv2.imread(path, READ)
    kernel(image, path)
    start = time.process_time()
    for _ in range(request["times"]):
        kernel(image, path)
    print(json.dumps(1000 * (time.process_time() - start) / request["times"]), flush=True)
