/* What all C files of the kernel share. Python calls them through ctypes (library.py); there is no Python.h.

   Rules: no state between calls, no allocation, no input or output: any number of threads may call at once.
   A caller passes the length of every array. What comes from a file (rows, words, values) is checked here;
   tables are checked once, by lc_rans_index. Integers, unsigned ones where they may wrap; in maps.c
   doubles that hold integers, below 2^53; and floats where nothing has to be exact, in float_convolution.c. */

#ifndef LATENTCODEC_KERNEL_H
#define LATENTCODEC_KERNEL_H

#include <stdint.h>

#if defined(__GNUC__)
#define LC_EXPORT __attribute__((visibility("default")))
#else
#define LC_EXPORT
#endif

/* Of all exported functions together: one more whenever an argument or a structure changes. library.py has
   the same number, and takes no library that has another. */
#define LC_ABI 2

LC_EXPORT int32_t lc_abi(void);

#endif
