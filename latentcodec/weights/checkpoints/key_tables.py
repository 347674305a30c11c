"""The layouts' names, as data: which tensor of a file is which tensor of a network.

    diffusers       our own names, with few exceptions
    ldm             CompVis's and Stability's checkpoints: input_blocks.4.1 is down_blocks.1.attentions.0
    open_clip, midas   the text encoders and the depth network inside of them
    taesd           the published encoder and decoder files; ours
    UNUSED          what whole models' files hold besides networks

Each function reads sizes off the network's own names, so that one table serves every size.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from latentcodec.weights.checkpoints.key_rules import KEY, MATRIX, QUERY, TRANSPOSE, VALUE, Block, KeyRules

# 1x1 convolutions in some models of the family, linear layers in others; diffusers converts them, ldm keeps.
_PROJECTIONS = ((r".*\.attentions\.\d+\.proj_(in|out)\.weight", MATRIX),)
_VAE_ATTENTION = ((r".*\.attentions\.0\.to_(q|k|v|out\.0)\.weight", MATRIX),)

UNET_DIFFUSERS = KeyRules("diffusers", changes=_PROJECTIONS)
# Before diffusers 0.15 the autoencoder's attention had other names.
AUTOENCODER_DIFFUSERS = KeyRules("diffusers", changes=_VAE_ATTENTION)
_OLD_ATTENTION = (("to_q.", "query."), ("to_k.", "key."), ("to_v.", "value."), ("to_out.0.", "proj_attn."))
AUTOENCODER_DIFFUSERS_OLD = KeyRules(
    "old diffusers",
    (
        Block("", ""),
        *(
            Block(f"{side}.mid_block.attentions.0.", f"{side}.mid_block.attentions.0.", _OLD_ATTENTION)
            for side in ("encoder", "decoder")
        ),
    ),
    _VAE_ATTENTION,
)
# position_ids: 0 to 76, a buffer of older versions of transformers. text_projection: ComfyUI saves it for SD
# 1.x and SDXL's first text encoder too, which have none.
_UNUSED_PROJECTION = r"text_projection\.weight"
TEXT_ENCODER_TRANSFORMERS = KeyRules(
    "transformers",
    (Block("", "text_model."), Block("text_projection.", "text_projection.")),
    ignored=(r"text_model\.embeddings\.position_ids", _UNUSED_PROJECTION),
)
TEXT_ENCODER_BARE = KeyRules("transformers", ignored=(r"embeddings\.position_ids", _UNUSED_PROJECTION))
DEPTH_TRANSFORMERS = KeyRules("transformers", ignored=(r"dpt\.pooler\..*",))
TAESD = KeyRules("taesd")

# Patterns of the names in whole models' files that belong to no network; all others there are errors. What is
# under a network's own prefix (loss.* of autoencoders, logit_scale of open_clip ...) its own rules decide.
UNUSED = (
    # The noise schedule: buffers of CompVis's ddpm.py, register_schedule. The x4 upscaler's low_scale_model,
    # the noise on its small picture (Stability's upscaling.py), has one of its own and no network.
    r"(low_scale_model\.)?(betas|alphas_cumprod|alphas_cumprod_prev)",
    r"(low_scale_model\.)?(sqrt|log|sqrt_recip|sqrt_recipm1)_(one_minus_)?alphas_cumprod",
    r"(low_scale_model\.)?posterior_(variance|log_variance_clipped|mean_coef1|mean_coef2)",
    # Weights of the training loss, and the scale where it was measured (scale_by_std): ddpm.py too.
    r"logvar|lvlb_weights|scale_factor",
    # SDXL's schedule: generative-models' DiscreteDenoiser.
    r"denoiser\.sigmas",
    # Counters of the averages: CompVis's ema.py, LitEma.
    r"model_ema\.(decay|num_updates)",
    # CLIP's training temperature, and its projection where the text encoder does not use it: ComfyUI and
    # tools that merge models save them beside the text encoders.
    r"cond_stage_model\.(logit_scale|text_projection)",
    r"conditioner\.embedders\.[01]\.(logit_scale|text_projection)",
    # Marks without content, set by the community's trainers: what the UNet predicts (see detect), and a
    # schedule that ends in pure noise.
    r"(state_dict\.)?v_pred|ztsnr",
)


def unet_ldm(names: Collection[str]) -> KeyRules:
    """CompVis's openaimodel.py: blocks numbered through; a level is `blocks` of them and a downsampling."""
    resnet = (
        ("norm1.", "in_layers.0."),
        ("conv1.", "in_layers.2."),
        ("time_emb_proj.", "emb_layers.1."),
        ("norm2.", "out_layers.0."),
        ("conv2.", "out_layers.3."),
        ("conv_shortcut.", "skip_connection."),
    )
    blocks, levels = (
        _count(names, r"down_blocks\.0\.resnets\.(\d+)\."),
        _count(names, r"down_blocks\.(\d+)\."),
    )

    def table() -> Iterator[Block]:
        yield Block("conv_in.", "input_blocks.0.0.")
        yield Block("time_embedding.linear_1.", "time_embed.0.")
        yield Block("time_embedding.linear_2.", "time_embed.2.")
        yield Block("time_embedding.cond_proj.", "time_embed.cond_proj.")
        yield Block("class_embedding.", "label_emb.")
        yield Block("add_embedding.linear_1.", "label_emb.0.0.")
        yield Block("add_embedding.linear_2.", "label_emb.0.2.")
        for level in range(levels):
            for block in range(blocks):
                place = 1 + level * (blocks + 1) + block
                yield Block(f"down_blocks.{level}.resnets.{block}.", f"input_blocks.{place}.0.", resnet)
                yield Block(f"down_blocks.{level}.attentions.{block}.", f"input_blocks.{place}.1.")
            place = (level + 1) * (blocks + 1)
            yield Block(f"down_blocks.{level}.downsamplers.0.conv.", f"input_blocks.{place}.0.op.")
        yield Block("mid_block.resnets.0.", "middle_block.0.", resnet)
        yield Block("mid_block.attentions.0.", "middle_block.1.")
        yield Block("mid_block.resnets.1.", "middle_block.2.", resnet)
        for level in range(levels):
            for block in range(blocks + 1):
                place = level * (blocks + 1) + block
                yield Block(f"up_blocks.{level}.resnets.{block}.", f"output_blocks.{place}.0.", resnet)
                yield Block(f"up_blocks.{level}.attentions.{block}.", f"output_blocks.{place}.1.")
            place = level * (blocks + 1) + blocks
            attends = any(name.startswith(f"up_blocks.{level}.attentions.") for name in names)
            part = 2 if attends else 1  # the upsampling follows the attention, where there is one
            yield Block(f"up_blocks.{level}.upsamplers.0.conv.", f"output_blocks.{place}.{part}.conv.")
        yield Block("conv_norm_out.", "out.0.")
        yield Block("conv_out.", "out.2.")

    return KeyRules("ldm", tuple(table()), _PROJECTIONS)


