"""An rxray classifier in Python: the same tensor and the same answer as in a graph. Not a medical device.

    python3 rxray_bundle.py models/chest-resnet film.png

Needs numpy, opencv-python and onnxruntime. It knows the stages decode (PNG and other files that OpenCV reads), clahe,
equalize and resize with `interpolation: area`, and refuses a bundle with others: a wrong tensor would give a wrong answer in silence.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np


def load(folder):
    """The bundle's description, with its folder as `folder`."""
    bundle = json.loads((Path(folder) / "bundle.json").read_text(encoding="utf-8"))
    return {**bundle, "folder": Path(folder)}


def equalize(image):
    """Histogram equalisation; 16 bit, which OpenCV does not support, by the same formula."""
    if image.dtype == np.uint8:
        return cv2.equalizeHist(image)
    counts = np.bincount(image.ravel(), minlength=65536)
    darkest = counts[image.min()]
    if darkest == image.size:
        return image
    scale = np.float32(65535 / (image.size - darkest))
    brighter = np.clip(np.cumsum(counts) - darkest, 0, None).astype(np.float32)
    return np.rint(brighter * scale).astype(np.uint16)[image]


def tensor(bundle, film):
    """The network's input for one film (a path): float32, 1 x H x W x C, or 1 x C x H x W."""
    image = None
    for step in bundle["preprocessing"]:
        use, options = step["use"], step["with"]
        if use == "decode":
            image = cv2.imread(str(film), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
            if image is None:
                raise ValueError(f"{film} is no image that OpenCV reads")
        elif use == "clahe":
            side = options["tileGridSize"]
            image = cv2.createCLAHE(options["clipLimit"], (side, side)).apply(image)
        elif use == "equalize":
            image = equalize(image)
        elif use == "resize" and options["interpolation"] == "area" and options["fit"] == "stretch":
            image = cv2.resize(image, (options["width"], options["height"]), interpolation=cv2.INTER_AREA)
        else:
            raise ValueError(f"the stage {use} with {options} is not known here")
    given = bundle["input"]
    full = 65535 if image.dtype == np.uint16 else 255
    channels = [
        (image * (1 / full) - given["mean"][c % len(given["mean"])]) / given["std"][c % len(given["std"])]
        for c in range(given["channels"])
    ]
    axis = -1 if given["layout"] == "NHWC" else 0
    return np.stack(channels, axis=axis).astype(np.float32)[np.newaxis]


def classify(bundle, film):
    """The calibrated probability of each label, and whether the film is abnormal by the bundle's threshold."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(bundle["folder"] / bundle["files"]["model"]["path"]))
    names = [output.name for output in session.get_outputs()]
    given = dict(zip(names, session.run(None, {session.get_inputs()[0].name: tensor(bundle, film)})))
    if "probabilities" not in given:
        raise ValueError(f"expected an output named probabilities, the model gives {', '.join(names)}")
    calibration = bundle.get("calibration", {})
    tempered = given["probabilities"][0].astype(np.float64) ** (1 / calibration.get("temperature", 1))
    probabilities = dict(zip(bundle["labels"], (tempered / tempered.sum()).tolist()))
    score = 1 - sum(probabilities[label] for label in bundle["healthy"])
    threshold = calibration.get("binary", {}).get("threshold", 0.5)
    return {"probabilities": probabilities, "score": score, "threshold": threshold, "abnormal": score > threshold}


if __name__ == "__main__":
    print(json.dumps(classify(load(sys.argv[1]), sys.argv[2]), indent=2))
