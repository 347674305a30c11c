"""LoRAs: the arithmetic by hand, layouts, what is refused. tests/parity compares with diffusers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from latentcodec.errors import InvalidArgument, InvalidWeights, UnknownModel
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoder
from latentcodec.nn.stable_diffusion.unet import UNet
from latentcodec.weights.lora import merge_lora, read_lora
from tests.toy_diffusion import TEXT as TEXT_CONFIG
from tests.toy_diffusion import UNET
from tests.weights.made_checkpoints import random_network
from tests.weights.made_loras import ATTENTION, TEXT, State, kohya, ldm_names, matrices, peft

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"  # 16x8 here
KOHYA = "lora_unet_" + LAYER.replace(".", "_")


@pytest.fixture
def unet() -> UNet:
    return random_network(lambda: UNet(UNET))


@pytest.fixture
def text_encoder() -> TextEncoder:
    return random_network(lambda: TextEncoder(TEXT_CONFIG))


def saved(state: State, file: Path, metadata: dict[str, str] | None = None) -> Path:
    save_file({key: tensor.clone() for key, tensor in state.items()}, file, metadata)
    return file


def one(rank: int = 2, **others: Tensor) -> State:
    state = {
        f"{KOHYA}.lora_down.weight": torch.ones(rank, 8),
        f"{KOHYA}.lora_up.weight": torch.full((16, rank), 0.5),
    }
    return state | {f"{KOHYA}.{name}": tensor for name, tensor in others.items()}


def changes(unet: UNet, before: State) -> dict[str, Tensor]:
    state = unet.state_dict()
    return {key: state[key] - before[key] for key in state if not torch.equal(state[key], before[key])}


@pytest.mark.parametrize(
    ("others", "weight", "expected"),
    [
        ({}, 1.0, 1.0),  # two ranks of 0.5 x 1
        ({}, -0.25, -0.25),
        ({"alpha": torch.tensor(1.0)}, 1.0, 0.5),
        ({"alpha": torch.tensor([8.0])}, 0.5, 2.0),
        ({"alpha": torch.tensor(4)}, 1.0, 2.0),
    ],
)
def test_the_sum_by_hand(tmp_path: Path, unet: UNet, others: State, weight: float, expected: float) -> None:
    before = dict(unet.state_dict())
    merge_lora(read_lora(saved(one(**others), tmp_path / "a.safetensors")), weight, unet=unet)
    ((name, difference),) = changes(unet, before).items()
    assert name == f"{LAYER}.weight"
    torch.testing.assert_close(difference, torch.full((16, 8), expected))


def test_a_weight_of_nothing_changes_nothing(tmp_path: Path, unet: UNet) -> None:
    before = dict(unet.state_dict())
    merge_lora(read_lora(saved(one(), tmp_path / "a.safetensors")), 0.0, unet=unet)
    assert changes(unet, before) == {}


def test_old_tensors_stay_as_they_were(tmp_path: Path, unet: UNet) -> None:
    """They may be views of a file."""
    old = unet.get_parameter(f"{LAYER}.weight").data
    copy = old.clone()
    merge_lora(read_lora(saved(one(), tmp_path / "a.safetensors")), unet=unet)
    assert torch.equal(old, copy)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(tmp_path: Path, unet: UNet, dtype: torch.dtype) -> None:
    lora = read_lora(saved(kohya(matrices(unet, ATTENTION), "lora_unet_"), tmp_path / "a.safetensors"))
    half = unet.to(dtype)
    single = random_network(lambda: UNet(UNET))
    single.load_state_dict(half.state_dict())
    for network in (half, single):
        merge_lora(lora, 0.6, unet=network)
    found, expected = half.state_dict(), single.state_dict()
    assert all(torch.equal(found[key], expected[key].to(dtype)) for key in found)


def test_every_spelling_means_the_same(tmp_path: Path, text_encoder: TextEncoder) -> None:
    unet = random_network(lambda: UNet(UNET))
    unet_changes, text_changes = matrices(unet, ATTENTION), matrices(text_encoder, TEXT)
    inside = {f"text_model.{name}": pair for name, pair in text_changes.items()}
    spellings: list[State] = [
        kohya(unet_changes, "lora_unet_", 3.0) | kohya(inside, "lora_te_", 3.0),
        kohya(ldm_names(unet_changes, unet), "lora_unet_", None) | kohya(inside, "lora_te1_", None),
        # both names of every layer: the change is merged once
        kohya(unet_changes, "lora_unet_", 3.0)
        | kohya(ldm_names(unet_changes, unet), "lora_unet_", 3.0)
        | kohya(inside, "lora_te1_", None),
        peft(unet_changes, "unet.") | peft(inside, "text_encoder."),
        peft(unet_changes, "base_model.model.") | peft(text_changes, "text_encoder."),
        peft(ldm_names(unet_changes, unet), "diffusion_model.") | peft(text_changes, "text_encoder."),
    ]
    results = []
    for index, state in enumerate(spellings):
        networks = random_network(lambda: UNet(UNET)), random_network(lambda: TextEncoder(TEXT_CONFIG))
        lora = read_lora(saved(state, tmp_path / f"{index}.safetensors"))
        merge_lora(lora, unet=networks[0], text_encoder=networks[1])
        results.append({**networks[0].state_dict(), **networks[1].state_dict()})
    for result in results[1:]:
        assert all(torch.equal(result[key], results[0][key]) for key in results[0])
    assert not torch.equal(results[0][f"{LAYER}.weight"], unet.state_dict()[f"{LAYER}.weight"])


def test_a_pickle_is_read_too(tmp_path: Path, unet: UNet) -> None:
    torch.save(one(), tmp_path / "a.pt")
    merge_lora(read_lora(tmp_path / "a.pt"), unet=unet)


def test_pefts_folder_states_its_alpha(tmp_path: Path, unet: UNet) -> None:
    down, up = torch.ones(2, 8), torch.full((16, 2), 0.5)
    saved(peft({LAYER: (down, up)}, "base_model.model."), tmp_path / "adapter_model.safetensors")
    for settings, expected in (
        ({"lora_alpha": 4}, 2.0),
        ({"lora_alpha": 4, "alpha_pattern": {"attn2.to_k": 1}}, 0.5),
        ({"lora_alpha": 4, "use_rslora": True}, 4 / 2**0.5),
        ({}, 1.0),
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
        fresh = random_network(lambda: UNet(UNET))
        merge_lora(read_lora(tmp_path), unet=fresh)
        difference = fresh.state_dict()[f"{LAYER}.weight"] - unet.state_dict()[f"{LAYER}.weight"]
        torch.testing.assert_close(difference, torch.full((16, 8), expected))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (f"{KOHYA}.lora_mid.weight", "a LoCon with a Tucker core"),
        (f"{KOHYA}.hada_w1_a", "a LoHa"),
        (f"{KOHYA}.lokr_w1", "a LoKr"),
        (f"{KOHYA}.dora_scale", "a DoRA"),
        (f"unet.{LAYER}.lora_magnitude_vector", "a DoRA"),
        (f"{KOHYA}.diff", "one of full differences"),
        (f"unet.{LAYER}.lora_B.bias", "one that changes biases"),
        ("bundle_emb.cat.string_to_param.*", "one with new words"),
    ],
)
def test_other_kinds_are_named(tmp_path: Path, key: str, kind: str) -> None:
    file = saved(one() | {key: torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InvalidWeights, match=rf"other.safetensors: this is no plain LoRA but {kind}"):
        read_lora(file)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"a.weight": torch.ones(1)}, "holds no LoRA: 1 unknown: a.weight"),
        (one() | {"a.weight": torch.ones(1)}, "has also other tensors: 1 unknown: a.weight"),
        ({f"{KOHYA}.lora_up.weight": torch.ones(16, 2)}, "has no down matrix"),
        (one() | {f"{KOHYA}.lora_up.weight": torch.ones(16, 3)}, "2x8 and 16x3, which have no product"),
        (one(0), "which have no product"),
        (one(alpha=torch.ones(3)), "alpha is 3, expected a finite number"),
        (one(alpha=torch.tensor(float("nan"))), "expected a finite number"),
        (one() | {"lora_unet_x.alpha": torch.ones(1)}, "1 alpha without matrices: lora_unet_x"),
        (one() | {f"{KOHYA}.lora_up.weight": torch.full((16, 2), torch.inf)}, "no finite numbers"),
        (one() | {f"{KOHYA}.lora_up.weight": torch.ones(16, 2).to(torch.int8)}, "quantised"),
    ],
)
def test_damage_is_named(tmp_path: Path, state: State, why: str) -> None:
    with pytest.raises(InvalidWeights, match=why):
        read_lora(saved(state, tmp_path / "a.safetensors"))


def test_no_file_and_no_lora_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="no such file"):
        read_lora(tmp_path / "none.safetensors")
    with pytest.raises(UnknownModel, match="holds neither pytorch_lora_weights"):
        read_lora(tmp_path)


@pytest.mark.parametrize(
    "settings", ["{", "[1]", '{"unet.lora_alpha": "a"}', '{"unet.lora_alpha": Infinity}']
)
def test_settings_that_make_no_sense(tmp_path: Path, settings: str) -> None:
    state = peft({LAYER: (torch.ones(2, 8), torch.ones(16, 2))}, "unet.")
    file = saved(state, tmp_path / "a.safetensors", {"lora_adapter_metadata": settings})
    with pytest.raises(InvalidWeights, match="its settings"):
        read_lora(file)


def test_a_lora_of_another_family_changes_nothing(tmp_path: Path, unet: UNet) -> None:
    wide = random_network(lambda: UNet(replace(UNET, context=2048)))
    lora = read_lora(saved(kohya(matrices(wide, ATTENTION), "lora_unet_"), tmp_path / "xl.safetensors"))
    before = dict(unet.state_dict())
    message = (
        r"xl.safetensors: a LoRA for another family \(Stable Diffusion XL, base or Turbo\): "
        r"lora_unet_down_blocks_0_\w+_to_[kv] changes a layer of 16x2048, which is 16x8 in this model"
    )
    with pytest.raises(InvalidWeights, match=message):
        merge_lora(lora, unet=unet)
    assert changes(unet, before) == {}


def test_layers_that_the_model_has_not(tmp_path: Path, unet: UNet, text_encoder: TextEncoder) -> None:
    deep = random_network(lambda: UNet(replace(UNET, depth=(2, 1))))
    lora = read_lora(saved(kohya(matrices(deep, ATTENTION), "lora_unet_"), tmp_path / "a.safetensors"))
    with pytest.raises(InvalidWeights, match=r"of its 114 layers 66 are not in this model, such as lora"):
        merge_lora(lora, unet=unet)
    second = kohya(matrices(text_encoder, TEXT), "lora_te2_")
    with pytest.raises(InvalidWeights, match="of its 6 layers 6 are not in this model"):
        merge_lora(read_lora(saved(second, tmp_path / "b.safetensors")), unet=unet, text_encoder=text_encoder)


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_weights_are_finite(tmp_path: Path, unet: UNet, weight: float) -> None:
    with pytest.raises(InvalidArgument, match="expected a finite number"):
        merge_lora(read_lora(saved(one(), tmp_path / "a.safetensors")), weight, unet=unet)
