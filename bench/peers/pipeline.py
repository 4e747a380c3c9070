"""The job of the demo graph as a Python script: OpenCV decodes, equalises and resizes in loader processes, PyTorch classifies
each film and its mirror image, the results go to a CSV file.

Reads one request (JSON) a line from standard input, and answers with one line:
  {"do": "run", "folder": F, "loaders": N, "threads": N, "csv": F} -> {"films", "seconds", "cpuSeconds"}
  {"do": "parts", "folder": F, "films": N}                         -> milliseconds of CPU per film, by part
The first line it prints names the versions. 8-bit samples are divided by 255, 16-bit samples by 65535."""
import csv
import glob
import json
import os
import resource
import sys
import time

os.environ.pop("OPENBLAS_CORETYPE", None)
import cv2
import numpy
import torch
import torchvision
from torch.utils.data import DataLoader, Dataset

SIZE, WIDTH, CLASSES, BATCH = 128, 48, 3, 16
cv2.setNumThreads(1)


def decode(path):
    return cv2.imread(path, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)


def equalise(image):
    return cv2.createCLAHE(2, (8, 8)).apply(image)


def shrink(image):
    return cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def tensor(image):
    scale = 65535 if image.dtype == numpy.uint16 else 255
    return image.astype(numpy.float32)[None] / scale


class Films(Dataset):
    def __init__(self, folder):
        self.files = sorted(f for f in glob.glob(folder + "/**/*", recursive=True) if f.endswith((".jpg", ".jpeg", ".png")))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return tensor(shrink(equalise(decode(self.files[index]))))


def network():
    """ResNet-18 for grey images, narrowed to the shipped width, frozen and optimised: PyTorch's fastest on a CPU."""
    model = torchvision.models.resnet18(num_classes=CLASSES)

    def narrow(module):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.Conv2d):
                inputs = 1 if child.in_channels == 3 else child.in_channels * WIDTH // 64
                narrowed = torch.nn.Conv2d(
                    inputs, child.out_channels * WIDTH // 64, child.kernel_size, child.stride, child.padding, bias=False
                )
            elif isinstance(child, torch.nn.BatchNorm2d):
                narrowed = torch.nn.BatchNorm2d(child.num_features * WIDTH // 64)
            elif isinstance(child, torch.nn.Linear):
                narrowed = torch.nn.Linear(child.in_features * WIDTH // 64, CLASSES)
            else:
                narrow(child)
                continue
            setattr(module, name, narrowed)

    narrow(model)
    frozen = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.script(model.eval())))
    for _ in range(5):
        frozen(torch.zeros(BATCH, 1, SIZE, SIZE))
    return frozen


def classify(model, batch):
    return (torch.softmax(model(batch), 1) + torch.softmax(model(batch.flip(3)), 1)) / 2


def cpu_seconds():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def run(model, folder, loaders, threads, csv_path):
    torch.set_num_threads(threads)
    films = Films(folder)
    cpu, start = cpu_seconds(), time.perf_counter()
    with open(csv_path, "w", newline="") as file:
        writer = csv.writer(file)
        done = 0
        for batch in DataLoader(films, batch_size=BATCH, num_workers=loaders, prefetch_factor=4):
            for row in classify(model, batch).tolist():
                writer.writerow([films.files[done], *row])
                done += 1
    seconds = time.perf_counter() - start
    return {"films": done, "seconds": seconds, "cpuSeconds": cpu_seconds() - cpu}


def parts(model, folder, count):
    torch.set_num_threads(1)
    paths = (Films(folder).files * count)[:count]
    spent = {"read and decode": 0.0, "CLAHE": 0.0, "resize": 0.0, "tensor": 0.0, "network": 0.0}

    def timed(part, work, *arguments):
        start = time.process_time()
        result = work(*arguments)
        spent[part] += time.process_time() - start
        return result

    for at in range(0, count, BATCH):
        batch = []
        for path in paths[at : at + BATCH]:
            image = timed("read and decode", decode, path)
            image = timed("CLAHE", equalise, image)
            image = timed("resize", shrink, image)
            batch.append(timed("tensor", tensor, image))
        timed("network", classify, model, timed("tensor", torch.from_numpy, numpy.stack(batch)))
    return {part: 1000 * seconds / count for part, seconds in spent.items()}


def main():
    with torch.inference_mode():
        model = network()
        versions = f"PyTorch {torch.__version__}, OpenCV {cv2.__version__}"
        print(json.dumps({"versions": versions}), flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] == "run":
                answer = run(model, request["folder"], request["loaders"], request["threads"], request["csv"])
            else:
                answer = parts(model, request["folder"], request["films"])
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