def autoencoder_ldm(names: Collection[str]) -> KeyRules:
    """CompVis's model.py: the decoder's levels count from the picture, ours from the latent.

    The fine-tuned files (ft-EMA, ft-MSE) carry their training's discriminator and averages beside it.
    """
    resnet = (("conv_shortcut.", "nin_shortcut."),)
    attention = (
        ("group_norm.", "norm."),
        ("to_q.", "q."),
        ("to_k.", "k."),
        ("to_v.", "v."),
        ("to_out.0.", "proj_out."),
    )
    levels = _count(names, r"decoder\.up_blocks\.(\d+)\.")

    def table() -> Iterator[Block]:
        yield Block("quant_conv.", "quant_conv.")
        yield Block("post_quant_conv.", "post_quant_conv.")
        for side in ("encoder", "decoder"):
            yield Block(f"{side}.conv_in.", f"{side}.conv_in.")
            yield Block(f"{side}.mid_block.resnets.0.", f"{side}.mid.block_1.", resnet)
            yield Block(f"{side}.mid_block.attentions.0.", f"{side}.mid.attn_1.", attention)
            yield Block(f"{side}.mid_block.resnets.1.", f"{side}.mid.block_2.", resnet)
            yield Block(f"{side}.conv_norm_out.", f"{side}.norm_out.")
            yield Block(f"{side}.conv_out.", f"{side}.conv_out.")
        for level in range(levels):
            for block in range(_count(names, rf"encoder\.down_blocks\.{level}\.resnets\.(\d+)\.")):
                ours, theirs = f"encoder.down_blocks.{level}", f"encoder.down.{level}"
                yield Block(f"{ours}.resnets.{block}.", f"{theirs}.block.{block}.", resnet)
            yield Block(f"encoder.down_blocks.{level}.downsamplers.0.", f"encoder.down.{level}.downsample.")
            ours, theirs = f"decoder.up_blocks.{level}", f"decoder.up.{levels - 1 - level}"
            for block in range(_count(names, rf"decoder\.up_blocks\.{level}\.resnets\.(\d+)\.")):
                yield Block(f"{ours}.resnets.{block}.", f"{theirs}.block.{block}.", resnet)
            yield Block(f"{ours}.upsamplers.0.", f"{theirs}.upsample.")

    return KeyRules("ldm", tuple(table()), _VAE_ATTENTION, ignored=(r"loss\..*", r"model_ema\..*"))


