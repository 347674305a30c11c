"""Clean-up through the public API: a toy diffusion model in a store, and files that name it or do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import latentcodec
from latentcodec import CleanupSettings
from latentcodec.codec.api import Codec
from latentcodec.codec.cleanup import unet as cleanup_unet
from latentcodec.codec.cleanup.file import CleanupWarning
from latentcodec.codec.cleanup.unet import open_unet
from latentcodec.codec.info import info
from latentcodec.container.cleanup import CleanupChunk
from latentcodec.container.file import Chunk, File, pack, read_chunks, unpack, write_chunks
from latentcodec.container.salvage import salvage
from latentcodec.errors import (
    InvalidArgument,
    InvalidWeights,
    LatentCodecError,
    MalformedFile,
    TruncatedFile,
    UnknownModel,
    WeightsMismatch,
)
from latentcodec.nn.device import full_precision
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoder
from latentcodec.nn.stable_diffusion.unet import UNetConfig
from latentcodec.weights.checkpoints.families import FAMILIES
from latentcodec.weights.intake import add
from latentcodec.weights.store import models_folder
from tests.conftest import photograph
from tests.toy_autoencoder import save_pair
from tests.toy_diffusion import TEXT, UNET, know_toys, save_model
from tests.weights.made_checkpoints import random_network

CPU = torch.device("cpu")
PIXELS = photograph(width=64, height=48)
ANY = 1000.0  # dB: a limit that lets a random network through
WITHOUT_TEXT = UNetConfig(
    channels=(16,), blocks=1, depth=(0,), middle_depth=0, heads=(1,), cross_only=(False,), context=0, groups=4
)


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are taken for Stable Diffusion 1.x."""
    know_toys(monkeypatch)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        know_toys(patch)
        return save_model(tmp_path_factory.mktemp("models") / "toy-sd")


@pytest.fixture(scope="module")
def data(model: Path) -> bytes:
    """A file with a clean-up that is full, whatever it does."""
    with pytest.MonkeyPatch.context() as patch:
        know_toys(patch)
        patch.setenv("LATENTCODEC_HOME", str(model.parent / "home"))
        data = Codec(model, "cpu", cleanup_settings=asking(model, limit=ANY)).encode(PIXELS, quality=30)
    assert stored(data).amounts == (2,)
    return data


def asking(unet: Path, **fields: Any) -> CleanupSettings:
    return CleanupSettings(unet=unet, **fields)


def stored(data: bytes) -> CleanupChunk:
    chunk = CleanupChunk.unpack(unpack(data).cleanup or b"")
    assert chunk is not None
    return chunk


def changed(data: bytes, **fields: object) -> bytes:
    return pack(replace(unpack(data), cleanup=replace(stored(data), **fields).pack()))  # type: ignore[arg-type]


def shown(codec: Codec, data: bytes, cleanup: float = 0.0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(codec.decode(data, cleanup=cleanup))


# Which UNet.


def test_a_model_in_the_store_is_found_by_name_and_by_fingerprint(
    model: Path, data: bytes, codec: Codec
) -> None:
    add(model, "toy-sd")
    plain, cleaned = shown(codec, data), shown(codec, data, 1)
    assert (plain != cleaned).any()
    assert (shown(Codec("toy-sd", "cpu"), data, 1) == cleaned).all()
    assert (shown(Codec(model, "cpu", cleanup_settings=asking(model)), data, 1) == cleaned).all()
    assert (shown(codec, changed(data, name="another"), 1) == cleaned).all()
    assert (shown(codec, data, 0) == plain).all()
    assert (np.asarray(latentcodec.decode(data, device="cpu", cleanup=1.0)) == cleaned).all()


def test_a_missing_unet_is_named_with_the_way_out(model: Path, data: bytes) -> None:
    reader = Codec(model, "cpu")  # a path: its autoencoder is known, its UNet is not
    with pytest.raises(UnknownModel, match=r"UNet toy-sd \(fingerprint .*models add .*--cleanup-unet"):
        reader.decode(data, cleanup=1)
    assert reader.decode(data).size == (64, 48)


def test_other_weights_are_told(model: Path, data: bytes, tmp_path: Path) -> None:
    add(save_model(tmp_path / "other", 2), "toy-sd")
    with pytest.raises(WeightsMismatch, match=r"needs the UNet toy-sd .*toy-sd here has fingerprint"):
        Codec(model, "cpu").decode(data, cleanup=1)
    with pytest.raises(WeightsMismatch, match="other here has fingerprint"):
        Codec(model, "cpu", cleanup_settings=asking(tmp_path / "other")).decode(
            changed(data, name="gone"), cleanup=1
        )


def test_a_damaged_one_is_told(model: Path, data: bytes) -> None:
    path = add(model, "toy-sd").path / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InvalidWeights):
        Codec(model, "cpu").decode(data, cleanup=1)
    with pytest.raises(UnknownModel):  # not this file's, as far as one can tell
        Codec(model, "cpu").decode(changed(data, name="gone"), cleanup=1)


