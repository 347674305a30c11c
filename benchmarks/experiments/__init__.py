"""Experiments that go beyond a run: pictures at equal bytes, where the time goes, where the model fails.

comparison       pictures side by side
equal_bytes      a codec's best file of at most so many bytes
demo             one photograph, as a newcomer sees it
at_size, seed    pictures at one size in bytes
failures         delta rates and strips by kind of picture (failure_kinds)
speed, scaling   where the time goes; time and memory against the picture's size
networks         our networks beside diffusers'
latents          an autoencoder as a codec
"""
