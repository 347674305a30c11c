"""Stable Diffusion 1.5 at full size, random weights: seconds and memory that loading and adding it take.

    pytest -m release tests/weights/test_full_size.py -v      prints the rows of docs/parity.md

Needs 7 GB of memory and 9 GB of disk. Each run is a process of its own; the file is in the system's cache.
Seconds are those of the processor, whatever else runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.release,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's"),
]

MAKE = """
import sys, torch
from safetensors.torch import save_file
from latentcodec.nn.stable_diffusion.autoencoder import SD_VAE, AutoencoderKL
from latentcodec.nn.stable_diffusion.text_encoder import CLIP_L, TextEncoder
from latentcodec.nn.stable_diffusion.unet import SD15, UNet
from latentcodec.weights.checkpoints.key_tables import autoencoder_ldm, unet_ldm
from tests.weights.made_checkpoints import in_layout

def random(build, config):
    with torch.device("meta"):
        shapes = build(config).state_dict()
    return {k: torch.empty(v.shape, dtype=dtype).uniform_(-0.1, 0.1) for k, v in shapes.items()}

dtype, path = getattr(torch, sys.argv[1]), sys.argv[2]
unet, vae, text = random(UNet, SD15), random(AutoencoderKL, SD_VAE), random(TextEncoder, CLIP_L)
state = in_layout(unet, unet_ldm(unet), "model.diffusion_model.")
state |= in_layout(vae, autoencoder_ldm(vae), "first_stage_model.", convolutions=True)
state |= {f"cond_stage_model.transformer.text_model.{k}": v for k, v in text.items()}
save_file(state, path) if path.endswith(".safetensors") else torch.save({"state_dict": state}, path)
print(sum(each.nbytes for each in state.values()))
"""

MEASURE = """
import json, sys, time, torch
from latentcodec.weights.intake import add
from latentcodec.weights.load import load_autoencoder, load_text_encoder, load_unet
path, dtype, what = sys.argv[1], getattr(torch, sys.argv[2]), sys.argv[3]
status = lambda: {k: v for k, v in (line.split(":", 1) for line in open("/proc/self/status"))}
peak = lambda name: int(status()[name].split()[0]) * 1024
torch.set_num_threads(1)
before, begun = peak("VmHWM"), time.process_time()
if what == "add":
    model = add(path, "model")
    told = {"fingerprints": dict(model.fingerprints)}
else:
    loads = (load_unet, load_autoencoder, load_text_encoder)
    networks = [load(path, "cpu", dtype).module for load in loads]
    loaded = time.process_time() - begun
    touched = [float(each.sum()) for network in networks for each in network.parameters()]
    size = sum(each.nbytes for network in networks for each in network.parameters())
    told = {"loaded": loaded, "size": size, "own": peak("RssAnon")}
print(json.dumps(told | {"seconds": time.process_time() - begun, "grown": peak("VmHWM") - before}))
"""


def child(code: str, home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "LATENTCODEC_HOME": str(home)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
@pytest.mark.parametrize("stored", ["float32", "float16"])
def test_loading_takes_at_most_the_models_size(
    stored: str, ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Float32 as it is, mapped; half as it is, mapped, and as float32, where the mapped file comes on top."""
    path = str(tmp_path / f"model.{ending}")
    size = int(child(MAKE, tmp_path, stored, path))
    for dtype in dict.fromkeys((stored, "float32")):
        told = json.loads(child(MEASURE, tmp_path, path, dtype, "load"))
        mapped = size if dtype != stored else 0
        with capsys.disabled():
            print(
                f"\n| {stored} {ending}, {size / 1e9:.2f} GB, as {dtype} | {told['loaded']:.1f} | "
                f"{told['seconds']:.1f} | {told['grown'] / 1e9:.2f} | {told['own'] / 1e9:.2f} |"
            )
        assert told["grown"] < 1.03 * (told["size"] + mapped) + (64 << 20)
    told = json.loads(child(MEASURE, tmp_path, path, stored, "add"))
    with capsys.disabled():
        print(
            f"\n| {stored} {ending}, {size / 1e9:.2f} GB, models add | | {told['seconds']:.1f} | "
            f"{told['grown'] / 1e9:.2f} | |"
        )
    assert set(told["fingerprints"]) == {"autoencoder", "unet"}
    assert told["grown"] < 1.15 * size + (1 << 29)
    path_in_store = tmp_path / "models" / "model" / "files" / Path(path).name
    path_in_store.unlink()
    Path(path).unlink()