def test_the_name_in_a_file_is_no_path(model: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    with pytest.raises(UnknownModel):
        Codec(model, "cpu").decode(data, cleanup=1)
    assert not models_folder().exists()


def test_no_unet_is_opened_where_every_tile_is_off(
    model: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(cleanup_unet, "load_unet")
    reader = Codec(model, "cpu")
    assert (shown(reader, changed(data, amounts=(0,)), 1) == shown(reader, data)).all()


def test_the_unet_stays_loaded(model: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    add(model, "toy-sd")
    reader = Codec(model, "cpu")
    first = shown(reader, data, 1)
    monkeypatch.delattr(cleanup_unet, "load_unet")
    assert (shown(reader, data, 1) == first).all()


# The prompt.


def test_the_prompt_is_read_by_the_models_own_text_encoder(model: Path) -> None:
    unet = open_unet(model, CPU)
    encoder = random_network(lambda: TextEncoder(TEXT), 1)
    for prompt in ((), (320, 1125)):
        ids = [49406, *prompt, 49407]
        with full_precision(CPU):
            wanted = encoder(torch.tensor([ids + [49407] * (77 - len(ids))])).last
        assert torch.allclose(unet._condition(prompt).context, wanted, atol=1e-6)


def test_the_prompt_is_stored_and_changes_the_picture(model: Path, data: bytes) -> None:
    asked = Codec(model, "cpu", cleanup_settings=asking(model, limit=ANY, prompt="a photo", seed=9))
    with_prompt = asked.encode(PIXELS, quality=30)
    assert stored(with_prompt).prompt == (320, 1125)
    assert stored(with_prompt).seed == 9
    cleanup = info(with_prompt).cleanup
    assert cleanup is not None
    assert (cleanup.prompt, cleanup.seed, cleanup.full) == (2, 9, 1)
    assert (shown(asked, with_prompt, 1) != shown(asked, changed(with_prompt, prompt=()), 1)).any()


def test_a_model_without_its_text_encoder(tmp_path: Path) -> None:
    lone = save_model(tmp_path / "lone", text=False)
    with pytest.raises(UnknownModel, match="text encoder beside the UNet"):
        Codec(lone, "cpu", cleanup_settings=asking(lone)).encode(PIXELS)


def test_a_unet_without_attention_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know_toys(monkeypatch, WITHOUT_TEXT)
    model = save_model(tmp_path / "textless", unet=WITHOUT_TEXT, text=False)
    codec = Codec(model, "cpu", cleanup_settings=asking(model, limit=ANY))
    data = codec.encode(PIXELS)
    assert (shown(codec, data, 1) != shown(codec, data)).any()


def test_the_two_encoders_of_an_xl_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(UNET, context=16, added=8 + 6 * 256)
    know_toys(monkeypatch, config)
    second = replace(TEXT, quick_gelu=False, projection=8)
    monkeypatch.setitem(FAMILIES, "sd1", replace(FAMILIES["sd1"], text_encoder_2=second))
    model = save_model(tmp_path / "xl", unet=config, second=second)
    codec = Codec(model, "cpu", cleanup_settings=asking(model, limit=ANY))
    data = codec.encode(PIXELS)
    assert (shown(codec, data, 1) == shown(codec, data, 1)).all()
    condition = open_unet(model, CPU)._condition(())
    assert condition.context.shape == (1, 77, 16)
    assert condition.pooled is not None
    assert condition.pooled.shape == (1, 8)


# Files without a chunk, and other files.


def test_a_file_that_stores_none(model: Path, data: bytes) -> None:
    plain = pack(replace(unpack(data), cleanup=None))
    assert plain == Codec(model, "cpu").encode(PIXELS, quality=30)
    assert info(plain).cleanup is None
    with pytest.raises(InvalidArgument, match=r"stores no clean-up .* no UNet is named"):
        Codec(model, "cpu").decode(plain, cleanup=1)
    reader = Codec(model, "cpu", cleanup_settings=asking(model))
    with pytest.warns(CleanupWarning, match="quantiser's steps"):
        cleaned = shown(reader, plain, 1)
    assert (cleaned != shown(reader, plain)).any()


def test_a_palette(model: Path) -> None:
    palette = Codec(model, "cpu").encode(PIXELS, quantiser="palette")
    with pytest.raises(InvalidArgument, match="the palette has no steps"):
        Codec(model, "cpu", cleanup_settings=asking(model)).decode(palette, cleanup=1)
    asked = Codec(model, "cpu", cleanup_settings=asking(model, limit=ANY, preset="seed-2022"))
    data = asked.encode(PIXELS, quantiser="palette")
    assert stored(data).steps.as_floats() == (66, 0.04, 0.9)
    assert (shown(asked, data, 1) != shown(asked, data)).any()


def test_the_native_model_has_none(model: Path, codec: Codec) -> None:
    with pytest.raises(InvalidArgument, match="toy-sd: for autoencoders only"):
        Codec("native", "cpu", cleanup_settings=asking(model)).encode(PIXELS)
    with pytest.raises(InvalidArgument, match="the file was not made with an autoencoder"):
        codec.decode(codec.encode(PIXELS), cleanup=1)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), True, "1"])