def text_encoder_open_clip(names: Collection[str]) -> KeyRules:
    """open_clip's text tower: query, key and value in one matrix, the projection transposed.

    SD 2.x stops before the last layer, which its files hold all the same, with the projection; logit_scale
    and attn_mask serve training.
    """
    layer = (
        ("layer_norm1.", "ln_1."),
        ("layer_norm2.", "ln_2."),
        ("mlp.fc1.", "mlp.c_fc."),
        ("mlp.fc2.", "mlp.c_proj."),
        ("self_attn.out_proj.", "attn.out_proj."),
        *(
            (f"self_attn.{part}_proj.{tensor}", f"attn.in_proj_{tensor}")
            for part in "qkv"
            for tensor in ("weight", "bias")
        ),
    )
    layers = _count(names, r"encoder\.layers\.(\d+)\.")
    blocks = (
        Block("embeddings.token_embedding.", "token_embedding."),
        Block("embeddings.position_embedding.weight", "positional_embedding"),
        *(Block(f"encoder.layers.{i}.", f"transformer.resblocks.{i}.", layer) for i in range(layers)),
        Block("final_layer_norm.", "ln_final."),
        Block("text_projection.weight", "text_projection"),
    )
    thirds = (QUERY, KEY, VALUE)
    changes = (
        (r"text_projection\.weight", TRANSPOSE),
        *((rf".*\.self_attn\.{part}_proj\..*", third) for part, third in zip("qkv", thirds, strict=True)),
    )
    unused = (rf"transformer\.resblocks\.{layers}\..*", "text_projection", "logit_scale", "attn_mask")
    return KeyRules("open_clip", blocks, changes, unused)


def depth_midas(names: Collection[str]) -> KeyRules:
    """MiDaS's dpt_hybrid: a timm vision transformer over a ResNet; RefineNets from coarse to fine."""
    layer = (
        ("attention.attention.query.", "attn.qkv."),
        ("attention.attention.key.", "attn.qkv."),
        ("attention.attention.value.", "attn.qkv."),
        ("attention.output.dense.", "attn.proj."),
        ("intermediate.dense.", "mlp.fc1."),
        ("output.dense.", "mlp.fc2."),
        ("layernorm_before.", "norm1."),
        ("layernorm_after.", "norm2."),
    )
    fusion = (
        ("projection.", "out_conv."),
        *(
            (f"residual_layer{unit}.convolution{conv}.", f"resConfUnit{unit}.conv{conv}.")
            for unit in (1, 2)
            for conv in (1, 2)
        ),
    )
    vit, resnet = "pretrained.model.", "pretrained.model.patch_embed.backbone."
    stages = _count(names, r".*\.bit\.encoder\.stages\.(\d+)\.")

    def table() -> Iterator[Block]:
        yield Block("dpt.embeddings.cls_token", f"{vit}cls_token")
        yield Block("dpt.embeddings.position_embeddings", f"{vit}pos_embed")
        yield Block("dpt.embeddings.projection.", f"{vit}patch_embed.proj.")
        yield Block("dpt.embeddings.backbone.bit.embedder.convolution.", f"{resnet}stem.conv.")
        yield Block("dpt.embeddings.backbone.bit.embedder.norm.", f"{resnet}stem.norm.")
        for stage in range(stages):
            ours = f"dpt.embeddings.backbone.bit.encoder.stages.{stage}.layers."
            yield Block(ours, f"{resnet}stages.{stage}.blocks.")
        for i in range(_count(names, r"dpt\.encoder\.layer\.(\d+)\.")):
            yield Block(f"dpt.encoder.layer.{i}.", f"{vit}blocks.{i}.", layer)
        yield Block("dpt.layernorm.", f"{vit}norm.")
        for i in range(4):
            neck, theirs = "neck.reassemble_stage.", f"pretrained.act_postprocess{i + 1}."
            yield Block(f"{neck}readout_projects.{i}.0.", f"{theirs}0.project.0.")
            yield Block(f"{neck}layers.{i}.projection.", f"{theirs}3.")
            yield Block(f"{neck}layers.{i}.resize.", f"{theirs}4.")
            yield Block(f"neck.convs.{i}.", f"scratch.layer{i + 1}_rn.")
            yield Block(f"neck.fusion_stage.layers.{i}.", f"scratch.refinenet{4 - i}.", fusion)
        yield Block("head.head.", "scratch.output_conv.")

    changes = tuple(
        (rf".*\.attention\.attention\.{part}\..*", third)
        for part, third in (("query", QUERY), ("key", KEY), ("value", VALUE))
    )
    return KeyRules("midas", tuple(table()), changes, (r"pretrained\.model\.head\..*",))


def tiny_autoencoder_diffusers(names: Collection[str]) -> KeyRules:
    """diffusers' AutoencoderTiny: the decoder's list lacks the saturation that is its first layer here."""
    encoder, decoder = (_count(names, rf"{side}\.(\d+)\.") for side in ("encoder", "decoder"))
    return KeyRules(
        "diffusers",
        (
            *(Block(f"encoder.{i}.", f"encoder.layers.{i}.") for i in range(encoder)),
            *(Block(f"decoder.{i}.", f"decoder.layers.{i - 1}.") for i in range(1, decoder)),
        ),
    )


def _count(names: Collection[str], pattern: str) -> int:
    """One more than the largest number that the pattern captures at the beginning of a name; 0 for none."""
    return max((int(match[1]) + 1 for name in names if (match := re.match(pattern, name))), default=0)
