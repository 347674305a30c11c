"""How near two pictures are: PSNR, MS-SSIM, SSIMULACRA 2, by numpy."""
