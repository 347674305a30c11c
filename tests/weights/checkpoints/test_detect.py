"""What models are taken for: every family and kind at full size (on the meta device), marks and overrides."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentcodec.errors import InvalidArgument, InvalidWeights, UnknownModel
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig, AutoencoderKL
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoder
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TinyAutoencoder
from latentcodec.nn.stable_diffusion.unet import UNet
from latentcodec.weights.checkpoints import key_tables
from latentcodec.weights.checkpoints.checkpoint import Checkpoint
from latentcodec.weights.checkpoints.detect import OTHER, detect
from latentcodec.weights.checkpoints.detected import EPSILON, VELOCITY, Detected, describe
from latentcodec.weights.checkpoints.families import AUTOENCODERS, FAMILIES
from latentcodec.weights.checkpoints.layouts import average_name, find_parts
from latentcodec.weights.checkpoints.model_files import ModelFiles, open_model
from latentcodec.weights.checkpoints.networks import check_parts
from tests.weights.made_checkpoints import State, in_layout, random_network

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
    assert detected.kind == FAMILIES[family].autoencoder
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
    assert "EMA" not in describe(detect(again))
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
    assert "0.200" in by_bias.reasons[-1] or "0.201" in by_bias.reasons[-1]
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
    assert (said.prediction, "the caller says so (detected: v_prediction" in said.reasons[-1]) == (
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


SCHEDULE = [
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod",
    "posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2",
]  # fmt: skip
EXTRAS = {
    "sd1": [
        *SCHEDULE, "logvar", "model_ema.decay", "model_ema.num_updates", "cond_stage_model.logit_scale",
        "cond_stage_model.text_projection", "cond_stage_model.transformer.text_projection.weight",
        "cond_stage_model.transformer.text_model.embeddings.position_ids", "first_stage_model.loss.logvar",
        "first_stage_model.loss.discriminator.main.0.weight", "v_pred", "ztsnr",
    ],
    "sd2": [
        *SCHEDULE, "scale_factor", "cond_stage_model.model.logit_scale", "cond_stage_model.model.attn_mask",
        "cond_stage_model.model.transformer.resblocks.23.ln_1.weight",
    ],
    "x4": [*SCHEDULE, *(f"low_scale_model.{each}" for each in SCHEDULE)],
    "sdxl": [
        "denoiser.sigmas", "conditioner.embedders.0.logit_scale", "conditioner.embedders.0.text_projection",
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
        "conditioner.embedders.1.model.logit_scale",
    ],
}  # fmt: skip


@pytest.mark.parametrize("family", EXTRAS)
def test_extras_of_published_files_are_known(family: str) -> None:
    found = model(whole(family) | dict.fromkeys(EXTRAS[family], torch.empty(1)))
    detected = detect(found)
    check_parts(found, detected)
    assert ("ztsnr" in str(detected.reasons)) == (family == "sd1")


@pytest.mark.parametrize(
    "name",
    [
        "strange.weight", "edm_mean", "sqrt_betas", "low_scale_model.model.conv_in.weight", "loss.logvar",
        "model_ema.diffusion_modelmoreweight", "lora_te_x.lora_up.weight", "posterior_mean", "denoiser.mean",
        "conditioner.embedders.2.weight", "depth_model.transform.mean",
    ],
)  # fmt: skip
def test_other_tensors_are_an_error(name: str) -> None:
    with pytest.raises(
        InvalidWeights, match=rf"1 unexpected: {re.escape(name)}: they belong to none of its netw"
    ):
        model(whole("sd1") | {name: torch.empty(1)})


def test_many_unknown_tensors_are_counted() -> None:
    with pytest.raises(
        InvalidWeights, match=r"25 unexpected: strange\.00, .*strange\.19 and 5 more: .*unet, auto"
    ):
        model(whole("sd1") | {f"strange.{i:02d}": torch.empty(1) for i in range(25)})


@pytest.mark.parametrize(
    ("family", "said", "message"),
    [
        ("sd1", "kl-sdxl", r"it is sd1 \(a UNet of 4 input .*says kl-sdxl \(an autoencoder alone\)"),
        ("sd1", "sd2", r"it is sd1 .* context 768\), the caller says sd2 \(a UNet of .* context 1024\)"),
        (
            "sd2",
            "sd2-depth",
            r"it is sd2 .*4 input channels.*sd2-depth \(a UNet of 5 input channels.*leave the",
        ),
        ("sdxl", "x4", r"it is sdxl .*added 2816\), the caller says x4 \(.*classes 1000\)"),
    ],
)
def test_a_family_that_contradicts_a_whole_model(family: str, said: str, message: str) -> None:
    with pytest.raises(InvalidWeights, match=message):
        detect(model(whole(family)), family=said)


def test_parts_that_contradict_each_other() -> None:
    """SD's UNet with the upscaler's autoencoder, or with SDXL's by what stands beside it."""
    state = {name: each for name, each in whole("sd1").items() if not name.startswith(VAE_PREFIX)}
    x4 = meta("kl-x4")
    mixed = state | in_layout(x4, key_tables.autoencoder_ldm(x4), VAE_PREFIX, convolutions=True)
    with pytest.raises(
        InvalidWeights, match=r"kl-x4 by its shapes; a model of sd1 needs kl-sd: they work on"
    ):
        detect(model(mixed))
    scaled = model(whole("sd1"), scale=("0.13025", "vae/config.json"))
    with pytest.raises(
        InvalidWeights, match=r"kl-sdxl by the scale 0\.13025 in vae/config\.json; .* needs kl-sd"
    ):
        detect(scaled)
    second = {
        name: each for name, each in whole("sdxl").items() if name.startswith("conditioner.embedders.1.")
    }
    found = model(whole("sd1") | second)
    with pytest.raises(InvalidWeights, match=r"a text encoder 2, which sd1 \(Stable Diffusion 1.x\) has not"):
        check_parts(found, detect(found))


