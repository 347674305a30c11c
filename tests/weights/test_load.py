"""Networks from files: what is loaded, in which layout and precision, and what does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentcodec.errors import InvalidArgument, InvalidWeights, UnknownModel
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig, AutoencoderKL
from latentcodec.nn.stable_diffusion.depth import DepthConfig, DepthEstimator
from latentcodec.nn.stable_diffusion.text_encoder import CLIP_L, TextEncoder
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TAEF2, TAESD, TinyAutoencoder
from latentcodec.nn.stable_diffusion.unet import SD2, UNet
from latentcodec.weights.checkpoints import key_tables
from latentcodec.weights.checkpoints.detected import describe
from latentcodec.weights.checkpoints.fingerprint import fingerprint
from latentcodec.weights.load import load_autoencoder, load_depth, load_text_encoder, load_unet
from tests.nn.networks import SHARED_WEIGHTS
from tests.weights.made_checkpoints import State, in_layout, random_network, with_averages

VAE = AutoencoderConfig(channels=(8, 16, 16), groups=4)
UNET = replace(
    SD2, channels=(16, 32), groups=4, context=8, depth=(1, 0), heads=(2, 2), cross_only=(False, False)
)
TEXT = replace(CLIP_L, width=8, layers=2, heads=2, feed_forward=16, vocabulary=30, end_token=29)
DECODER = [f"decoder.up.{i}.block.{j}.conv1" for i in range(3) for j in range(3)]
ENCODER = [f"encoder.down.{i}.block.{j}.conv{k}" for i in range(3) for j in range(2) for k in (1, 2)]
DEPTH = DepthConfig(
    stem=4, backbone_widths=(8, 16, 24), backbone_depths=(1, 1, 1), norm_groups=2, width=16, layers=3,
    heads=2, feed_forward=24, grid=2, taps=(2, 3), reassembled_widths=(8, 8), fusion_width=8,
)  # fmt: skip


def vae_file(path: Path, change: State | None = None, drop: tuple[str, ...] = (), prefix: str = "") -> State:
    network = random_network(lambda: AutoencoderKL(VAE))
    state = network.state_dict()
    stored = in_layout(state, key_tables.autoencoder_ldm(state), prefix, convolutions=True) | (change or {})
    save_file({name: tensor for name, tensor in stored.items() if name not in drop}, path)
    return state


def equal(found: State, expected: State) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[k], v) for k, v in expected.items())


def test_autoencoders_alone_and_in_a_model(tmp_path: Path) -> None:
    """Training's left-overs are ignored by name; the identity is that of the content."""
    extra = {"loss.discriminator.main.0.weight": torch.ones(2), "model_ema.decay": torch.ones(())}
    state = vae_file(tmp_path / "alone.safetensors", extra)
    vae_file(tmp_path / "model.safetensors", prefix="first_stage_model.")
    torch.save({"state_dict": state}, tmp_path / "diffusers.ckpt")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in state.items():
        for new, before in old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{before}.")
        renamed[name] = tensor
    save_file(renamed, tmp_path / "old.safetensors")
    prints = set()
    for name in ("alone.safetensors", "model.safetensors", "diffusers.ckpt", "old.safetensors"):
        loaded = load_autoencoder(tmp_path / name, config=VAE, kind="kl-sd")
        assert equal(loaded.module.state_dict(), state)
        assert not loaded.module.training
        assert not any(each.requires_grad for each in loaded.module.parameters())
        assert (loaded.identity.name, loaded.identity.kind) == (name.partition(".")[0], "kl-sd")
        prints.add(loaded.identity.fingerprint)
    assert prints == {fingerprint(state)}


