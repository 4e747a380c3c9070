"""pydicom for `bench/dicom.ts`: `make FOLDER` writes a film in each transfer syntax; `serve` decodes and renders them.

Needs pydicom 3 with pylibjpeg, pylibjpeg-libjpeg, pylibjpeg-openjpeg, pylibjpeg-rle and python-gdcm; dcmtk, libgdcm-tools
and openjph-tools.
"""
import pathlib
import subprocess
import sys
import time
import warnings

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut

warnings.filterwarnings("ignore")
SIDE = 1024


def film(bits):
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    noise = np.random.default_rng(1).normal(0, 0.01, (SIDE, SIDE))
    lungs = np.exp(-(((x - 0.3) / 0.13) ** 2 + ((y - 0.5) / 0.3) ** 2)) + np.exp(-(((x - 0.7) / 0.13) ** 2 + ((y - 0.5) / 0.3) ** 2))
    samples = np.clip(0.7 - 0.5 * lungs + 0.05 * np.sin(40 * y) + noise, 0, 1) * (2**bits - 1)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "2.25.1"
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    ds.StudyInstanceUID = ds.SeriesInstanceUID = "2.25.2"
    ds.Rows = ds.Columns = SIDE
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = (8 if bits == 8 else 16), bits, bits - 1, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.WindowCenter, ds.WindowWidth = 2 ** (bits - 1), 2**bits * 3 // 4
    ds.PixelData = samples.astype("u1" if bits == 8 else "<u2").tobytes()
    ds["PixelData"].VR = "OB" if bits == 8 else "OW"
    return ds


def make(folder):
    folder = pathlib.Path(folder)
    for bits in (8, 12):
        film(bits).save_as(folder / f"{bits}.dcm", enforce_file_format=True)
    for name, bits, command in [
        ("explicit", 12, ["dcmconv", "+te"]),
        ("deflated", 12, ["dcmconv", "+td"]),
        ("rle", 12, ["dcmcrle"]),
        ("jpeg-baseline", 8, ["dcmcjpeg", "+eb"]),
        ("jpeg-extended", 12, ["dcmcjpeg", "+ee"]),
        ("jpeg-lossless", 12, ["dcmcjpeg", "+el"]),
        ("jpeg-lossless-sv1", 12, ["dcmcjpeg", "+e1"]),
        ("jpeg-ls", 12, ["dcmcjpls", "+el"]),
        ("jpeg-ls-near", 12, ["dcmcjpls", "+en"]),
        ("jpeg-2000", 12, ["gdcmconv", "--j2k"]),
        ("jpeg-2000-lossy", 12, ["gdcmconv", "--j2k", "--lossy", "-r", "15"]),
    ]:
        subprocess.run([*command, folder / f"{bits}.dcm", folder / f"{name}.film"], check=True, capture_output=True)
        print(name, flush=True)
    ds = film(12)
    image, stream = folder / "12.pgm", folder / "12.j2c"
    image.write_bytes(f"P5\n{SIDE} {SIDE}\n4095\n".encode() + np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes())
    subprocess.run(["ojph_compress", "-i", image, "-o", stream, "-reversible", "true"], check=True, capture_output=True)
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"
    ds.PixelData = encapsulate([stream.read_bytes()])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.save_as(folder / "htj2k.film", enforce_file_format=True)
    print("htj2k", flush=True)


def serve():
    """A path a line; answers with the milliseconds that reading and decoding it took, elapsed and of the CPU, and those with
    rendering, or why not.

    Rendering is what a viewer shows, as rxray's `decode` gives it: modality LUT, window, 8 or 16 bit.
    """
    for line in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        try:
            ds = pydicom.dcmread(line.strip())
            stored = ds.pixel_array
            decoded = [(time.perf_counter() - start) * 1000, (time.process_time() - cpu) * 1000]
            values = apply_voi_lut(apply_modality_lut(stored, ds), ds)
            low, high = 0, 2**ds.BitsStored - 1
            deep = ds.BitsStored > 8
            white = 65535 if deep else 255
            ((values - low) * (white / (high - low)) + 0.5).astype(np.uint16 if deep else np.uint8)
            print(*decoded, (time.perf_counter() - start) * 1000, (time.process_time() - cpu) * 1000, flush=True)
        except Exception as error:
            print("cannot:", str(error).replace("\n", " ")[:80], flush=True)


if sys.argv[1] == "make":
    make(sys.argv[2])
else:
    serve()
