#include "instructions.h"
#include "kernel.h"

/* The best set that this processor has. */
LC_EXPORT int32_t lc_instructions(void)
{
#if HAS_AVX2
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        return AVX2;
#endif
    return PORTABLE;
}
