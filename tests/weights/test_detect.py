"""What models are taken for: every family and kind at full size (on the meta device), marks and overrides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentcodec.errors import InvalidArgument, InvalidWeights, UnknownModel
from latentcodec.nn.autoencoder import AutoencoderConfig, AutoencoderKL
from latentcodec.nn.text_encoder import TextEncoder
from latentcodec.nn.tiny_autoencoder import TinyAutoencoder
from latentcodec.nn.unet import UNet
from latentcodec.weights import key_tables
from latentcodec.weights.checkpoint import Checkpoint
from latentcodec.weights.detect import OTHER, detect
from latentcodec.weights.detected import EPSILON, VELOCITY, Detected
from latentcodec.weights.families import AUTOENCODERS, FAMILIES
from latentcodec.weights.layouts import find_parts
from latentcodec.weights.load import check_parts
from latentcodec.weights.model_files import ModelFiles, open_model
from tests.weights.checkpoints import State, in_layout, random_network

UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."
V_BIAS = "output_blocks.11.1.transformer_blocks.0.norm1.bias"


def meta(kind: str) -> State:
    config = AUTOENCODERS[kind]
    with torch.device("meta"):
        network = AutoencoderKL(config) if isinstance(config, AutoencoderConfig) else TinyAutoencoder(config)
    return network.state_dict()


def model(state: State, name: str = "model.safetensors", **notes: tuple[str, str]) -> ModelFiles:
    path = Path(name)
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    checkpoint = Checkpoint(path, shapes, state.__getitem__)
    return ModelFiles(path, find_parts(checkpoint), (path,), notes, checkpoint)


def whole(family: str, bias: float = 0.01) -> State:
    """A whole ldm checkpoint of a family, all but a bias on the meta device."""
    known = FAMILIES[family]
    with torch.device("meta"):
        unet = UNet(known.unet).state_dict()
        text = TextEncoder(known.text_encoder).state_dict()
        second = TextEncoder(known.text_encoder_2).state_dict() if known.text_encoder_2 else {}
    if known.autoencoder == "kl-sdxl":
        texts = {f"conditioner.embedders.0.transformer.text_model.{k}": v for k, v in text.items()}
        rules = key_tables.text_encoder_open_clip(second)
        texts |= in_layout(second, rules, "conditioner.embedders.1.model.")
    elif known.unet.context == 768:
        texts = {f"cond_stage_model.transformer.text_model.{k}": v for k, v in text.items()}
    else:
        texts = in_layout(text, key_tables.text_encoder_open_clip(text), "cond_stage_model.model.")
    vae = meta(known.autoencoder)
    state = in_layout(unet, key_tables.unet_ldm(unet), UNET_PREFIX)
    state |= in_layout(vae, key_tables.autoencoder_ldm(vae), VAE_PREFIX, convolutions=True) | texts
    if UNET_PREFIX + V_BIAS in state:
        state[UNET_PREFIX + V_BIAS] = torch.tensor([-bias, bias] * 160)
    return state | {"betas": torch.empty(1000), "low_scale_model.betas": torch.empty(1000)}


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    found = model(whole(family))
    detected = detect(found)
    assert (detected.family, detected.layout) == (family, "ldm")
    assert detected.prediction == FAMILIES[family].prediction
    assert {"unet", "autoencoder", "text_encoder"} <= set(detected.components)
    assert ("text_encoder_2" in detected.components) == (family == "sdxl")
    assert not found.unknown
    check_parts(found, detected)
    assert Detected.from_dict(json.loads(json.dumps(detected.to_dict()))) == detected


@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_the_diffusers_layout(family: str) -> None:
    with torch.device("meta"):
        state = UNet(FAMILIES[family].unet).state_dict()
    bias = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
    if bias in state:
        state[bias] = torch.zeros(320)
    detected = detect(model(state))
    assert (detected.family, detected.layout, detected.components) == (family, "diffusers", ("unet",))


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_kinds_by_name(kind: str) -> None:
    name = {"kl-sd": "vae-ft-mse.ckpt", "kl-sdxl": "sdxl_vae.ckpt", "kl-flux": "flux_ae.ckpt"}.get(kind, kind)
    state = meta(kind)
    detected = detect(model(state, name))
    assert (detected.family, detected.components) == (kind, ("autoencoder",))
    if kind.startswith("kl"):
        ldm = in_layout(state, key_tables.autoencoder_ldm(state), convolutions=True)
        ldm |= {"loss.logvar": torch.ones(()), "model_ema.decay": torch.ones(())}
    else:
        ldm = in_layout(state, key_tables.tiny_autoencoder_diffusers(state))
    again = model(ldm, name)
    assert detect(again).family == kind
    check_parts(again, detect(again))


def test_what_shapes_cannot_tell_is_told() -> None:
    """SDXL's autoencoder has the shapes of SD's."""
    state = meta("kl-sdxl")
    assert "is assumed" in detect(model(state)).reasons[0]
    scaled = detect(model(state, scale=("0.13025", "vae/config.json")))
    assert (scaled.family, "0.13025 in vae/config.json" in scaled.reasons[0]) == ("kl-sdxl", True)
    said = detect(model(state), family="kl-sdxl")
    assert said.family == "kl-sdxl"
    assert "the caller says so (detected: kl-sd," in said.reasons[0]
    with pytest.raises(InvalidWeights, match=r"the scale 0\.5; known are 0\.18215, 0\.13025"):
        detect(model(state, scale=("0.5", "config.json")))


def test_v_prediction() -> None:
    by_bias = detect(model(whole("sd2", bias=0.2)))
    assert by_bias.prediction == VELOCITY
    assert "0.200" in by_bias.reasons[1] or "0.201" in by_bias.reasons[1]
    state = whole("sd2")
    assert detect(model(state)).prediction == EPSILON
    assert detect(model(state | {"v_pred": torch.empty(0)})).prediction == VELOCITY
    assert detect(model(whole("sd1") | {"v_pred": torch.empty(0)})).prediction == VELOCITY
    assert detect(model(whole("sd1", bias=0.2))).prediction == EPSILON  # it marks SD 2.x only
    for word, expected in (
        ("v", VELOCITY),
        ("v_prediction", VELOCITY),
        ("eps", EPSILON),
        ("epsilon", EPSILON),
    ):
        assert detect(model(state, prediction=(word, "a.yaml"))).prediction == expected
    said = detect(model(whole("sd2", bias=0.2)), prediction=EPSILON)
    assert (said.prediction, "the caller says so (detected: v_prediction" in said.reasons[1]) == (
        EPSILON,
        True,
    )
    with pytest.raises(InvalidWeights, match="'sample'"):
        detect(model(state, prediction=("sample", "scheduler_config.json")))


def test_wrong_overrides() -> None:
    found = model(meta("kl-sd"))
    for arguments in ({"family": "sd9"}, {"prediction": "x0"}, {"prediction": EPSILON}):
        with pytest.raises(InvalidArgument):
            detect(found, **arguments)


def test_unknown_tensors_are_told() -> None:
    detected = detect(model(whole("sd1") | {f"strange.{i}": torch.empty(1) for i in range(6)}))
    told = "not used: 6 tensors (strange.0, strange.1, strange.2, strange.3, ...)"
    assert told in detected.reasons


def test_other_sizes_are_told() -> None:
    state = whole("sd1")
    state[f"{UNET_PREFIX}input_blocks.0.0.weight"] = torch.empty(320, 8, 3, 3)
    detected = detect(model(state))
    assert detected.family == OTHER
    assert "8 input channels, 320 wide, context 768" in detected.reasons[0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["lora_unet_down_blocks_0.lora_up.weight", "x.alpha"], "a LoRA"),
        (["unet.a.to_k.lora_A.weight"], "a LoRA"),
        (["control_model.input_blocks.0.0.weight"], "a ControlNet"),
        (["emb_params"], "a textual inversion"),
        (["model.diffusion_model.joint_blocks.0.x"], "Stable Diffusion 3"),
        (["double_blocks.0.img_attn.norm.key_norm.scale"], "FLUX"),
        (["0.weight", "1.conv.0.weight"], "one half"),
        (["layer1.weight", "layer2.weight"], "no network that this version knows; its 2 tensors"),
    ],
)
def test_what_is_no_model_of_ours(names: list[str], message: str) -> None:
    with pytest.raises(InvalidWeights, match=message):
        model({name: torch.empty(1) for name in names})


def test_sidecars(tmp_path: Path) -> None:
    """A YAML file of the same name, a scheduler's JSON, a safetensors file's own metadata."""
    vae = random_network(lambda: TinyAutoencoder(AUTOENCODERS["taesd"]))  # type: ignore[arg-type]
    for text, expected in (
        ('model:\n  params:\n    parameterization: "v"\n', "v"),
        ("model:\n  params:\n    linear_start: 0.1\n", "eps"),
        ("notes: nothing of a model\n", None),
    ):
        save_file(vae.state_dict(), tmp_path / "a.safetensors")
        (tmp_path / "a.yaml").write_text(text)
        notes = open_model(tmp_path / "a.safetensors").notes
        assert notes.get("prediction", (None,))[0] == expected
    save_file(vae.state_dict(), tmp_path / "b.safetensors", metadata={"modelspec.prediction_type": "v"})
    assert open_model(tmp_path / "b.safetensors").notes["prediction"][0] == "v"
    folder = tmp_path / "model"
    (folder / "vae").mkdir(parents=True)
    (folder / "scheduler").mkdir()
    save_file(vae.state_dict(), folder / "vae" / "diffusion_pytorch_model.safetensors")
    (folder / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "v_prediction"}')
    assert open_model(folder).notes["prediction"] == ("v_prediction", "scheduler/scheduler_config.json")
    for bad in ("{", "[]", "[" * 100_000, " " * (2 << 20)):
        (folder / "scheduler" / "scheduler_config.json").write_text(bad)
        with pytest.raises(InvalidWeights, match=r"scheduler_config\.json"):
            open_model(folder)


def test_folders_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="no such file or folder"):
        open_model(tmp_path / "nothing")
    with pytest.raises(InvalidWeights, match="weights files in it: none"):
        open_model(tmp_path)
    vae = random_network(lambda: TinyAutoencoder(AUTOENCODERS["taesd"]))  # type: ignore[arg-type]
    for stem in ("a", "b"):
        for half in ("encoder", "decoder"):
            torch.save(getattr(vae, half).state_dict(), tmp_path / f"{stem}_{half}.pth")
    with pytest.raises(InvalidWeights, match="several"):
        open_model(tmp_path)
    (tmp_path / "b_decoder.pth").unlink()
    assert set(open_model(tmp_path).parts) == {"autoencoder"}
    (tmp_path / "m" / "unet").mkdir(parents=True)
    save_file(vae.state_dict(), tmp_path / "m" / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(InvalidWeights, match="holds autoencoder, where its folder says unet"):
        open_model(tmp_path / "m")