def test_precision(tmp_path: Path) -> None:
    network = random_network(lambda: TinyAutoencoder(TAESD))
    half = {name: tensor.half() for name, tensor in network.state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    save_file({name: tensor.float() for name, tensor in half.items()}, tmp_path / "float.safetensors")
    loaded = [load_autoencoder(tmp_path / f"{name}.safetensors") for name in ("half", "float")]
    assert equal(loaded[0].module.state_dict(), loaded[1].module.state_dict())
    assert loaded[0].identity.fingerprint == loaded[1].identity.fingerprint
    again = load_autoencoder(tmp_path / "float.safetensors", dtype=torch.float16)
    assert equal(again.module.state_dict(), half)
    assert again.identity.fingerprint == loaded[0].identity.fingerprint  # the file's, whatever it is run in
    save_file(network.state_dict(), tmp_path / "exact.safetensors")
    exact = load_autoencoder(tmp_path / "exact.safetensors")
    assert exact.identity.fingerprint != loaded[0].identity.fingerprint


def test_fingerprints() -> None:
    a, b = torch.arange(6.0).reshape(2, 3), torch.ones(3)
    first = fingerprint({"a": a, "b": b})
    assert len(first) == 64
    assert first == fingerprint({"b": b, "a": a.t().contiguous().t()})  # order and strides do not count
    assert first == fingerprint({"a": a.to(torch.bfloat16), "b": b.double()})
    different = [{"a": a.reshape(3, 2), "b": b}, {"a": a, "c": b}, {"a": a + 1, "b": b}, {"a": a}]
    assert len({first, *map(fingerprint, different)}) == 5


@pytest.mark.skipif(not SHARED_WEIGHTS.is_dir(), reason=f"no weights in {SHARED_WEIGHTS}")
def test_the_published_taef2(tmp_path: Path) -> None:
    loaded = load_autoencoder(SHARED_WEIGHTS)
    assert loaded.identity.kind == "taef2"
    assert loaded.module.config == TAEF2
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert loaded.module.decode(loaded.module.encode(picture)).shape == picture.shape
    halves = {
        half: torch.load(SHARED_WEIGHTS / f"taef2_{half}.pth", weights_only=True)
        for half in ("encoder", "decoder")
    }
    whole = {f"{half}.{name}": tensor for half, state in halves.items() for name, tensor in state.items()}
    save_file(whole, tmp_path / "one.safetensors")
    assert load_autoencoder(tmp_path / "one.safetensors").identity.fingerprint == loaded.identity.fingerprint


def test_unets_say_which_weights_were_taken(tmp_path: Path) -> None:
    plain, averaged = (random_network(lambda: UNet(UNET), seed).state_dict() for seed in (1, 2))
    rules, prefix = key_tables.unet_ldm(plain), "model.diffusion_model."
    state = in_layout(plain, rules, prefix)
    save_file(state, tmp_path / "plain.safetensors")
    both = with_averages(state, in_layout(averaged, rules, prefix))
    save_file(both, tmp_path / "both.safetensors")
    found = load_unet(tmp_path / "both.safetensors", config=UNET)
    assert equal(found.module.state_dict(), averaged)
    assert "UNet: the averages" in found.detected.reasons
    assert "EMA (model_ema holds averages" in describe(found.detected)
    assert "UNet (the averages)" in describe(found.detected)
    found = load_unet(tmp_path / "both.safetensors", config=UNET, averages=False)
    assert equal(found.module.state_dict(), plain)
    assert "UNet (the plain weights, not the averages)" in describe(found.detected)
    found = load_unet(tmp_path / "plain.safetensors", config=UNET)
    assert equal(found.module.state_dict(), plain)
    assert "UNet (the only weights that the file has)" in describe(found.detected)
    with pytest.raises(InvalidWeights, match="no averaged weights"):
        load_unet(tmp_path / "plain.safetensors", config=UNET, averages=True)
    gone = "model_ema.diffusion_modelout2weight"
    part = {name: tensor for name, tensor in both.items() if name != gone} | {"model_ema.x": torch.ones(1)}
    save_file(part, tmp_path / "part.safetensors")
    with pytest.raises(InvalidWeights, match=r"1 unexpected: model_ema\.x: they belong to none of .*unet"):
        load_unet(tmp_path / "part.safetensors", config=UNET)
    del part["model_ema.x"]
    save_file(part, tmp_path / "part.safetensors")
    with pytest.raises(InvalidWeights, match=r"1 missing: out\.2\.weight"):
        load_unet(tmp_path / "part.safetensors", config=UNET)


def test_text_encoder_and_depth(tmp_path: Path) -> None:
    text = random_network(lambda: TextEncoder(TEXT)).state_dict()
    ids = torch.arange(77)[None]
    layouts = {
        "bare": text | {"embeddings.position_ids": ids},
        "hf": {f"text_model.{k}": v for k, v in text.items()} | {"text_model.embeddings.position_ids": ids},
        "open_clip": in_layout(text, key_tables.text_encoder_open_clip(text))
        | {"logit_scale": torch.ones(())},
    }
    for name, state in layouts.items():
        save_file(state, tmp_path / f"{name}.safetensors")
        loaded = load_text_encoder(tmp_path / f"{name}.safetensors", config=TEXT)
        assert equal(loaded.module.state_dict(), text), name
    depth = random_network(lambda: DepthEstimator(DEPTH)).state_dict()
    save_file(depth, tmp_path / "dpt.safetensors")
    head = {"pretrained.model.head.weight": torch.ones(2)}
    save_file(in_layout(depth, key_tables.depth_midas(depth)) | head, tmp_path / "midas.safetensors")
    for name in ("dpt", "midas"):
        loaded_depth = load_depth(tmp_path / f"{name}.safetensors", config=DEPTH)
        assert equal(loaded_depth.module.state_dict(), depth), name


def test_everything_wrong_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    drop = tuple(f"{side}.weight" for side in (*DECODER, *ENCODER, "decoder.norm_out", "encoder.norm_out"))
    odd = {"decoder.conv_in.bias": torch.ones(5), "strange": torch.ones(1), "encoder.more": torch.ones(1)}
    vae_file(path, odd, (*drop, "quant_conv.bias"))
    with pytest.raises(InvalidWeights) as caught:
        load_autoencoder(path, config=VAE)
    message = str(caught.value)
    assert message.startswith(f"{path}: these are not the weights of the autoencoder")
    assert "24 missing: decoder.norm_out.weight, decoder.up.0.block.0.conv1.weight, " in message
    assert " and 4 more; 2 unexpected: encoder.more, strange; 1 of another shape: " in message
    assert "decoder.conv_in.bias is 5, decoder.conv_in.bias of the network 16" in message


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    """Of a path they are looked for when it is loaded; the store did so when it was added."""
    path = tmp_path / "tiny.safetensors"
    state = random_network(lambda: TinyAutoencoder(TAESD)).state_dict()
    state["encoder.14.bias"][1] = float("nan")
    save_file(state, path)
    with pytest.raises(InvalidWeights, match=rf"{path}: encoder\.14\.bias: 1 of its 4 values are no finite"):
        load_autoencoder(path)


def test_squeezing_only_where_the_rule_says_so(tmp_path: Path) -> None:
    """A 1x1 convolution is taken for a matrix in the attention, and nowhere else."""
    for name, shape in (("quant_conv.weight", (8, 8)), ("decoder.mid.attn_1.q.weight", (16, 16, 3, 3))):
        vae_file(tmp_path / "vae.safetensors", {name: torch.ones(shape)})
        with pytest.raises(InvalidWeights, match="1 of another shape"):
            load_autoencoder(tmp_path / "vae.safetensors", config=VAE)
    vae_file(tmp_path / "vae.safetensors", {"decoder.mid.attn_1.q.weight": torch.ones(16, 16, 1)})
    load_autoencoder(tmp_path / "vae.safetensors", config=VAE)


def test_mislabelled_models(tmp_path: Path) -> None:
    """One kind of network given as another, and a kind that is not the file's."""
    vae_file(tmp_path / "vae.safetensors")
    with pytest.raises(UnknownModel, match="holds no unet, only autoencoder"):
        load_unet(tmp_path / "vae.safetensors")
    unet = random_network(lambda: UNet(UNET)).state_dict()
    save_file(unet, tmp_path / "unet.safetensors")
    with pytest.raises(UnknownModel, match="holds no autoencoder, only unet"):
        load_autoencoder(tmp_path / "unet.safetensors")
    with pytest.raises(
        InvalidWeights, match="4 input channels, 16 wide, context 8, which no known family has"
    ):
        load_unet(tmp_path / "unet.safetensors")
    with pytest.raises(InvalidWeights, match="not the weights of the UNet of sd1"):
        load_unet(tmp_path / "unet.safetensors", family="sd1")
    with pytest.raises(InvalidWeights, match="3 levels, 8 wide"):
        load_autoencoder(tmp_path / "vae.safetensors")
    with pytest.raises(InvalidWeights, match="not the weights of the autoencoder kl-x4"):
        load_autoencoder(tmp_path / "vae.safetensors", kind="kl-x4")
    with pytest.raises(InvalidArgument, match="kind 'x'"):
        load_autoencoder(tmp_path / "vae.safetensors", kind="x")
    with pytest.raises(UnknownModel, match="no such file"):
        load_autoencoder(tmp_path / "nothing.safetensors")
    with pytest.raises(UnknownModel, match="latentcodec models fetch taesd"):
        load_autoencoder("taesd")