def test_a_text_encoder_without_a_family() -> None:
    parts = (VAE_PREFIX, "cond_stage_model.")
    found = model({name: each for name, each in whole("sd1").items() if name.startswith(parts)})
    with pytest.raises(InvalidWeights, match=r"holds a text encoder, .*none is known .*say which it is"):
        check_parts(found, detect(found))
    check_parts(found, detect(found, family="sd1"))
    with pytest.raises(InvalidWeights, match="not the weights of the text encoder of sd2"):
        check_parts(found, detect(found, family="sd2"))


def test_averages_are_compared_too() -> None:
    state = whole("sd1")
    unet = {name for name in state if name.startswith(UNET_PREFIX)}
    averages = {average_name(name): state[name] for name in unet}
    found = model(state | averages)
    detected = detect(found)
    assert detected.averages
    check_parts(found, detected)
    for missing in (f"{UNET_PREFIX}out.2.bias", f"{UNET_PREFIX}time_embed.0.weight"):
        part = {name: each for name, each in averages.items() if name != average_name(missing)}
        found = model(state | part)
        with pytest.raises(InvalidWeights, match=r"weights of the averaged UNet of sd1 .*1 missing: "):
            check_parts(found, detect(found))


def test_one_line_tells_all() -> None:
    line = describe(detect(model(whole("sd2", bias=0.2))))
    assert line.startswith(
        "family sd2 (a UNet of 4 input channels, 320 wide, context 1024), autoencoder kl-sd (4 "
    )
    assert "UNet (the only weights that the file has), prediction v_prediction (the spread of" in line
    assert describe(detect(model(meta("taef2")))) == "family taef2 (32 latent channels, mid-block norms)"
    both = model(meta("kl-sd") | {"model_ema.encoderconv_inweight": torch.empty(1)}, "kl-sd.ckpt")
    assert "EMA (the autoencoder's plain weights are taken, not its averages" in describe(detect(both))


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
        (["0.weight", "1.conv.0.weight"], "a tiny autoencoder's encoder alone: give the folder"),
        (["1.weight", "3.conv.0.weight"], "a tiny autoencoder's decoder alone: give the folder"),
        (["encoder.conv_in.weight", "encoder.x"], "an autoencoder's encoder alone: nothing can be decoded"),
        (["up.0.block.0.norm1.weight"], "an autoencoder's decoder alone: pictures cannot be compressed"),
        (["down_blocks.0.resnets.0.norm1.weight"], "an autoencoder's encoder alone"),
        (["layer1.weight", "layer2.weight"], "no network that this version knows; its 2 tensors"),
    ],
)
def test_what_is_no_model_of_ours(names: list[str], message: str) -> None:
    with pytest.raises(InvalidWeights, match=message):
        model({name: torch.empty(1) for name in names})