def test_strengths_there_are_none_of(codec: Codec, data: bytes, strength: float) -> None:
    with pytest.raises(InvalidArgument, match="cleanup"):
        codec.decode(data, cleanup=strength)


def test_channels_that_do_not_fit(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(UNET, inputs=9)
    know_toys(monkeypatch, config)
    inpainting = save_model(tmp_path / "inpainting", unet=config)
    with pytest.raises(InvalidArgument, match="takes 9 channels and gives 4, the latents of toy-sd have 4"):
        Codec(model, "cpu", cleanup_settings=asking(inpainting)).encode(PIXELS)


# Sizes, targets and files.


def test_targets_count_the_chunk_and_the_goal_is_kept(model: Path) -> None:
    codec = Codec(model, "cpu", cleanup_settings=asking(model, limit=ANY))
    size = len(codec.encode(PIXELS, quality=50))
    assert size * 0.97 <= len(codec.encode(PIXELS, target_size=size)) <= size
    low = Codec(model, "cpu").encode(PIXELS, quality=0)
    reached = 10 * np.log10(
        255**2 / np.mean((np.asarray(Codec(model, "cpu").decode(low)) - PIXELS.astype(float)) ** 2)
    )
    data = codec.encode(PIXELS, min_psnr=float(reached) - 1)
    assert unpack(data).goal is not None
    assert stored(data).amounts == (2,)


def test_files_to_files(model: Path, tmp_path: Path) -> None:
    from PIL import Image

    source, packed, out = tmp_path / "in.png", tmp_path / "a.lci", tmp_path / "out.png"
    Image.fromarray(PIXELS).save(source)
    latentcodec.compress(source, packed, model=model, device="cpu", cleanup_settings=asking(model, limit=ANY))
    latentcodec.decompress(
        packed, out, model=model, device="cpu", cleanup=1.0, cleanup_settings=asking(model)
    )
    with Image.open(out) as image:
        wanted = Codec(model, "cpu", cleanup_settings=asking(model)).decode(packed.read_bytes(), cleanup=1)
        assert (np.asarray(image) == np.asarray(wanted)).all()
    assert latentcodec.encode(
        PIXELS, model=model, device="cpu", cleanup_settings=asking(model)
    ) != latentcodec.encode(PIXELS, model=model, device="cpu")


# Damage.


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::latentcodec.codec.cleanup.file.CleanupWarning")
def test_flipped_bits_in_the_chunk_are_errors_or_other_pictures(model: Path, data: bytes) -> None:
    reader = Codec(model, "cpu", cleanup_settings=asking(model))
    chunks, rng = read_chunks(data), np.random.default_rng(1)
    assert chunks[-1].type == "d"
    for _ in range(25):
        payload = bytearray(chunks[-1].payload)
        payload[rng.integers(len(payload))] ^= 1 << rng.integers(8)
        broken = write_chunks([*chunks[:-1], Chunk("d", bytes(payload))])
        assert reader.decode(broken).size == (64, 48)  # who does not clean up does not mind
        try:
            assert reader.decode(broken, cleanup=1).size == (64, 48)
        except LatentCodecError:
            continue


def test_a_chunk_of_another_size_of_picture(model: Path, data: bytes) -> None:
    reader = Codec(model, "cpu", cleanup_settings=asking(model))
    with pytest.raises(MalformedFile, match="2 tiles, the picture has 4 and 1"):
        reader.decode(changed(data, amounts=(2, 2)), cleanup=1)
    with pytest.raises(MalformedFile, match="3 channels"):
        reader.decode(changed(data, errors=(1, 2, 3)), cleanup=1)


def test_the_order_and_the_number_of_chunks(data: bytes) -> None:
    chunks = read_chunks(data)
    with pytest.raises(MalformedFile, match="repeated or out of order"):
        unpack(write_chunks([*chunks, chunks[-1]]))
    with pytest.raises(MalformedFile, match="repeated or out of order"):
        unpack(write_chunks([*chunks[:-2], chunks[-1], chunks[-2]]))


def test_a_file_without_its_tile_shows_nothing(model: Path, data: bytes) -> None:
    reader = Codec(model, "cpu", cleanup_settings=asking(model))
    file, report = salvage(data)
    assert report.intact
    assert file.cleanup == unpack(data).cleanup
    tile = next(chunk for chunk in read_chunks(data) if chunk.type == "T")
    lost = write_chunks([chunk for chunk in read_chunks(data) if chunk is not tile and chunk.type != "T"])
    with pytest.raises(TruncatedFile, match=r"none of the 1 tile\(s\) is left"):
        reader.decode(lost, partial=True, cleanup=1)
    assert isinstance(file, File)


def test_taesd_shares_the_latents_of_its_model(model: Path, tmp_path: Path) -> None:
    pair = save_pair(tmp_path / "taesd", 1)
    codec = Codec(pair, "cpu", cleanup_settings=asking(model, limit=ANY))
    data = codec.encode(PIXELS)
    assert stored(data).amounts == (2,)
    assert (shown(codec, data, 1) != shown(codec, data)).any()
