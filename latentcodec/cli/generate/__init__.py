"""Pictures from text and pictures: latentcodec generate | img2img | inpaint | depth2img | upscale."""