@pytest.mark.parametrize("kind", ["kl-sd", "kl-flux", "taesd", "taef2"])
@pytest.mark.parametrize("prefix", ["", "vae.", "first_stage_model."])
def test_a_decoder_alone_is_named_as_such(kind: str, prefix: str) -> None:
    halves = {prefix + name: tensor for name, tensor in meta(kind).items() if not name.startswith("encoder.")}
    with pytest.raises(InvalidWeights, match=r"model\.safetensors: holds an autoencoder's decoder alone"):
        model(halves)


@pytest.mark.parametrize(
    ("what", "sign", "kind"),
    [("Stable Diffusion 3", "joint_blocks", "kl-sd3"), ("FLUX", "double_blocks", "kl-flux")],
)
@pytest.mark.parametrize("prefix", ["vae.", "first_stage_model."])
@pytest.mark.parametrize("transformer", ["model.diffusion_model.", ""])
def test_the_autoencoder_of_a_whole_model(
    what: str, sign: str, kind: str, prefix: str, transformer: str
) -> None:
    """Names as in the files of Stability and ComfyUI; the wide ones are those that no network here has."""
    others = (
        *(
            f"{transformer}{sign}.0.img_attn.qkv.weight",
            f"{transformer}img_in.weight",
            f"{transformer}scaled_fp8",
        ),
        *("text_encoders.clip_l.transformer.text_model.embeddings.token_embedding.weight",),
        *("text_encoders.t5xxl.transformer.shared.weight", "text_encoders.clip_g.logit_scale"),
    )
    state = dict.fromkeys(others, torch.empty(1)) | {prefix + name: part for name, part in meta(kind).items()}
    found = model(state, "a.safetensors")
    detected = detect(found)
    assert (detected.kind, detected.components) == (kind, ("autoencoder",))
    assert f"beside the transformer of {what}" in detected.reasons[0]
    assert (
        detected.reasons[1] == f"the autoencoder alone: {what}'s transformer and text encoders are not used"
    )
    check_parts(found, detected)
    if transformer:  # what else there is is still an error
        with pytest.raises(InvalidWeights, match="1 unexpected: other"):
            model(state | {"other": torch.empty(1)})


def test_a_whole_model_in_ldm_layout_has_its_autoencoder_under_vae(tmp_path: Path) -> None:
    rules = key_tables.autoencoder_ldm(meta("kl-flux"))
    state = {"model.diffusion_model.double_blocks.0.x": torch.empty(1)}
    found = model(state | in_layout(meta("kl-flux"), rules, "vae."))
    assert detect(found).kind == "kl-flux"
    check_parts(found, detect(found))


@pytest.mark.parametrize(
    "wrapped",
    [
        "module.{}",
        "_orig_mod.{}",
        "module._orig_mod.{}",
        "_orig_mod.module.{}",
        "vae._orig_mod.{}",
        "module.vae.{}",
        "{half}._orig_mod.{rest}",
    ],
)
def test_what_torch_wraps_around_names_is_taken_off(tmp_path: Path, wrapped: str) -> None:
    vae = random_network(lambda: TinyAutoencoder(AUTOENCODERS["taesd"])).state_dict()  # type: ignore[arg-type]
    path = tmp_path / "a.safetensors"
    halves = {name: name.partition(".") for name in vae}
    named = {wrapped.format(name, half=halves[name][0], rest=halves[name][2]): vae[name] for name in vae}
    save_file(named, path)
    found = open_model(path)
    assert detect(found).kind == "taesd"
    check_parts(found, detect(found))
    (part,) = found.parts.values()
    assert all(torch.equal(part.checkpoint[name], vae[name]) for name in vae)
    save_file(named | {next(iter(vae)): torch.zeros(1)}, path)  # two of one name: nothing is taken off
    if wrapped == "module.{}":
        with pytest.raises(InvalidWeights):
            check_parts(open_model(path), detect(open_model(path)))


def test_a_folder_with_a_transformer_is_its_autoencoder(tmp_path: Path) -> None:
    vae = random_network(lambda: TinyAutoencoder(AUTOENCODERS["taef1"])).state_dict()  # type: ignore[arg-type]
    for name in ("vae", "transformer", "text_encoder"):
        (tmp_path / name).mkdir()
        save_file(vae if name == "vae" else {"x": torch.zeros(1)}, tmp_path / name / "model.safetensors")
    found = open_model(tmp_path)
    assert list(found.parts) == ["autoencoder"]
    assert [file.parent.name for file in found.files] == ["vae"]


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
