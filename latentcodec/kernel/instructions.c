#include "instructions.h"
#include "kernel.h"

/* The best set that this processor has. AVX2 came with FMA, which float_convolution.c takes for granted with it. */
LC_EXPORT int32_t lc_instructions(void)
{
#if HAS_AVX2
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return AVX2;
#endif
    return PORTABLE;
}
