"""The pictures that are measured, and what can be said of one before any codec sees it.

arrays      a picture as an array: Pixels, Floats; from Pillow and back
datasets    files on the disk ─► names, in order ─► arrays
regions     where a picture has the most detail, colour ...
synthetic, screens    pictures that are drawn here, each a pure function of its seed
"""
